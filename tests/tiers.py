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

NOT_QUICK: tuple[str, ...] = ()
"""Files and folders below tests/ whose tests take long without any of these."""


def is_quick(item: pytest.Item) -> bool:
    if item.get_closest_marker("slow") or SERVICES.intersection(getattr(item, "fixturenames", ())):
        return False
    return not f"{item.nodeid.partition('::')[0]}".startswith(tuple(f"tests/{name}" for name in NOT_QUICK))


def mark_quick(items: Iterable[pytest.Item]) -> None:
    for item in items:
        if is_quick(item):
            item.add_marker(pytest.mark.quick)
