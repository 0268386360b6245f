"""A search of one worker over a made-up space, decided by freeze-thaw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from search.core.decisions import Decision, New, PastTrial, Resume, Verdict
from search.core.freeze_thaw import FreezeThaw
from search.core.proposals import SpaceProposals

MAX_EPOCHS = 12


def space(trial: Any) -> None:
    """Conditional: only one of two kinds has a momentum."""
    if trial.suggest_categorical("kind", ["sgd", "adam"]) == "sgd":
        trial.suggest_float("momentum", 0.0, 1.0)
    trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    trial.suggest_int("depth", 1, 4)


def quality(params: Mapping[str, Any]) -> float:
    """Best, 1, with Adam at a rate of 1e-3."""
    off = (math.log10(params["rate"]) + 3) / 2
    return 1 - off**2 - (0.3 if params["kind"] == "sgd" else 0.0)


class Simulated:
    """A search of one worker over `quality`, with what it has shown so far."""

    def __init__(self, rule: FreezeThaw, *, noise: float = 0.0, slow: str | None = None, sign: float = 1.0) -> None:
        self.rule, self.noise, self.slow, self.sign = rule, noise, slow, sign
        self.generator = np.random.default_rng(11)
        self.params: dict[int, Mapping[str, Any]] = {}
        self.values: dict[int, dict[int, float]] = {}
        self.decisions: list[Decision] = []
        self.num_epochs = 0

    def run(self, num_epochs: int) -> None:
        while self.num_epochs < num_epochs:
            decision = self.rule.next()
            self.decisions.append(decision)
            assert decision is not None
            number = decision.number if isinstance(decision, Resume) else self.begin(decision)
            self.train(number)

    def begin(self, decision: New) -> int:
        number = len(self.params)
        params = decision.params
        if params is None:
            [params] = SpaceProposals(space).draw(1, self.generator)
        self.params[number], self.values[number] = params, {}
        self.rule.begin(number, params)
        return number

    def train(self, number: int) -> None:
        verdict = Verdict.CONTINUE
        while verdict is Verdict.CONTINUE:
            epoch = len(self.values[number]) + 1
            value = quality(self.params[number]) * (1 - math.exp(-epoch / 3))
            value += self.noise * float(self.generator.standard_normal())
            self.values[number][epoch] = value
            seconds = 30.0 if self.params[number]["kind"] == self.slow else 1.0
            verdict = self.rule.report(number, epoch, self.sign * value, seconds=seconds)
            self.num_epochs += 1

    def best_quality(self) -> float:
        return max(quality(self.params[number]) for number, seen in self.values.items() if len(seen) == MAX_EPOCHS)

    def history(self) -> list[PastTrial]:
        return [PastTrial(number, params, self.values[number]) for number, params in self.params.items()]


def build(**options: Any) -> FreezeThaw:
    return FreezeThaw(SpaceProposals(space), max_epochs=MAX_EPOCHS, seed=1, **options)
