"""The searches side by side: each with its own searcher for the same wall time, several seeds.

    python benchmarks/search_quality.py --minutes 5 [--seeds 5] [--confirm 3] [--out search_quality.json]
    python benchmarks/search_quality.py --minutes 1 --seeds 1 --only ours,optuna-expert --max-epochs 3

All search the same three models and the ranges of peers/training.py, up to 9 epochs a trial: ours as the command does
it by default, and with freeze-thaw, its space narrowed to these (so it also draws what a tutorial has no word for, such
as learning-rate schedules), Ray Tune and Optuna with TPE and rungs at 1, 3 and 9 epochs, Syne Tune's ASHA at random. A
seed is the searcher's; the splits stay.

The time runs from the command, imports and start included; an epoch that ends later does not count. Prints one JSON
line a contender, with each seed's best validation AUC so far as (seconds, value), and a last line with median and range
over seeds after 25, 50, 75 and 100 % of the time, and how many epochs ours takes to a peer's last value, as a share of
those that the peer took to it (the median over seeds; null where that seed never reaches it). `--data` is the synthetic
set unless given: at its end ours opens the sealed test of whatever it searched on.

With `--confirm FOLDS` what led at each of these times is trained again in folds of patients (quality_confirmed.py): the
best of many noisy values flatters itself, and the more the more were asked for. What led ours is so after every
twelfth of the time: how many epochs it had trained when its median was at a peer's last, as a share of the peer's. With
`--home` what was run there before is read and not run again; it must have been asked for with the same data, time, size
and epochs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.contenders import (
    CONTENDERS,
    OURS,
    Arena,
    Epoch,
    build_arena,
    check_home,
    make_manifest,
    read_contenders,
    run,
)
from benchmarks.peers import training
from benchmarks.quality_confirmed import confirm, find_leader
from mlflow_server.serve import ensure_server

SHARES = (0.25, 0.5, 0.75, 1.0)
TWELFTHS = tuple(number / 12 for number in range(1, 13))
Curve = list[tuple[float, float]]
Searched = list[Epoch]


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


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Median and range over seeds."""
    return {"median": round(statistics.median(values), 4), "least": min(values), "most": max(values)}


def count_to(epochs: Sequence[Epoch], value: float, limit_s: float) -> int | None:
    """After how many epochs of all its trials together a search reached `value`; None where it never did."""
    values = [epoch.val_auc for epoch in epochs if epoch.at_s <= limit_s]
    return next((number for number, found in enumerate(values, 1) if found >= value), None)


def count_by(epochs: Searched, at_s: float) -> int:
    """How many epochs had ended by then."""
    return sum(epoch.at_s <= at_s for epoch in epochs)


def compare_epochs(ours: Sequence[Searched], peer: Sequence[Searched], limit_s: float) -> float | None:
    """Our epochs to the peer's last value as a share of the peer's own, the median over seeds."""
    shares = []
    for own, other in zip(ours, peer, strict=True):
        value = max((epoch.val_auc for epoch in other if epoch.at_s <= limit_s), default=0.5)
        taken, needed = count_to(own, value, limit_s), count_to(other, value, limit_s)
        shares.append(taken / needed if taken and needed else 0.0 if taken else math.inf)
    found = statistics.median(shares)
    return round(found, 2) if found < math.inf else None


def compare_confirmed(
    ours: Sequence[Searched], peer: Sequence[Searched], own: dict[str, Any], others: dict[str, Any], limit_s: float
) -> float | None:
    """Our epochs by the first twelfth of the time at which our median is at the peer's last, as a share of all that the
    peer trained; None where it never is. `own` and `others` are what is confirmed, by share."""
    for share in TWELFTHS:
        if own[f"{share:.0%}"]["median"] >= others["100%"]["median"]:
            taken = statistics.median(count_by(epochs, share * limit_s) for epochs in ours)
            return round(taken / statistics.median(count_by(epochs, limit_s) for epochs in peer), 2)
    return None


