"""The main job on real slices: searches of COVID-CT with and without pretrained weights, beside random search.

    python benchmarks/covid_ct.py --data ../shared/data [--out covid_ct.json]

Twelve searches: three seeds of TPE with ASHA and of random search with ASHA, each without and with the given
weights, each pair with the same budget. Every search opens its sealed test once, for its champion, when it ends;
nothing here chooses between searches. Prints one JSON line a search and a table of means and spreads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2)
SHARED = (
    *("--image-size", "128", "--range", "batch_size=8,16,32,64", "--range", "momentum=0.5:0.99"),
    *("--range", "weight_decay=1e-6:1e-1"),
)
"""The space is the one in which the README's table was measured: what the default space draws beside it is fixed."""
FROM_SCRATCH = (
    *("--num-trials", "20", "--arch", "small_cnn,mobilenet_v3_small"),
    *("--max-epochs", "18", "--first-rung", "3"),
    *("--range", "cnn_filters=8:16", "--range", "cnn_kernel=3", "--range", "cnn_norm=true"),
)
PRETRAINED = (
    *("--num-trials", "28", "--arch", "mobilenet_v2,squeezenet1_1"),
    *("--max-epochs", "12", "--first-rung", "3"),
    *("--range", "unfreezing=all", "--range", "layer_lr_decay=1", "--range", "pooling=avg", "--range", "head_depth=0"),
)


def list_searches(data: Path) -> list[tuple[str, list[str]]]:
    """Name and options of each search."""
    weights = [
        *("--weights", f"mobilenet_v2={data / 'weights/mobilenet_v2-fp16.pth'}"),
        *("--weights", f"squeezenet1_1={data / 'weights/squeezenet1_1-features.pth'}"),
    ]
    return [
        (f"{start}-{sampler}-{seed}", [*options, *SHARED, "--sampler", sampler, "--seed", str(seed)])
        for start, options in (("pretrained", [*PRETRAINED, *weights]), ("scratch", [*FROM_SCRATCH]))
        for seed in SEEDS
        for sampler in ("tpe", "random")
    ]


def run_search(name: str, options: list[str], data: Path, home: Path) -> dict[str, Any]:
    """Run one search, or read it where an earlier call has run it; its figures."""
    folder = home / "searches" / name
    if not (folder / "result.json").exists():
        manifest = str(data / "covid-ct/manifest.csv")
        command = [sys.executable, str(ROOT / "search/run.py"), "--data", manifest, "--home", str(home)]
        subprocess.run([*command, "--name", name, "--model-name", f"covid-ct-{name}", *options], check=True)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    spent = json.loads((folder / "spent.json").read_text())
    return {"search": name, "minutes": round(spent["wall_s"] / 60, 1), **result}


def describe(values: list[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds covid-ct/ and weights/")
    parser.add_argument("--home", type=Path, default=Path("covid-ct-home"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    home = args.home.absolute()
    figures: dict[str, list[dict[str, Any]]] = {}
    for name, options in list_searches(args.data.absolute()):
        result = run_search(name, options, args.data.absolute(), home)
        print(json.dumps(result), flush=True)
        figures.setdefault(name.rsplit("-", 1)[0], []).append(result)
    print("| search | validation AUC | test AUC | test accuracy | trials | at the last rung | minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, results in figures.items():
        columns = [describe([r[key] for r in results]) for key in ("validation_value", "test_auc", "test_accuracy")]
        counts = [
            f"{min(r[k] for r in results)} to {max(r[k] for r in results)}" for k in ("num_trials", "num_last_rung")
        ]
        minutes = describe([r["minutes"] for r in results])
        print(f"| {name} | {' | '.join(columns)} | {' | '.join(counts)} | {minutes} |")
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
