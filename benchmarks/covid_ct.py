"""The main job on real slices: searches of COVID-CT, beside random search and beside one untuned training.

    python benchmarks/covid_ct.py --data ../shared/data [--minutes 10] [--seeds 5] [--only search,long] [--out FILE]

Every seed runs searches of the same wall time, each with the given weights, one after another: `search` as the command
does it by default, `random` with draws in place of the sampler and the same finish, and one trial of mobilenet_v2 by
the first point of every search, at 160 px: `untuned` of 12 epochs, which take a fifth of ten minutes, and `long` of as
many as nearly fill the time. Each opens its sealed test once, for its champion, when it ends; nothing here chooses
between them. `single_test_auc` stands beside a champion that is more than one trial: the
best of the same trials alone, which was the champion before, by the same test, scored when everything is over and
handed to nobody.
With `--recut` train and val are cut anew by patient, another cut for every seed, and a fifth of their patients stands
for the test: the published one is not read, so that what is compared may be chosen. `--also NAME="OPTIONS"` runs a
further search of each seed with these options beside the default ones.

Prints one JSON line a search, then a summary: means and ranges of test AUC, by how much validation flatters it, and the
champion's gain over the single trial with a 95 % interval over seeds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from search.core.config import SearchConfig
from search.core.folder import SearchFolder, view_search
from search.core.ledger import Ledger
from search.engine.study_file import read_study
from trainable.checkpoint import CheckpointStore
from trainable.config import TrialSettings
from trainable.images.prepare import open_sealed_test
from trainable.metrics import score
from trainable.served_model import predict, rebuild_model
from trainable.task import locate_trial

ROOT = Path(__file__).resolve().parents[1]
UNTUNED = (
    *("--arch", "mobilenet_v2", "--image-size", "160", "--num-trials", "1", "--trial-cpus", "2"),
    *("--ensemble", "1", "--confirm", "0", "--scheduler", "asha"),
)
"""One configuration, which is the first point of every search with these weights; both cores train it."""


def list_searches(data: Path, seed: int, minutes: float, also: Sequence[str] = ()) -> list[tuple[str, list[str]]]:
    """Name and options of each search of a seed; `also` are further ones."""
    first = ("--weights", f"mobilenet_v2={data / 'weights/mobilenet_v2-fp16.pth'}")
    second = ("--weights", f"squeezenet1_1={data / 'weights/squeezenet1_1-features.pth'}")
    shared = ["--seed", str(seed), "--time-budget", f"{minutes:g}m"]
    both = [*shared, *first, *second, "--arch", "mobilenet_v2,squeezenet1_1"]
    return [
        (f"search-{seed}", both),
        (f"random-{seed}", [*both, "--sampler", "random"]),
        (f"untuned-{seed}", [*shared, *first, *UNTUNED, "--max-epochs", "12"]),
        (f"long-{seed}", [*shared, *first, *UNTUNED, "--max-epochs", f"{5 * minutes:.0f}"]),
        *((f"{name}-{seed}", [*both, *shlex.split(more)]) for name, _, more in (text.partition("=") for text in also)),
    ]


def write_cut(manifest: Path, seed: int, folder: Path) -> Path:
    """A manifest of train and val alone, cut anew by patient: 60 % train, 20 % val, 20 % in the place of the test.

    It lies in `folder` beside copies of these images, since a manifest names nothing outside of its folder.
    """
    rows = pd.read_csv(manifest)
    rows = rows[rows["split"] != "test"]
    rng = np.random.default_rng([seed, 2])
    split: dict[str, str] = {}
    for _, patients in rows.groupby("label")["patient"].unique().items():
        shuffled = rng.permutation(sorted(patients))
        fifth = len(shuffled) // 5
        split |= dict.fromkeys(shuffled[:fifth], "test")
        split |= dict.fromkeys(shuffled[fifth : 2 * fifth], "val")
    rows["split"] = [split.get(patient, "train") for patient in rows["patient"]]
    for path in rows["path"]:
        if not (folder / path).exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(manifest.parent / path, folder / path)
    rows.to_csv(folder / f"cut-{seed}.csv", index=False)
    return folder / f"cut-{seed}.csv"


def run_search(name: str, options: Sequence[str], manifest: Path, home: Path) -> dict[str, Any]:
    """Run one search, or read it where an earlier call has run it; its figures."""
    folder = home / "searches" / name
    if not (folder / "result.json").exists():
        command = [sys.executable, str(ROOT / "search/run.py"), "--data", str(manifest), "--home", str(home)]
        subprocess.run([*command, "--name", name, "--model-name", f"covid-ct-{name}", *options], check=True)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    spent = json.loads((folder / "spent.json").read_text())
    is_trial = len(result["members"]) == 1 and not result["num_folds"]
    alone = result["test_auc"] if is_trial else score_single(view_search(home, name))
    return {"search": name, "minutes": round(spent["wall_s"] / 60, 1), "single_test_auc": alone, **result}


def score_single(folder: SearchFolder) -> float:
    """Test AUC of the best trial by itself."""
    record = folder.read_record()
    config = SearchConfig.from_record(record["config"])
    ledger = Ledger()
    read_study(folder.journal_file, ledger)
    best = ledger.ranked()[0]
    loaded = CheckpointStore(locate_trial(str(folder.trials), best.number)).load("best")
    assert loaded is not None, "the best checkpoint of all stays"
    state, facts = loaded
    sealed = open_sealed_test(
        folder.splits_file, cache_dir=folder.cache, image_size=facts["image_size"], form=config.form
    )
    settings = TrialSettings(
        classes=tuple(facts["classes"]), positive=0, image_size=facts["image_size"], max_epochs=1, form=config.form
    )
    probabilities = predict(rebuild_model(best.params, settings, state), sealed.pixels, sealed.labels)[1]
    return score(sealed.labels, probabilities, 0)["auc"]


def describe(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def describe_difference(differences: Sequence[float]) -> str:
    """Mean and 95 % interval by Student's t."""
    if len(differences) < 2:
        return f"{differences[0]:+.3f}"
    half = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    mean = statistics.mean(differences)
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds covid-ct/ and weights/")
    parser.add_argument("--home", type=Path, default=Path("covid-ct-home"), help="searches that are there are read")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="search,random,untuned,long", help="the kinds of search that are run")
    parser.add_argument("--recut", action="store_true", help="cut train and val anew; the published test is not read")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=OPTIONS")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    home, data = args.home.absolute(), args.data.absolute()
    kinds = [*args.only.split(","), *(text.partition("=")[0] for text in args.also)]
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in range(args.seeds):
        manifest = data / "covid-ct/manifest.csv"
        if args.recut:
            manifest = write_cut(manifest, seed, home / "recut")
        for name, options in list_searches(data, seed, args.minutes, args.also):
            if name.rpartition("-")[0] not in kinds:
                continue
            result = run_search(name, options, manifest, home)
            print(json.dumps(result), flush=True)
            found.setdefault(name.rpartition("-")[0], []).append(result)
    for kind, results in found.items():
        tests = [result["test_auc"] for result in results]
        flattered = [result["validation_value"] - result["test_auc"] for result in results]
        gains = [result["test_auc"] - result["single_test_auc"] for result in results]
        print(f"{kind:8s} test AUC {describe(tests)}, validation above it by {np.mean(flattered):+.3f}", end="")
        print(f", over its best trial alone {describe_difference(gains)}" if any(gains) else "")
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
