from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.core.config import SearchConfig
from search.core.folder import create_search
from search.core.rules import find_first_rung
from search.engine.cluster import Cluster
from search.preparation.epochs import (
    LEAST_EPOCHS,
    USUAL_EPOCHS,
    find_budget_s,
    fit_epochs,
    fit_first_rung,
    settle_epochs,
    settle_first_rung,
)
from search.preparation.models import SearchedModels
from trainable.images.prepare import TrainingData

DATA = TrainingData(
    name="d",
    data_hash="0" * 16,
    classes=("a", "b"),
    positive=1,
    image_size=32,
    pixels_path="",
    labels=np.zeros(400, dtype=np.int64),
    is_val=np.arange(400) < 100,
    groups=np.arange(400),
)
MODELS = SearchedModels(architectures=("small_cnn",), skipped=(), weights={}, sources={})


def test_a_budget_holds_sixteen_full_trainings_where_it_can() -> None:
    assert fit_epochs(1e9, 1.0) == USUAL_EPOCHS
    assert fit_epochs(16 * 12 * 5.0, 5.0) == 12
    assert fit_epochs(1.0, 5.0) == LEAST_EPOCHS


def test_the_budget_is_that_of_all_workers_and_the_least_of_both() -> None:
    on_two = Cluster(trial_cpus=1, trial_gpus=0, num_slots=2, num_nodes=1, description="")
    assert find_budget_s(SearchConfig(num_trials=3), on_two) is None
    assert find_budget_s(SearchConfig(time_budget_s=60), on_two) == 120
    assert find_budget_s(SearchConfig(time_budget_s=60, device_hours=0.01), on_two) == pytest.approx(36)
    assert find_budget_s(SearchConfig(device_hours=1), replace(on_two, trial_gpus=0.5)) == 7200


def test_what_the_user_says_holds_and_a_resumed_search_keeps_what_it_began_with(
    tmp_path: Path, cluster: Cluster
) -> None:
    given: Any = (cluster, MODELS, DATA)
    folder = create_search(tmp_path, "s", {})
    assert settle_epochs(SearchConfig(max_epochs=5, time_budget_s=1), folder, *given) == 5
    folder.update_record(max_epochs=11)
    assert settle_epochs(SearchConfig(time_budget_s=1), folder, *given) == 11
    folder.release()


def test_a_short_budget_is_measured_and_its_epochs_are_said(tmp_path: Path, cluster: Cluster) -> None:
    """Real epochs on a real worker: with a second for everything the least remains, whatever the machine."""
    folder = create_search(tmp_path, "s", {})
    said: list[str] = []
    assert settle_epochs(SearchConfig(num_trials=9), folder, cluster, MODELS, DATA, said.append) == USUAL_EPOCHS
    folder.update_record(max_epochs=None)
    found = settle_epochs(SearchConfig(time_budget_s=0.1), folder, cluster, MODELS, DATA, said.append)
    assert found == LEAST_EPOCHS == folder.read_record()["max_epochs"]
    assert len(said) == 1 and "8 a trial" in said[0] and "--max-epochs 27" in said[0]
    folder.release()


def test_trials_are_compared_when_they_have_made_some_steps_on_a_rung_that_leads_to_their_end() -> None:
    assert fit_first_rung(10_000, 27, 3) == fit_first_rung(1_024, 27, 3) == 1
    assert fit_first_rung(425, 27, 3) == fit_first_rung(425, 23, 3) == 3
    assert fit_first_rung(60, 27, 3) == 9
    assert fit_first_rung(60, 16, 4) == 4
    assert [fit_first_rung(60, epochs, 3) for epochs in (1, 2, 3, 9)] == [1, 1, 1, 3]


def test_the_first_rung_is_the_users_or_what_the_search_began_with(tmp_path: Path) -> None:
    folder = create_search(tmp_path, "s", {})
    assert settle_first_rung(SearchConfig(first_rung=2), folder, 60, 27) == 2
    assert settle_first_rung(SearchConfig(), folder, 60, 27) == 9
    assert (
        settle_first_rung(SearchConfig(), folder, 10_000, 27)
        == 9
        == find_first_rung(SearchConfig(), folder.read_record())
    )
    assert find_first_rung(SearchConfig(), {}) == 1
    folder.release()