def confirm_all(outcomes: dict[str, list[Searched]], arena: Arena, args: argparse.Namespace) -> dict[str, Any]:
    """By contender and share of the time, what led then is worth in folds: median, range and each seed's."""
    asked = [
        (contender, share, find_leader(contender, searched, 60 * args.minutes * share, arena))
        for contender, searches in outcomes.items()
        for searched in searches
        for share in (TWELFTHS if contender in OURS else SHARES)
    ]
    values = iter(confirm([(name, leader) for name, _, leader in asked if leader], arena, args.confirm))
    found: dict[str, Any] = {}
    for contender, share, leader in asked:
        by_share = found.setdefault(contender, {}).setdefault(f"{share:.0%}", {"seeds": []})
        by_share["seeds"].append(next(values) if leader else 0.5)
    for by_share in found.values():
        for line in by_share.values():
            line |= summarise(line["seeds"])
    return found


def run_all(home: Path, args: argparse.Namespace) -> tuple[dict[str, list[Searched]], dict[str, Any]]:
    """Each contender's epochs, one list a seed, and what is confirmed of them."""
    check_home(home, data=args.data, minutes=args.minutes, image_size=args.image_size, max_epochs=args.max_epochs)
    data = args.data.absolute() if args.data else make_manifest(home)
    outcomes: dict[str, list[Searched]] = {contender: [] for contender in args.only}
    with ensure_server(home / "mlflow") as server:
        arena = build_arena(home, data, image_size=args.image_size, max_epochs=args.max_epochs, tracking_uri=server.uri)
        for seed in range(args.seeds):  # in turns, so that a busy hour hits all alike
            for contender in args.only:
                print(f"{contender}, seed {seed} ...", file=sys.stderr, flush=True)
                outcome = run(
                    contender,
                    arena,
                    f"{contender}-{seed}",
                    ours=[*narrow_space(), "--time-budget", f"{60 * args.minutes:g}s", "--seed", str(seed)],
                    peers=["--minutes", str(args.minutes), "--seed", str(seed)],
                )
                outcomes[contender].append(outcome.epochs)
    return outcomes, confirm_all(outcomes, arena, args) if args.confirm else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of every search")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--only", type=read_contenders, default=CONTENDERS, help="such as ours,ray-tutorial")
    parser.add_argument("--confirm", type=int, default=0, metavar="FOLDS", help="train again what led (default: 0)")
    parser.add_argument("--data", type=Path, help="manifest with train, val and test (default: the synthetic set's)")
    parser.add_argument("--max-epochs", type=int, default=9)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--home", type=Path, help="a folder that stays (default: a temporary one)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctsearch-quality-", ignore_cleanup_errors=True) as scratch:
        outcomes, confirmed = run_all((args.home or Path(scratch)).absolute(), args)
    limit_s = 60 * args.minutes
    curves = {name: [trace_best(epochs, limit_s) for epochs in searches] for name, searches in outcomes.items()}
    for contender, traced in curves.items():
        num_epochs = [count_by(epochs, limit_s) for epochs in outcomes[contender]]
        print(json.dumps({"contender": contender, "num_epochs": num_epochs, "curves": traced}), flush=True)
    pairs = [(own, peer) for own in outcomes if own in OURS for peer in outcomes if peer not in OURS]
    result = {
        "minutes": args.minutes,
        "best_val_auc": {
            name: {f"{share:.0%}": summarise([read_at(curve, share * limit_s) for curve in traced]) for share in SHARES}
            for name, traced in curves.items()
        },
        "epochs_to_last": {
            f"{own} to {peer}": compare_epochs(outcomes[own], outcomes[peer], limit_s) for own, peer in pairs
        },
        "confirmed_auc": confirmed,
        "epochs_to_last_confirmed": {
            f"{own} to {peer}": compare_confirmed(
                outcomes[own], outcomes[peer], confirmed[own], confirmed[peer], limit_s
            )
            for own, peer in pairs
            if confirmed
        },
    }
    print(json.dumps(result), flush=True)
    if args.out:
        args.out.write_text(json.dumps({"curves": curves, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
