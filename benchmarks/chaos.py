"""Faults really caused in a small real search of the synthetic set: what was caused, what was lost, what it cost.

    python benchmarks/chaos.py --quick --seed 1
    python benchmarks/chaos.py --only "storage gone" --only "mlflow.db damaged"
    python benchmarks/chaos.py --kills 100 --seed 1
    python benchmarks/chaos.py --goodput

A seeded choice of faults hits one search, one after another; whenever its driver is dead it is resumed. With `--kills`
the driver is killed with -9, at random moments of its start, of the search and of its end, in as many searches as it
takes. With `--goodput` a worker is killed every minute instead. One JSON line: `caused` counts the faults, `seconds` is
how long each took until the search went on, `lost` names what is missing afterwards (empty: nothing), `goodput` is the
share of the epochs paid for that count in the end, the rest being trained again or cut short, and `of_time` that of the
trials' paid time, in which also is what is set up before an epoch. The exit status is 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # the script's folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.chaos_faults import FAULTS, KILLS, cause_fault, kill_worker, list_faults
from benchmarks.chaos_losses import find_losses, find_server, measure_time_share
from benchmarks.chaos_search import Chaos, read_json, shown_on_error
from mlflow_server.serve import ensure_server

ODD_HOME = "home ä 100% #1"
"""Folders are called like this."""
BESIDE = "two searches in one home"


def cause_faults(home: Path, server: str, *, seed: int, faults: Sequence[str], num_trials: int) -> dict[str, Any]:
    """One search under these faults, in the order of a search's life."""
    chaos = Chaos(home, "chaos", num_trials=num_trials, max_epochs=9, seed=seed)
    with shown_on_error(chaos):
        for fault in sorted(faults, key=list(FAULTS).index):
            print(f"{fault} ...", file=sys.stderr, flush=True)
            if not cause_fault(chaos, fault) and chaos.phase == "ended":
                break
        chaos.finish()
        chaos.lost += find_losses(chaos, find_server(home, server), num_openings=1 + chaos.caused[BESIDE])
        return report([chaos]) | {"lost": chaos.lost, "of_time": round(measure_time_share(chaos), 3)}


def choose_faults(seed: int, number: int) -> list[str]:
    """All of them once before any comes twice."""
    import random

    chance, known = random.Random(seed), list_faults()
    chosen = chance.sample(known, min(number, len(known)))
    return chosen + chance.choices(known, k=number - len(chosen))


def kill_drivers(home: Path, server: str, *, seed: int, num_kills: int) -> dict[str, Any]:
    """Searches one after another whose drivers are killed at random moments, until there were so many kills."""
    searches = list[Chaos]()

    def count() -> int:
        return sum(sum(chaos.caused.values()) for chaos in searches)

    while count() < num_kills:
        chaos = Chaos(home, f"kills-{len(searches)}", num_trials=4, max_epochs=6, seed=seed + len(searches))
        searches.append(chaos)
        with shown_on_error(chaos):
            while count() < num_kills:
                fault = KILLS[-1] if chaos.phase == "concluding" else chaos.random.choice(KILLS[:2])
                if sum(chaos.caused.values()) > 12 or not cause_fault(chaos, fault):
                    break
            chaos.finish()
            chaos.lost += find_losses(chaos, find_server(home, server), num_openings=len(searches))
    lost = [what for chaos in searches for what in chaos.lost]
    return report(searches) | {"searches": len(searches), "lost": lost}


def kill_workers(home: Path, server: str, *, seed: int, every_s: float, num_trials: int) -> dict[str, Any]:
    """One search of which a worker is killed again and again, until its trials have ended."""
    options = ("--arch", "mobilenet_v3_small", "--image-size", "96", "--ensemble", "1")  # some seconds an epoch
    chaos = Chaos(home, "killed", num_trials=num_trials, max_epochs=60, seed=seed, options=options)
    num_repeated = 0
    with shown_on_error(chaos):
        chaos.wait_for_epochs(1)
        while is_searching_after(chaos, every_s):
            num_repeated += kill_and_count(chaos)
        chaos.finish()
        chaos.lost += find_losses(chaos, find_server(home, server))
    epochs = chaos.count_epochs()
    counts = {"epochs": epochs, "epochs_again": num_repeated, "goodput": round(epochs / (epochs + num_repeated), 3)}
    return report([chaos]) | {"lost": chaos.lost, **counts, "of_time": round(measure_time_share(chaos), 3)}


def is_searching_after(chaos: Chaos, seconds: float) -> bool:
    until_s = time.monotonic() + seconds
    chaos.wait(lambda: chaos.phase != "searching" or time.monotonic() > until_s)
    return chaos.phase == "searching"


def kill_and_count(chaos: Chaos) -> int:
    """Kill a worker. How many epochs its trial trains again: those after its newest checkpoint, and the last."""

    def read_victims() -> list[str]:
        return re.findall(r"trial +(\d+) lost its worker", chaos.log_file.read_text())

    num_before = len(read_victims())
    kill_worker(chaos)
    if not chaos.wait(lambda: len(read_victims()) > num_before or chaos.phase != "searching"):
        return 0
    if len(victims := read_victims()) == num_before:  # it had no trial
        return 0
    chaos.caused["worker killed"] += 1
    victim = int(victims[-1])
    newest = read_json(chaos.trials_folder / f"{victim:04d}" / "newest.json")
    epochs = {trial.number: len(trial.intermediate_values) for trial in chaos.trials()}
    return epochs[victim] - int(newest["facts"]["epoch"] if newest else 0) + 1


def report(searches: Sequence[Chaos]) -> dict[str, Any]:
    caused = sum((chaos.caused for chaos in searches), Counter[str]())
    seconds = {fault: [taken for chaos in searches for taken in chaos.seconds[fault]] for fault in caused}
    return {
        "caused": dict(caused),
        "seconds": {fault: round(statistics.median(taken), 1) for fault, taken in seconds.items() if taken},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="four faults in a search of ten trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, help="how many (default: 4 with --quick, else 20)")
    parser.add_argument("--only", action="append", choices=list(FAULTS), metavar="FAULT", help="these alone")
    parser.add_argument("--kills", type=int, help="instead: kill the driver so many times, in as many searches")
    parser.add_argument("--goodput", action="store_true", help="instead: kill a worker every minute")
    parser.add_argument("--every-s", type=float, default=60.0, help="with --goodput: so often (default: 60)")
    parser.add_argument("--num-trials", type=int, help="of the search (default: 10 with --quick, else 16)")
    args = parser.parse_args()
    began_s = time.monotonic()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    num_trials = args.num_trials or (10 if args.quick else 16)
    with tempfile.TemporaryDirectory(prefix="ctsearch-chaos-", ignore_cleanup_errors=True) as folder:
        (home := Path(folder) / ODD_HOME).mkdir()
        with ensure_server(home / "mlflow") as server:
            if args.kills:
                result = kill_drivers(home, server.uri, seed=args.seed, num_kills=args.kills)
            elif args.goodput:
                result = kill_workers(home, server.uri, seed=args.seed, every_s=args.every_s, num_trials=num_trials)
            else:
                faults = args.only or choose_faults(args.seed, args.faults or (4 if args.quick else 20))
                result = cause_faults(home, server.uri, seed=args.seed, faults=faults, num_trials=num_trials)
    print(json.dumps({"seed": args.seed, **result, "total_s": round(time.monotonic() - began_s)}))
    return 1 if result["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
