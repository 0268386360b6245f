"""How often 95 % intervals hold the truth, by simulation: AUC, shares and every other metric of the scorecard.

    python benchmarks/coverage.py           # one JSON line a case, then the summary
    python benchmarks/coverage.py --quick   # AUC and shares alone, fewer sets; the summary alone

Patients have 1 to many slices (geometric, 4 in the mean). A slice's score is its class plus a normal part of its
patient and one of its own; a share's slices are right with a patient's own probability (beta-binomial). Half of the
patients are positive, or a fifth. Goal: 93 to 97 %, or above where there are fewer than 20 patients.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special, stats

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trainable.intervals import Interval, auc_interval, share_interval  # noqa: E402
from trainable.metrics import score_weighted  # noqa: E402
from trainable.probability_metrics import score_probabilities  # noqa: E402
from trainable.scorecard import measure  # noqa: E402

MEAN_SLICES = 4
OTHERS = (
    "average_precision",
    "brier",
    "calibration_error",
    "calibration_slope",
    "f1",
    "balanced_accuracy",
    "net_benefit",
)
FEW_PATIENTS = 20
NUM_TRUTH = 400_000  # patients with one slice each, for the true values that have no formula


@dataclass(frozen=True, kw_only=True)
class Case:
    """One population and one number of patients. `truth` is the true AUC, or the true share."""

    metric: str  # "auc", "share", or "others": all of OTHERS, of a model with this AUC
    truth: float
    num_patients: int
    correlation: float
    share_positive: float = 0.5
    temperature: float = 1.0  # of the probabilities of "others": below 1 they are too sure


def list_cases(*, quick: bool) -> list[Case]:
    correlations = (0.0, 0.4, 0.8)
    patients = (14, 30, 95, 400)
    aucs, shares = ((0.7, 0.85, 0.95, 0.99), (0.8, 0.95, 0.99))
    cases = [
        Case(metric=metric, truth=truth, num_patients=num, correlation=correlation)
        for metric, truths in (("auc", aucs), ("share", shares))
        for num in patients
        for truth in truths
        for correlation in correlations
    ]
    if quick:
        return cases
    cases += [
        Case(metric="auc", truth=truth, num_patients=num, correlation=correlation, share_positive=0.2)
        for num in (30, 95, 400)
        for truth in aucs
        for correlation in correlations
    ]
    return cases + [
        Case(metric="others", truth=truth, num_patients=num, correlation=correlation, temperature=temperature)
        for num in (14, 30, 95)
        for truth, temperature in ((0.75, 0.5), (0.9, 0.7), (0.97, 1.0))
        for correlation in (0.0, 0.5)
    ]


def draw_patients(rng: np.random.Generator, num_patients: int) -> np.ndarray:
    return np.repeat(np.arange(num_patients), rng.geometric(1 / MEAN_SLICES, num_patients))


def draw_scores(
    rng: np.random.Generator, case: Case, patients: np.ndarray, is_ill: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether slices are positive bool (N,), and their scores float (N,)."""
    is_positive = is_ill[patients]
    of_patient, own = rng.normal(size=len(is_ill))[patients], rng.normal(size=len(patients))
    noise = np.sqrt(case.correlation) * of_patient + np.sqrt(1 - case.correlation) * own
    return is_positive, np.sqrt(2) * stats.norm.ppf(case.truth) * is_positive + noise


def to_probabilities(case: Case, scores: np.ndarray) -> np.ndarray:
    """The true probabilities (N, 2) of a slice with this score, made too sure by the temperature."""
    shift = np.sqrt(2) * stats.norm.ppf(case.truth)
    odds = special.logit(case.share_positive)
    positive = special.expit((shift * scores - shift**2 / 2 + odds) / case.temperature)
    return np.stack([1 - positive, positive], axis=1)


def simulate_one(case: Case, rng: np.random.Generator) -> dict[str, tuple[float, Interval]]:
    """One test set: for each metric the truth and the interval found."""
    patients = draw_patients(rng, case.num_patients)
    if case.metric == "share":
        if case.correlation == 0:
            chances = np.full(case.num_patients, case.truth)
        else:
            total = 1 / case.correlation - 1
            chances = rng.beta(case.truth * total, (1 - case.truth) * total, case.num_patients)
        is_right = rng.random(len(patients)) < chances[patients]
        return {"share": (case.truth, share_interval(is_right, patients))}
    if case.metric == "auc":
        is_ill = np.arange(case.num_patients) < round(case.share_positive * case.num_patients)
        return {"auc": (case.truth, auc_interval(*draw_scores(rng, case, patients, is_ill), patients))}
    is_ill = rng.permutation(np.arange(case.num_patients) % 2 == 0)
    if case.num_patients >= FEW_PATIENTS:  # with fewer, chance alone would often leave one class without patients
        is_ill = rng.random(case.num_patients) < case.share_positive
    is_positive, scores = draw_scores(rng, case, patients, is_ill)
    found = measure(is_positive.astype(int), to_probabilities(case, scores), patients, 1, num_resamples=300)
    truths = find_truths(case.truth, case.share_positive, case.temperature)
    return {name: (truths[name], found[name].interval) for name in OTHERS}


