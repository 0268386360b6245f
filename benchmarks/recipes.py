"""The recipes on real slices: each trained on COVID-CT's published split, beside what its project reported.

    python benchmarks/recipes.py --data ../shared/data [--home recipes-home] [--share 0.5] [--only ROW]

Each recipe goes through `ctsearch train` at 96 px for `--share` of its epochs, at least 10; its stages are fractions
of them. There are no weights for ResNet and VGG here: those rows are from scratch. The frozen and the staged recipe are
trained once more with mobilenet_v2 and its given weights. Every training opens the sealed test once, when it ends;
nothing here chooses between them. Each row goes to HOME/recipes.jsonl as soon as it is known: called again, this
goes on with the rows that are missing there. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script, benchmarks/ comes first on the path: the root must
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from trainable.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
LEAST_EPOCHS = 10
SHOWN = ("accuracy", "sensitivity", "specificity", "auc")


@dataclass(frozen=True)
class Training:
    """One row: a recipe, or its stages with another architecture that has weights here."""

    recipe: str
    architecture: str | None = None
    weights: str | None = None

    @property
    def name(self) -> str:
        return self.recipe if self.architecture is None else f"{self.recipe}-{self.architecture}"


TRAININGS = (
    *(Training(name) for name in ("cnn-rmsprop", "resnet50-frozen")),
    Training("resnet50-frozen", "mobilenet_v2", "mobilenet_v2-fp16.pth"),
    Training("resnet50-finetune"),
    Training("resnet50-finetune", "mobilenet_v2", "mobilenet_v2-fp16.pth"),
    *(Training(name) for name in ("resnet50-split-702010", "vgg16-covidct", "resnet152-pretrained")),
)


def train(training: Training, *, data: Path, home: Path, share: float, image_size: int) -> dict[str, Any] | None:
    """Train one row, or read it where an earlier call died after it; None where that died with the sealed test open."""
    folder = home / "searches" / training.name
    began_s = time.time()
    if not (folder / "result.json").exists():
        if (folder / "sealed_test.json").exists():
            return None
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was cut short, its test still sealed
        all_epochs = RECIPES[training.recipe].max_epochs
        epochs = min(all_epochs, max(LEAST_EPOCHS, math.ceil(share * all_epochs)))
        command = [sys.executable, "-m", "search.cli", "train", "--recipe", training.recipe, "--name", training.name]
        command += ["--data", str(data / "covid-ct/manifest.csv"), "--positive", "COVID", "--home", str(home)]
        command += ["--image-size", str(image_size), "--max-epochs", str(epochs)]
        command += ["--model-name", f"recipe-{training.name}"]
        if training.architecture:
            command += ["--arch", training.architecture]
            command += ["--weights", f"{training.architecture}={data / 'weights' / str(training.weights)}"]
        subprocess.run(command, check=True, cwd=ROOT)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    row = {"training": training.name, "weights": training.weights, "minutes": round((time.time() - began_s) / 60, 1)}
    return {**row, **result}


def describe_interval(row: Mapping[str, Any], name: str) -> str:
    return f"{row[f'test_{name}']:.3f} ({row[f'test_{name}_low']:.3f} to {row[f'test_{name}_high']:.3f})"


def print_table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Every row that is known, with what the recipe's project reported on its own test."""
    heads = ("recipe", "weights", "epochs", "validation AUC", *(f"test {name}" for name in SHOWN), "reported", "min")
    print("| " + " | ".join(heads) + " |\n" + "|" + " --- |" * len(heads))
    for training in TRAININGS:
        if (row := rows.get(training.name)) is None:
            continue
        recipe = RECIPES[training.recipe]
        epochs = f"{row['num_epochs']} of {recipe.max_epochs}"
        reported = ", ".join(f"{name} {recipe.reported[name]:.3f}" for name in SHOWN if name in recipe.reported)
        cells = [
            training.recipe + (f" with {training.architecture}" if training.architecture else ""),
            "ImageNet" if training.weights else "from scratch",
            epochs,
            f"{row['validation_value']:.3f}",
            *(describe_interval(row, name) for name in SHOWN),
            reported if training.architecture is None and reported else "-",
            f"{row['minutes']:.1f}",
        ]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds covid-ct/ and weights/")
    parser.add_argument("--home", type=Path, default=Path("recipes-home"))
    parser.add_argument("--share", type=float, default=0.5, help="of each recipe's epochs (default: 0.5)")
    parser.add_argument("--image-size", type=int, default=96, metavar="PIXELS")
    parser.add_argument("--only", choices=[training.name for training in TRAININGS], help="this row alone")
    args = parser.parse_args()
    data, home = args.data.absolute(), args.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    file = home / "recipes.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    rows = {row["training"]: row for row in map(json.loads, lines)}
    for training in TRAININGS:
        if training.name in rows or args.only not in (None, training.name):
            continue
        row = train(training, data=data, home=home, share=args.share, image_size=args.image_size)
        if row is None:
            print(f"{training.name}: left out, an earlier call ended while its sealed test was open", flush=True)
            continue
        rows[training.name] = row
        with file.open("a") as out:
            out.write(json.dumps(row) + "\n")
    print_table(rows)


if __name__ == "__main__":
    main()
