from __future__ import annotations

from typing import Any

import pytest

from search.engine.cluster import fit_trials


def test_without_a_gpu_a_trial_takes_one_core() -> None:
    cluster = fit_trials([{"CPU": 2.0}])
    assert (cluster.trial_cpus, cluster.trial_gpus, cluster.num_slots, cluster.has_gpu) == (1, 0, 2, False)


def test_with_gpus_a_trial_takes_one_and_its_part_of_the_cores() -> None:
    cluster = fit_trials([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}])
    assert (cluster.trial_cpus, cluster.trial_gpus, cluster.num_slots) == (4, 1, 6)


def test_fractions_of_a_gpu_let_more_trials_run() -> None:
    assert fit_trials([{"CPU": 8.0, "GPU": 1.0}], trial_gpus=0.25).num_slots == 4
    assert fit_trials([{"CPU": 8.0, "GPU": 1.0}], trial_gpus=0.25, trial_cpus=4).num_slots == 2


def test_several_gpus_a_trial_are_as_many_processes_on_one_node() -> None:
    nodes = [{"CPU": 32.0, "GPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}]
    cluster = fit_trials(nodes, trial_gpus=2)
    assert (cluster.trial_cpus, cluster.num_slots, cluster.num_ranks, cluster.num_threads) == (16, 2, 2, 8)
    factory = cluster.place_trial()
    assert (factory.bundles, factory.strategy) == ([{"CPU": 8.0, "GPU": 1.0}] * 2, "STRICT_PACK")
    assert fit_trials(nodes, trial_gpus=2, trial_cpus=5).place_trial().bundles == [{"CPU": 2.0, "GPU": 1.0}] * 2
    with pytest.raises(ValueError, match="on one node; none has that"):
        fit_trials([{"CPU": 8.0, "GPU": 1.0}] * 4, trial_gpus=2)


@pytest.mark.parametrize(("options", "bundle"), [({}, {"CPU": 1.0}), ({"trial_cpus": 0.5}, {"CPU": 0.5})])
def test_one_process_a_trial_is_one_bundle(options: dict[str, Any], bundle: dict[str, float]) -> None:
    cluster = fit_trials([{"CPU": 2.0}], **options)
    assert cluster.num_ranks == 1
    assert cluster.place_trial().bundles == [bundle]


def test_torch_threads_follow_the_cores() -> None:
    assert [fit_trials([{"CPU": 4.0}], trial_cpus=cpus).num_threads for cpus in (0.5, 1, 4)] == [1, 1, 4]


def test_a_trial_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="lower --trial-cpus or --trial-gpus"):
        fit_trials([{"CPU": 2.0}, {"CPU": 2.0}], trial_cpus=4)
