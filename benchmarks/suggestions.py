"""What a suggestion costs: CPU of a draw of the default space after many trials, beside Optuna's own group TPE.

    python benchmarks/suggestions.py [--trials 1000,5000] [--draws 40] [--seed 0]

A study of so many ended trials at the rungs of a search, five architectures, values at random; nothing is trained. Ours
is the class that a search uses, and its journal; the other is `TPESampler(multivariate=True, group=True)` on the same
trials. Prints one JSON line for each number of trials: the median and the largest CPU milliseconds of a draw.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from search.core.space import DefaultSpace
from search.engine.study import Study
from trainable.report import Direction

SPACE = DefaultSpace(("small_cnn", "mobilenet_v3_small", "mobilenet_v2", "squeezenet1_1", "resnet18"))
RUNGS = (1, 3, 9, 27)


def make_trials(num: int, seed: int) -> list[FrozenTrial]:
    """Trials that have ended: two thirds of those at a rung have come no farther."""
    rng = np.random.default_rng(seed)
    drawing = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=seed))
    made = []
    for _ in range(num):
        trial = drawing.ask()
        SPACE(trial)
        rung = RUNGS[min(len(RUNGS), int(rng.geometric(2 / 3))) - 1]
        values = {epoch: float(rng.uniform()) for epoch in range(1, rung + 1)}
        is_whole = rung == RUNGS[-1]
        made.append(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if is_whole else TrialState.PRUNED,
                value=values[rung] if is_whole else None,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values=values,
                user_attrs={"params": "{}"},
            )
        )
    return made


def time_draws(draw: Callable[[], object], num: int) -> dict[str, float]:
    """CPU milliseconds of a draw, after three that warm up."""
    found = []
    for _ in range(3 + num):
        began_s = time.process_time()
        draw()
        found.append(1000 * (time.process_time() - began_s))
    return {"median_ms": round(statistics.median(found[3:]), 1), "most_ms": round(max(found[3:]), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", default="1000,5000")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for num in map(int, args.trials.split(",")):
        made = make_trials(num, args.seed)
        with tempfile.TemporaryDirectory() as folder:
            study = Study(Path(folder) / "journal", sampler="tpe", seed=args.seed, direction=Direction.MAXIMIZE)
            study.study.add_trials(made)
            own = time_draws(lambda study=study: study.begin(SPACE), args.draws)  # type: ignore[misc]
        sampler = optuna.samplers.TPESampler(seed=args.seed, multivariate=True, group=True, constant_liar=True)
        plain = optuna.create_study(direction="maximize", sampler=sampler)
        plain.add_trials(made)
        other = time_draws(lambda plain=plain: SPACE(plain.ask()), args.draws)  # type: ignore[misc]
        ratio = round(other["median_ms"] / own["median_ms"], 1)
        print(json.dumps({"trials": num, "ctsearch": own, "optuna": other, "ratio": ratio}), flush=True)


if __name__ == "__main__":
    main()
