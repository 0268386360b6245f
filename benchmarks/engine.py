"""The engines side by side: one list of configurations, in one order, through ours and through every peer.

    python benchmarks/engine.py [--out engine.json]
    python benchmarks/engine.py --only ours,ray-tutorial --num-configurations 3 --max-epochs 1 --num-patients 40

Thirty configurations (engine_configurations.json, drawn once at random from the ranges of peers/training.py, ten of
each of three architectures) at 96 px with ASHA at 1, 3 and 9 epochs, on the synthetic set, whose sealed test is
nobody's secret. Its files are stored at 96 px too: the least that a decoder can have to do.

Prints one JSON line. `to_last_epoch_s` runs from the command to the end of the last trial's last epoch and is what
ratios of `wall` compare; `wall_s` is the whole command, with the champion's sealed test, registration and report where
it is ours. `images_per_s` is that of the training loops, without validation. A ratio says how many times as fast as
the contender ours is. ASHA decides on noisy values and each library has its own rule, so each has its own number of
`epochs` an architecture; with `--max-epochs 1` all do the same work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.contenders import PEERS, Outcome, build_arena, make_manifest, read_contenders, run
from benchmarks.peers.training import REDUCTION_FACTOR
from mlflow_server.serve import ensure_server

CONFIGURATIONS = Path(__file__).with_name("engine_configurations.json")
RUNGS = ("--first-rung", "1", "--reduction-factor", str(REDUCTION_FACTOR))
SPACE = """CONFIGURATIONS = {configurations!r}


def space(trial):
    return {{**CONFIGURATIONS[trial.number % len(CONFIGURATIONS)], "lr_schedule": "constant"}}
"""


def describe(outcome: Outcome) -> dict[str, Any]:
    """A contender's figures."""
    speeds: dict[str, list[float]] = {}
    for epoch in outcome.epochs:
        speeds.setdefault(epoch.architecture, []).append(epoch.images_per_s)
    return {
        "to_last_epoch_s": round(outcome.epochs[-1].at_s, 1),
        "wall_s": round(outcome.wall_s, 1),
        "num_trials": sum(epoch.epoch == 1 for epoch in outcome.epochs),
        "epochs": dict(sorted(Counter(epoch.architecture for epoch in outcome.epochs).items())),
        "images_per_s": {
            architecture: round(statistics.harmonic_mean(speeds[architecture]), 1) for architecture in sorted(speeds)
        },
    }


def compare(ours: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """How many times as fast as another ours is: in wall time, and in its training loops by architecture."""
    architectures = {
        architecture: ours["images_per_s"][architecture] / speed
        for architecture, speed in other["images_per_s"].items()
    }
    return {
        name: round(ratio, 2)
        for name, ratio in {"wall": other["to_last_epoch_s"] / ours["to_last_epoch_s"], **architectures}.items()
    }


def run_all(home: Path, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each contender's figures."""
    configurations = json.loads(CONFIGURATIONS.read_text())[: args.num_configurations]
    data = make_manifest(home, args.num_patients)
    (home / "configurations.json").write_text(json.dumps(configurations))
    (home / "space.py").write_text(SPACE.format(configurations=configurations))
    num_trials = ["--num-trials", str(len(configurations))]
    figures = {}
    with ensure_server(home / "mlflow") as server:
        arena = build_arena(home, data, image_size=args.image_size, max_epochs=args.max_epochs, tracking_uri=server.uri)
        for contender in args.only:
            print(f"{contender} ...", file=sys.stderr, flush=True)
            outcome = run(
                contender,
                arena,
                contender,
                ours=[*num_trials, *RUNGS, "--space", str(home / "space.py")],
                peers=[*num_trials, "--configurations", str(home / "configurations.json")],
            )
            figures[contender] = describe(outcome)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=read_contenders, default=("ours", *PEERS), help="such as ours,ray-tutorial")
    parser.add_argument("--num-configurations", type=int, default=30, help="the first so many of the list")
    parser.add_argument("--max-epochs", type=int, default=9)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--num-patients", type=int, default=150, help="of the synthetic set, four slices each")
    parser.add_argument("--home", type=Path, help="a new folder, which stays (default: a temporary one)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctsearch-engine-", ignore_cleanup_errors=True) as scratch:
        figures = run_all((args.home or Path(scratch)).absolute(), args)
    result: dict[str, Any] = {"contenders": figures}
    if "ours" in figures:
        others = {name: figure for name, figure in figures.items() if name != "ours"}
        result["ratios"] = {name: compare(figures["ours"], figure) for name, figure in others.items()}
    print(json.dumps(result), flush=True)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
