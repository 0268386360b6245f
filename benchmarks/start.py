"""From the command to the first training step, with an MLflow server up and with one that must start.

    python benchmarks/start.py

Runs the default search of the synthetic set several times each way, one trial each, after one that fills the file
cache. Goals: 10 s with MLflow up and 15 s where it must start, as medians. Prints one JSON line with the medians of
every part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mlflow_server.serve import IDLE_S, ensure_server

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ("--arch", "mobilenet_v3_small", "--image-size", "96", "--max-epochs", "1", "--num-trials", "1")


def start_search(name: str, home: Path) -> dict[str, Any]:
    """One search; the pace in its result."""
    command = [sys.executable, str(ROOT / "search/run.py"), "--name", name, "--home", str(home), *OPTIONS]
    subprocess.run([*command, "--timings"], check=True, stdout=sys.stderr)
    pace: dict[str, Any] = json.loads((home / "searches" / name / "result.json").read_text())["pace"]
    return pace


def describe(paces: list[dict[str, Any]]) -> dict[str, Any]:
    starts = [pace["start_s"] for pace in paces]
    parts = {name for pace in paces for name in pace["start_parts_s"]}
    medians = {name: statistics.median(pace["start_parts_s"].get(name, 0.0) for pace in paces) for name in parts}
    return {
        "median_s": round(statistics.median(starts), 2),
        "range_s": [round(min(starts), 2), round(max(starts), 2)],
        "parts_s": {name: round(medians[name], 2) for name in sorted(parts, key=lambda name: -medians[name])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        start_search("fill-the-caches", home)
        without = []
        for number in range(args.num_runs):
            time.sleep(3 * IDLE_S)  # for the last search's server to end
            without.append(start_search(f"without-{number}", home))
        with ensure_server(home / "mlflow"):
            with_server = [start_search(f"with-{number}", home) for number in range(args.num_runs)]
    print(json.dumps({"benchmark": "start", "mlflow_up": describe(with_server), "mlflow_starts": describe(without)}))


if __name__ == "__main__":
    main()
