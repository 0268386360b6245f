"""From the end of a trial to the first step of the next on its slot: warm workers against a fresh process a trial.

And from where a trial pauses to the first step of another one, paused before, that goes on in its place.

    python benchmarks/turn_round.py

Two searches of the synthetic set with one-epoch trials of mobilenet_v3_small at 96 px, as many at once as there are
cores: one as it is, one whose workers end after every trial; and one of nine-epoch trials by promotion. Goals: a warm
median below 0.3 s, a resume below 0.5 s, and a worker that holds at most 5 % more at trial 100 than at trial 10. Prints
one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ("--arch", "mobilenet_v3_small", "--image-size", "96", "--range", "batch_size=32")
ONE_EPOCH, PAUSING = ("--max-epochs", "1"), ("--max-epochs", "9", "--scheduler", "promotion")
FRESH = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from ray import tune
from search.cli import main
warm = tune.TuneConfig
tune.TuneConfig = lambda **options: warm(**options | {"reuse_actors": False})
sys.exit(main(["search", *sys.argv[1:]]))
"""


def run_search(
    name: str, entry: list[str], num_trials: int, home: Path, options: Sequence[str] = ONE_EPOCH
) -> dict[str, Any]:
    """One search; the pace in its result."""
    options = ["--name", name, "--home", str(home), "--num-trials", str(num_trials), *OPTIONS, *options]
    subprocess.run([sys.executable, *entry, *options], check=True, stdout=sys.stderr)
    result = json.loads((home / "searches" / name / "result.json").read_text())
    assert result["num_trials"] == num_trials
    pace: dict[str, Any] = result["pace"]
    return pace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-warm", type=int, default=110, help="trials of the warm search")
    parser.add_argument("--num-fresh", type=int, default=12, help="trials of the search with fresh processes")
    parser.add_argument("--num-pausing", type=int, default=30, help="trials of the search by promotion")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        warm = run_search("warm", [str(ROOT / "search/run.py")], args.num_warm, home)
        pausing = run_search("pausing", [str(ROOT / "search/run.py")], args.num_pausing, home, PAUSING)
        fresh = run_search("fresh", ["-c", FRESH, str(ROOT)], args.num_fresh, home)
    resident = warm["resident_mib"]
    early, late = (statistics.mean(resident[at - 5 : at + 5]) for at in (10, len(resident) - 10))
    turn_rounds = sorted(warm["turn_rounds_s"])
    line = {
        "benchmark": "turn_round",
        "warm_s": round(warm["turn_round_s"], 3),
        "warm_90_percent_s": round(turn_rounds[int(0.9 * len(turn_rounds))], 3),
        "resume_s": round(pausing["resume_s"], 3),
        "resume_90_percent_s": round(sorted(pausing["resumes_s"])[int(0.9 * len(pausing["resumes_s"]))], 3),
        "num_resumes": len(pausing["resumes_s"]),
        "fresh_s": round(fresh["turn_round_s"], 3),
        "ratio": round(fresh["turn_round_s"] / warm["turn_round_s"], 1),
        "resident_mib": [round(early), round(late)],
        "resident_growth": round(late / early - 1, 4),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