@cache
def find_truths(auc: float, share_positive: float, temperature: float) -> dict[str, float]:
    case = Case(
        metric="others",
        truth=auc,
        num_patients=NUM_TRUTH,
        correlation=0,
        share_positive=share_positive,
        temperature=temperature,
    )
    rng = np.random.default_rng(0)
    patients = np.arange(NUM_TRUTH)
    is_positive, scores = draw_scores(rng, case, patients, patients < share_positive * NUM_TRUTH)
    labels, probabilities = is_positive.astype(int), to_probabilities(case, scores)
    given = (labels, probabilities, 1, np.ones((1, NUM_TRUTH)))
    values = {name: float(value[0]) for name, value in (score_weighted(*given) | score_probabilities(*given)).items()}
    values["balanced_accuracy"] = (values["sensitivity"] + values["specificity"]) / 2
    sure = to_probabilities(Case(**asdict(case) | {"temperature": 1.0}), scores)
    values["calibration_error"] = float(np.abs(probabilities - sure)[:, 1].mean())  # of the score itself, not of bins
    return values


def simulate(case: Case, num_sets: int) -> list[dict[str, Any]]:
    """One line for each metric of a case: coverage by the intervals that are known, and how many are undefined."""
    seed = [case.num_patients, round(1000 * case.truth), round(10 * case.correlation), round(10 * case.share_positive)]
    rng = np.random.default_rng(seed)
    sets = [simulate_one(case, rng) for _ in range(num_sets)]
    lines = []
    for metric in sets[0]:
        truth = sets[0][metric][0]
        known = [each[metric][1] for each in sets if each[metric][1].is_known]
        held = [truth in interval for interval in known]
        lines.append(
            asdict(case)
            | {
                "metric": metric,
                "truth": round(truth, 4),
                "auc": case.truth if case.metric != "share" else None,
                "coverage": round(float(np.mean(held)), 4) if held else None,
                "median_width": round(float(np.median([interval.width for interval in known])), 4) if known else None,
                "least_width": round(min(interval.width for interval in known), 6) if known else None,
                "undefined": num_sets - len(known),
                "num_sets": num_sets,
            }
        )
    return lines


def summarise(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The lowest and highest coverage, and their cases; the highest among sets of 20 patients or more beside it."""
    lowest, highest = (pick(lines, key=lambda line: line["coverage"]) for pick in (min, max))
    many = [line for line in lines if line["num_patients"] >= FEW_PATIENTS]
    in_goal = [line for line in lines if line["coverage"] >= 0.93 and (line not in many or line["coverage"] <= 0.97)]
    shown = ("metric", "truth", "num_patients", "correlation", "share_positive")
    return {
        "benchmark": "coverage",
        "lowest": lowest["coverage"],
        "highest": highest["coverage"],
        "highest_of_20_patients_or_more": max(line["coverage"] for line in many),
        "within_goal": f"{len(in_goal)} of {len(lines)}",
        "least_width": min(line["least_width"] for line in lines),
        "lowest_case": {name: lowest[name] for name in shown},
        "highest_case": {name: highest[name] for name in shown},
        "num_sets": lines[0]["num_sets"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="AUC and shares alone; one line")
    parser.add_argument("--num-sets", type=int, help="simulated test sets a case (default: 2000, quick 1000)")
    parser.add_argument("--metric", choices=("auc", "share", "others"), help="cases of this kind alone")
    args = parser.parse_args()
    cases = [case for case in list_cases(quick=args.quick) if args.metric in (None, case.metric)]
    num_sets = args.num_sets or (1000 if args.quick else 2000)
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for lines in pool.map(simulate, cases, [num_sets] * len(cases)):
            found += lines
            for line in [] if args.quick else lines:
                print(json.dumps(line), flush=True)
    print(json.dumps(summarise(found)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
