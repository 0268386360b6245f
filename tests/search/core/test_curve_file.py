"""Curves in a file: what is written is read, and what is none is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from search.core.curve_file import RecordedCurves, read_curves, write_curves
from search.core.decisions import PastTrial


def recorded() -> RecordedCurves:
    trials = [
        PastTrial(0, {"architecture": "resnet18", "norm": True}, {1: 0.5, 2: 0.6}, "completed", {1: 0.05}, {1: 3.5}),
        PastTrial(1, {"architecture": "small_cnn", "depth": 3}, {1: math.nan}, "failed"),
    ]
    return RecordedCurves("covid-ct", "auc", True, 27, trials)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "covid-ct.curves.json"
    write_curves(file, recorded())
    read = read_curves(file)
    assert (read.name, read.metric, read.higher_is_better, read.max_epochs) == ("covid-ct", "auc", True, 27)
    assert read.trials[0] == recorded().trials[0]
    assert math.isnan(read.trials[1].values[1])


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format", "other", "format and version"),
        ("version", 2, "format and version"),
        ("direction", "up", "direction is 'up'"),
        ("max_epochs", 0, "max_epochs is 0"),
        ("trials", [{"number": 0}], "cannot be read"),
        ("trials", [{"number": 0, "params": {}, "values": {"28": 0.1}}], "epochs 28 to 28 of 27"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, field: str, value: Any, said: str) -> None:
    file = tmp_path / "a.curves.json"
    write_curves(file, recorded())
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(ValueError, match=said) as refused:
        read_curves(file)
    assert str(file) in str(refused.value)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.curves.json"
    file.write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        read_curves(file)
