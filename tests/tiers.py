"""Which tests are quick: `python -m pytest -m quick` looks into every room in under three minutes on two quiet cores.

A test is quick unless it is marked `slow`, needs one of the services below, or lies in a file that starts processes
or trains for long.
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
    "search/commands/test_models.py",
    "trainable/test_checkpoint.py::test_a_writer_killed",
    "trainable/test_comparisons.py::test_the_interval",
    "trainable/test_explain.py::test_every_architecture",
    "trainable/images/test_audit_data.py",
    "trainable/images/test_layout_fuzz.py",
    "trainable/images/test_likeness.py::test_what_is_no_slice",
)
"""What starts a server or trains for long without any of these, by the beginning of its name below tests/."""


def is_quick(item: pytest.Item) -> bool:
    if item.get_closest_marker("slow") or SERVICES.intersection(getattr(item, "fixturenames", ())):
        return False
    return not item.nodeid.startswith(tuple(f"tests/{name}" for name in NOT_QUICK))


def mark_quick(items: Iterable[pytest.Item]) -> None:
    for item in items:
        if is_quick(item):
            item.add_marker(pytest.mark.quick)
