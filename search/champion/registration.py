"""The champion in MLflow's registry: both models saved, registered, and given the alias that they have earned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainable.report import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient


def promote(client: MlflowClient, versions: Mapping[str, str], *, direction: Direction) -> str:
    """Give the versions (by model name; the first decides for all) the alias they have earned; that alias.

    `champion` if no version has it, or if this one's validation value is better on the same data and metric;
    else `challenger`. Values, data and metric are read from the versions' tags.
    """
    name, version = next(iter(versions.items()))
    present = client.get_registered_model(name).aliases.get("champion")
    alias = "champion"
    if present is not None and str(present) != version:
        mine, theirs = (client.get_model_version(name, v).tags for v in (version, str(present)))
        alias = "champion" if _is_better(mine, theirs, direction) else "challenger"
    for name in reversed(list(versions)):  # the deciding one last: an interrupted call decides the same again
        client.set_registered_model_alias(name, alias, versions[name])
    return alias


def _is_better(mine: Mapping[str, str], theirs: Mapping[str, str], direction: Direction) -> bool:
    if any(mine[tag] != theirs.get(tag) for tag in ("data_hash", "metric")):
        return False
    return direction.is_better(float(mine["validation_value"]), float(theirs["validation_value"]))
