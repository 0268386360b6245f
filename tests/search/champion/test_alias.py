"""Who is @champion in the registry: only a better version on the same data."""

from __future__ import annotations

import uuid

import pytest
from mlflow import MlflowClient

from search.champion.promotion import Verdict, judge_by_value, promote
from trainable.report import Direction


def register(client: MlflowClient, experiment: str, name: str, **tags: str) -> str:
    """A version that is nothing but its tags."""
    logged = client.create_logged_model(experiment, name=name)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(
        name, f"models:/{logged.model_id}", model_id=logged.model_id, tags=tags, await_creation_for=0
    )
    return str(version.version)


def tag(value: float, data_hash: str = "abc", metric: str = "auc") -> dict[str, str]:
    return {"validation_value": repr(value), "data_hash": data_hash, "metric": metric}


@pytest.mark.parametrize(
    ("present", "new", "alias"),
    [
        (None, tag(0.5), "champion"),
        (tag(0.8), tag(0.8000001), "champion"),
        (tag(0.8), tag(0.8), "challenger"),
        (tag(0.8), tag(0.7), "challenger"),
        (tag(0.8), tag(0.9, data_hash="other"), "challenger"),
        (tag(0.8), tag(0.9, metric="accuracy"), "challenger"),
        (tag(0.8, metric="loss"), tag(0.7, metric="loss"), "champion"),
        (tag(0.8, metric="loss"), tag(0.9, metric="loss"), "challenger"),
        ({}, tag(0.9), "challenger"),
    ],
)
def test_the_alias_moves_only_to_a_better_version_on_the_same_data(
    client: MlflowClient,
    experiment: str,
    present: dict[str, str] | None,
    new: dict[str, str],
    alias: str,
) -> None:
    name = f"promote-{uuid.uuid4().hex}"
    names = (name, f"{name}-images")
    if present is not None:
        for each in names:
            first = register(client, experiment, each, **present)
            client.set_registered_model_alias(each, "champion", first)
    versions = {each: register(client, experiment, each, **new) for each in names}
    direction = Direction.of(new["metric"])

    def judge(present: str) -> Verdict:
        mine, theirs = (client.get_model_version(name, version).tags for version in (versions[name], present))
        return judge_by_value(mine, theirs, direction)

    for _ in range(2):  # asking again changes nothing
        assert promote(client, versions, rule="if-better", judge=judge)[0] == alias
        for each in names:
            aliases = client.get_registered_model(each).aliases
            expected = {alias: versions[each]}
            if alias == "challenger":
                expected["champion"] = "1"
            assert {key: str(value) for key, value in aliases.items()} == expected
