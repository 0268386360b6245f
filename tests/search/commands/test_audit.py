"""`ctsearch audit`, `ctsearch.audit` and `--explain-data`, on real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import ctsearch
from search.cli import main
from trainable.images.synthetic import write_synthetic_set


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_synthetic_set(
        tmp_path_factory.mktemp("set") / "set", num_patients=12, slices_per_patient=1, image_size=64
    )
    Image.new("L", (64, 64)).save(next(folder.glob("covid/*")) / "blank.png")
    return folder


def test_the_command_prints_the_audit_and_its_status_is_the_worst_finding(
    slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "audit"
    status = main(["audit", "--data", str(slices), "--home", str(tmp_path), "--out", str(out)])
    output = capsys.readouterr().out
    assert "1 of 13 slices are blank" in output and "audit.html" in output
    facts = json.loads((out / "audit.json").read_text())
    assert status == facts["exit_code"] >= 3
    assert (out / "audit.html").is_file()
    found = ctsearch.audit(slices, home=tmp_path)
    assert isinstance(found, ctsearch.DataAudit) and (found.num_slices, found.exit_code) == (13, status)


def test_an_audit_needs_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--home", str(tmp_path)]) == 2
    assert "needs --data" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ctsearch.audit(tmp_path / "gone", home=tmp_path)


def test_data_is_explained_and_nothing_else_is_done(
    slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--data", str(slices), "--home", str(tmp_path / "home"), "--explain-data"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Read as:\n") and "First slices:" in output and "patients  12" in output
    assert not (tmp_path / "home" / "searches").exists()
    assert main(["search", "--home", str(tmp_path), "--explain-data"]) == 2
    assert "--data" in capsys.readouterr().err
