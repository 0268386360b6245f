"""The searches side by side: each with its own searcher for the same wall time, several seeds.

    python benchmarks/search_quality.py --minutes 5 [--seeds 5] [--out search_quality.json]
    python benchmarks/search_quality.py --minutes 1 --seeds 1 --only ours,optuna-expert --max-epochs 3

All search the same three models and the ranges of peers/training.py with ASHA at 1, 3 and 9 epochs: ours its default
space, narrowed to them on the command line (so it also draws what a tutorial has no word for, such as learning-rate
schedules), Ray Tune and Optuna with TPE, Syne Tune's ASHA at random. A seed is the searcher's; the splits stay.

The time runs from the command, imports and start included; an epoch that ends later does not count. Prints one JSON
line a contender, with each seed's best validation AUC so far as (seconds, value), and a last line with mean and range
over seeds after 25, 50, 75 and 100 % of the time. `--data` is the synthetic set unless given: at its end ours opens the
sealed test of whatever it searched on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.contenders import CONTENDERS, Epoch, build_arena, make_manifest, read_contenders, run
from benchmarks.peers import training
from mlflow_server.serve import ensure_server

SHARES = (0.25, 0.5, 0.75, 1.0)
Curve = list[tuple[float, float]]


def narrow_space() -> list[str]:
    """The peers' space as options of ours."""
    ranges = {
        "learning_rate": "{}:{}".format(*training.LEARNING_RATES),
        "weight_decay": "{}:{}".format(*training.WEIGHT_DECAYS),
        "optimizer": ",".join(training.OPTIMIZERS),
        "batch_size": ",".join(map(str, training.BATCH_SIZES)),
        "augmentation": ",".join(map(str, training.AUGMENTATIONS)),
    }
    options = ["--arch", ",".join(training.ARCHITECTURES)]
    for name, values in ranges.items():
        options += ["--range", f"{name}={values}"]
    return options


def trace_best(epochs: Sequence[Epoch], limit_s: float) -> Curve:
    """When the best value so far rose, and to what."""
    curve: Curve = []
    for epoch in epochs:
        if epoch.at_s <= limit_s and (not curve or epoch.val_auc > curve[-1][1]):
            curve.append((round(epoch.at_s, 1), round(epoch.val_auc, 4)))
    return curve


def read_at(curve: Curve, at_s: float) -> float:
    """The best value by then; 0.5, what chance gives, before the first."""
    return max((value for seconds, value in curve if seconds <= at_s), default=0.5)


def summarise(curves: Sequence[Curve], limit_s: float) -> dict[str, dict[str, float]]:
    """Mean and range over seeds after each share of the time."""
    summary = {}
    for share in SHARES:
        values = [read_at(curve, share * limit_s) for curve in curves]
        summary[f"{share:.0%}"] = {
            "mean": round(statistics.mean(values), 4),
            "least": min(values),
            "most": max(values),
        }
    return summary


def run_all(home: Path, args: argparse.Namespace) -> dict[str, list[Curve]]:
    """Each contender's curves, one a seed."""
    data = args.data.absolute() if args.data else make_manifest(home)
    limit_s = 60 * args.minutes
    curves: dict[str, list[Curve]] = {contender: [] for contender in args.only}
    with ensure_server(home / "mlflow") as server:
        arena = build_arena(home, data, image_size=args.image_size, max_epochs=args.max_epochs, tracking_uri=server.uri)
        for seed in range(args.seeds):  # in turns, so that a busy hour hits all alike
            for contender in args.only:
                print(f"{contender}, seed {seed} ...", file=sys.stderr, flush=True)
                outcome = run(
                    contender,
                    arena,
                    f"{contender}-{seed}",
                    ours=[*narrow_space(), "--time-budget", f"{limit_s:g}s", "--seed", str(seed)],
                    peers=["--minutes", str(args.minutes), "--seed", str(seed)],
                )
                curves[contender].append(trace_best(outcome.epochs, limit_s))
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of every search")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--only", type=read_contenders, default=CONTENDERS, help="such as ours,ray-tutorial")
    parser.add_argument("--data", type=Path, help="manifest with train, val and test (default: the synthetic set's)")
    parser.add_argument("--max-epochs", type=int, default=9)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--home", type=Path, help="a new folder, which stays (default: a temporary one)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctsearch-quality-", ignore_cleanup_errors=True) as scratch:
        curves = run_all((args.home or Path(scratch)).absolute(), args)
    for contender, traced in curves.items():
        print(json.dumps({"contender": contender, "curves": traced}), flush=True)
    summary = {contender: summarise(traced, 60 * args.minutes) for contender, traced in curves.items()}
    print(json.dumps({"minutes": args.minutes, "best_val_auc": summary}), flush=True)
    if args.out:
        args.out.write_text(json.dumps({"curves": curves, "best_val_auc": summary}, indent=1) + "\n")


if __name__ == "__main__":
    main()
