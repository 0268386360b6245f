"""What tests of champions share: one trained trial, and runs in MLflow."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient

from tests.search.champion.trained import TrainedSearch, train_search

if TYPE_CHECKING:
    from mlflow_server.serve import ServerHandle


@pytest.fixture
def client(mlflow_server: ServerHandle) -> MlflowClient:
    return MlflowClient(mlflow_server.uri)


@pytest.fixture
def experiment(client: MlflowClient) -> str:
    return client.create_experiment(uuid.uuid4().hex)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedSearch:
    return train_search(tmp_path_factory.mktemp("home"))


@pytest.fixture
def runs(client: MlflowClient, experiment: str) -> tuple[str, str]:
    """A parent run and a child's."""
    parent, child = (client.create_run(experiment).info.run_id for _ in range(2))
    return parent, child
