"""Which tests are quick: `python -m pytest -m quick` looks into every room in under three minutes on two quiet cores.

A test is quick unless it is marked `slow`, needs one of the services below, or lies in a file that starts processes
or trains for long. Files that hold such tests come first: of two workers none waits long for the other in the end.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

SERVICES = frozenset(
    {"cluster", "mlflow_server", "finished_search", "shared_data", "cases", "team", "postgres", "s3", "search", "play"}
)
"""Fixtures that start Ray, MLflow, a database or a search, or read what lies beside the checkout."""

NOT_QUICK = (
    "mlflow_server/test_backup.py",
    "mlflow_server/test_clean.py",
    "mlflow_server/test_clients.py",
    "mlflow_server/test_serve.py",
    "mlflow_server/test_team.py::test_passwords",
    "faults/test_bad_code.py",
    "faults/test_bad_data.py",
    "faults/test_bad_states.py",
    "faults/test_proxies.py::test_workers",
    "faults/test_ray_address.py::test_auto",
    "faults/test_registry.py",
    "faults/test_server_down.py",
    "faults/test_server_returns.py",
    "faults/test_surroundings.py::test_the_embedded_server",
    "cluster/test_slurm.py",
    "search/champion/test_crown.py::test_the_weighed_mean_of_completed",
    "search/commands/test_models.py",
    "search/core/test_space.py::test_every_way_of_fine_tuning",
    "search/core/test_finishing.py::test_all_of_a_time_budget",
    "search/engine/test_address.py::test_an_address_where_nobody",
    "search/engine/test_draft.py",
    "trainable/test_channels.py::test_every_door",
    "trainable/test_checkpoint.py::test_a_writer_killed",
    "trainable/test_comparisons.py::test_the_interval",
    "trainable/test_explain.py::test_every_architecture",
    "trainable/test_heads.py::test_a_deeper_head",
    "trainable/test_heads.py::test_every_globally_pooled",
    "trainable/test_micro_batches.py::test_a_device_too_small",
    "trainable/test_micro_batches.py::test_a_step_out_of_memory",
    "trainable/test_micro_batches.py::test_evaluation_out_of_memory",
    "trainable/test_model_facts.py",
    "trainable/test_process_group.py",
    "trainable/test_records.py::test_a_reader_beside",
    "trainable/test_records.py::test_each_of_a_thousand",
    "trainable/test_served_ensemble.py::test_it_is_one_onnx_file",
    "trainable/test_served_ensemble.py::test_with_mirror_images",
    "trainable/test_sharing.py::test_a_process_that_fails",
    "trainable/test_sharing.py::test_real_processes",
    "trainable/test_timm_models.py::test_a_model_of_timms_trains",
    "trainable/test_to_onnx.py::test_a_model_that_would",
    "trainable/test_worker_memory.py",
    "trainable/images/test_audit_data.py",
    "trainable/images/test_channels.py::test_mosmeds_layout",
    "trainable/images/test_channels.py::test_slices_and_their",
    "trainable/images/test_layout_fuzz.py",
    "trainable/images/test_likeness.py::test_what_is_no_slice",
    "trainable/images/test_series_sets.py::test_a_search_reads_trees",
    "trainable/images/test_series_sets.py::test_a_slice_whose_neighbour",
    "trainable/images/test_series_sets.py::test_missing_slices",
    "trainable/images/test_series_sets.py::test_series_and_frames",
    "trainable/images/test_shortcuts.py",
    "trainable/images/test_synthetic.py::test_a_forest",
    "trainable/images/test_synthetic.py::test_a_logistic",
)
"""What starts processes or trains for seconds without any of these, by the beginning of its name below tests/.

`python -m pytest -m quick --durations=40` shows what belongs here next.
"""


def is_quick(item: pytest.Item) -> bool:
    if item.get_closest_marker("slow") or SERVICES.intersection(getattr(item, "fixturenames", ())):
        return False
    return not item.nodeid.startswith(tuple(f"tests/{name}" for name in NOT_QUICK))


def mark_quick(items: Iterable[pytest.Item]) -> None:
    for item in items:
        if is_quick(item):
            item.add_marker(pytest.mark.quick)


def put_quick_files_last(items: list[pytest.Item]) -> None:
    """Files of quick tests alone go behind all others; otherwise the order stays."""
    long = {item.path for item in items if not is_quick(item)}
    items.sort(key=lambda item: item.path not in long)
