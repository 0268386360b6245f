"""A search of the default space whose records are real and whose trials are not trained: seconds, and no Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from search.core.config import SearchConfig
from search.core.decisions import Resume, Verdict
from search.core.folder import Phase, SearchFolder, create_search
from search.core.ledger import Ledger
from search.core.rules import build_rule
from search.core.space import DefaultSpace, Space
from search.engine.study import Study
from tests.search.reports import report
from trainable.report import Direction, Outcome

ARCHITECTURES = ("small_cnn", "resnet18", "densenet121")
Value = Callable[[Mapping[str, Any], int], float]


def worth(params: Mapping[str, Any], epoch: int) -> float:
    """An AUC that depends on learning rate, architecture and dropout, and rises with the epochs."""
    rate = abs(math.log10(params["learning_rate"] / (1e-2 if params["optimizer"] == "sgd" else 1e-3)))
    limit = 0.88 - 0.08 * rate + 0.03 * ARCHITECTURES.index(params["architecture"]) - 0.1 * abs(params["dropout"] - 0.3)
    return 0.5 + (limit - 0.5) * (1 - math.exp(-epoch / 5))


def record_search(
    home: Path,
    name: str = "recorded",
    *,
    num_trials: int = 30,
    space: Space | None = None,
    value: Value = worth,
    noise: float = 0.01,
    is_running: bool = False,
    **options: Any,
) -> SearchFolder:
    """Two workers, one after the other; `is_running` leaves the last trials without an outcome, as a driver does."""
    options = {"sampler": "random", "ensemble": 1, **options}
    config = SearchConfig(name=name, home=home, **options)
    folder = create_search(home, name, {"config": config.to_record()})
    space = space or DefaultSpace(ARCHITECTURES)
    direction = Direction.of(config.metric)
    study = Study(folder.journal_file, sampler=config.sampler, seed=config.seed, direction=direction)
    ledger = Ledger(direction, [study])
    max_epochs = config.max_epochs or 27
    folder.update_record(max_epochs=max_epochs)
    rule, _ = build_rule(config, space, direction, max_epochs=max_epochs)
    generator = np.random.default_rng(config.seed)
    while (decision := rule.next(may_begin=study.may_begin(num_trials))) is not None:
        if isinstance(decision, Resume):
            begun = study.resume(decision.number)
            ledger.resume(begun.number)
        else:
            begun = study.begin(space, decision.params)
            rule.begin(begun.number, begun.drawn)
            ledger.begin(begun.number, begun.params)
        entry = ledger.entries[begun.number]
        verdict = Verdict.CONTINUE
        while verdict is Verdict.CONTINUE:
            epoch = entry.num_epochs + 1
            seen = value(begun.params, epoch) + noise * generator.standard_normal()
            output = report(epoch, seen, standard_error=0.03)
            ledger.report(entry.number, output)
            verdict = rule.report(entry.number, epoch, seen, output.standard_error, 1.0)
        if verdict is Verdict.PAUSE:
            ledger.pause(entry.number)
        else:
            done = entry.num_epochs >= max_epochs
            ledger.end(entry.number, Outcome.COMPLETED if done else Outcome.STOPPED)
            rule.end(entry.number, str(entry.outcome))
    if is_running:
        folder.enter(Phase.SEARCHING)
        return folder
    for number in list(study.paused):
        ledger.end(number, Outcome.STOPPED)
    folder.enter(Phase.ENDED)
    folder.release()
    return folder
