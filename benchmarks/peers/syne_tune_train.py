# mypy: disable-error-code="import-not-found,import-untyped"
"""What Syne Tune's local backend runs once a trial: configuration in by options, results out by its Reporter.

It follows
https://github.com/syne-tune/syne-tune/blob/main/examples/training_scripts/height_example/train_height_simple.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script, its own folder comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from syne_tune import Reporter

from benchmarks.peers.training import Task, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = {"architecture": str, "optimizer": str, "learning_rate": float, "weight_decay": float}
    kinds |= {"batch_size": int, "augmentation": float}
    shared = {"images": Path, "image_size": int, "max_epochs": int, "form": str, "folder": Path}
    for name, kind in {**kinds, **shared}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    args, _ = parser.parse_known_args()
    report = Reporter()
    for metrics, _state in train({name: getattr(args, name) for name in kinds}, Task.from_arguments(args)):
        report(**metrics)


if __name__ == "__main__":
    main()
