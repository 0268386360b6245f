"""Draws from a space that train nothing: whether a wish fits it, and whether a user's own space can be searched."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import Trial

from search.core.own_space import OwnSpace
from search.core.space import Space, configuration_of
from search.core.space_visits import check_own_space
from trainable.config import TrialConfig
from trainable.suggest import did_you_mean

NUM_PROBES, NUM_DRAWN_ALWAYS = 50, 10
FORMS = ("architecture", "pooling", "head_depth", "cnn_depth", "cnn_pool")
"""The hyperparameters on which it hangs whether a model can be built."""


def fit_wish(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """What must be enqueued for a trial to take `params`: them in the space's own names, and where these are drawn on
    a condition only, choices under which they are. Raises ValueError for what the space never draws.
    """
    probe = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: dict[str, Any] = {}
    fitting: list[dict[str, Any]] = []
    for i in range(NUM_PROBES):
        wished = dict(params)
        for _ in range(2):  # the second time by the space's own names, such as learning_rate_sgd
            probe.enqueue_trial(wished)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial = probe.ask()
                try:
                    configuration = configuration_of(space(trial), trial.params)
                except ValueError as error:
                    wish = ", ".join(f"{name}={value!r}" for name, value in wished.items())
                    raise ValueError(f"{wish} is not in the space of this search: {error}") from error
            drawn, limits = trial.params, trial.distributions
            seen |= limits
            for name in [name for name in wished if name not in drawn and name in configuration]:
                if configuration[name] == wished[name]:
                    del wished[name]  # fixed in this space, to just that
                elif others := [other for other in drawn if other.startswith(f"{name}_")]:
                    wished[others[0]] = wished.pop(name)
        for name in wished.keys() & drawn.keys():
            if drawn[name] != wished[name] or not limits[name]._contains(limits[name].to_internal_repr(wished[name])):
                raise ValueError(f"{name} is {wished[name]!r}; this search draws it from {limits[name]}")
        if wished.keys() <= drawn.keys():
            chosen = {name: drawn[name] for name, kind in limits.items() if isinstance(kind, CategoricalDistribution)}
            fitting.append({**chosen, **wished})
        if fitting and i >= NUM_DRAWN_ALWAYS - 1:
            return {name: fitting[0][name] for name in fitting[0] if name in wished or len(fitting) <= i}
    never = next(name for name in wished if name not in drawn)
    raise ValueError(f"{never} is not drawn here{did_you_mean(never, seen)}; drawn are {', '.join(sorted(seen))}")


def check_space(space: OwnSpace, *, image_size: int | None = None) -> int:
    """Draw from a user's own space, along every branch, before anything is trained; how many draws it took.

    Raises ValueError, with file and line, for the first configuration that no trial could be trained with, at
    `image_size` where that is known.
    """
    from trainable.architectures import check_builds

    check_once = cache(partial(check_builds, image_size=image_size))

    def check(configuration: Mapping[str, Any]) -> None:
        check_once(TrialConfig.from_params({name: configuration[name] for name in FORMS if name in configuration}))

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def ask(point: Mapping[str, Any]) -> Trial:
        study.enqueue_trial(dict(point))
        return study.ask()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that one branch has drawn from another range
        return check_own_space(space, ask, check)
