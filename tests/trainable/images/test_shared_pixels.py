"""The single files of ../shared/cases, each beside the grey levels that it must become."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from tests import needs
from trainable.images.decode import decode

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases" / "make_cases.py"


def test_every_file_becomes_the_greys_that_lie_beside_it(tmp_path: Path) -> None:
    needs.shared(CASES.parent)
    spec = importlib.util.spec_from_file_location("make_cases", CASES)
    assert spec is not None and spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    cases.write_pixels(tmp_path)
    differences = {
        wanted.stem: int(np.abs(decode(wanted.with_suffix("")).astype(int) - np.load(wanted)).max())
        for wanted in tmp_path.glob("*.npy")
    }
    assert len(differences) >= 9
    assert max(differences.values()) <= 1, differences
