"""From the end of a trial to the first step of the next on its slot: warm workers against a fresh process a trial.

    python benchmarks/turn_round.py

Two searches of the synthetic set with one-epoch trials of mobilenet_v3_small at 96 px, as many at once as there are
cores: one as it is, one whose workers end after every trial. Goals: a warm median below 0.3 s, and a worker that holds
at most 5 % more at trial 100 than at trial 10. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ("--arch", "mobilenet_v3_small", "--image-size", "96", "--max-epochs", "1", "--range", "batch_size=32")
FRESH = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from ray import tune
from search.cli import main
warm = tune.TuneConfig
tune.TuneConfig = lambda **options: warm(**options | {"reuse_actors": False})
sys.exit(main(["search", *sys.argv[1:]]))
"""


def run_search(name: str, entry: list[str], num_trials: int, home: Path) -> dict[str, Any]:
    """One search; the pace in its result."""
    options = ["--name", name, "--home", str(home), "--num-trials", str(num_trials), *OPTIONS]
    subprocess.run([sys.executable, *entry, *options], check=True, stdout=sys.stderr)
    result = json.loads((home / "searches" / name / "result.json").read_text())
    assert result["num_trials"] == num_trials
    pace: dict[str, Any] = result["pace"]
    return pace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-warm", type=int, default=110, help="trials of the warm search")
    parser.add_argument("--num-fresh", type=int, default=12, help="trials of the search with fresh processes")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        warm = run_search("warm", [str(ROOT / "search/run.py")], args.num_warm, home)
        fresh = run_search("fresh", ["-c", FRESH, str(ROOT)], args.num_fresh, home)
    resident = warm["resident_mib"]
    early, late = (statistics.mean(resident[at - 5 : at + 5]) for at in (10, len(resident) - 10))
    turn_rounds = sorted(warm["turn_rounds_s"])
    line = {
        "benchmark": "turn_round",
        "warm_s": round(warm["turn_round_s"], 3),
        "warm_90_percent_s": round(turn_rounds[int(0.9 * len(turn_rounds))], 3),
        "fresh_s": round(fresh["turn_round_s"], 3),
        "ratio": round(fresh["turn_round_s"] / warm["turn_round_s"], 1),
        "resident_mib": [round(early), round(late)],
        "resident_growth": round(late / early - 1, 4),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
