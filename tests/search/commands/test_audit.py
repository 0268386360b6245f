"""`ctsearch audit`, `ctsearch.audit` and `--explain-data`, on real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ctsearch
from search.cli import main
from tests.trainable.images.dicom_files import build, save
from tests.trainable.images.phantoms import draw_chest
from tests.trainable.images.series_files import save_series
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


def test_an_audit_reads_colours_as_a_search_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        shown = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        dataset = build(shown, bits=8, Rows=40, Columns=48, SamplesPerPixel=3, PhotometricInterpretation="RGB")
        dataset.PlanarConfiguration, dataset.Modality, dataset.PatientID = 0, "XC", f"P{number}"
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(save(dataset))
    given = ["audit", "--data", str(tmp_path / "set"), "--home", str(tmp_path)]
    assert main(given) == 2 and "a DICOM file in RGB" in capsys.readouterr().err
    assert main([*given, "--colour"]) in (0, 3) and "12 slices, 12 patients" in capsys.readouterr().out


def test_an_audit_takes_windows_and_neighbours_as_a_search_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "set"
    for number in range(4):
        values = draw_chest(seed=number)
        paths = save_series(data / "ab"[number % 2] / f"P{number}", values, patient=f"P{number}", uid=f"1.2.{number}")
    given: dict[str, Any] = {"home": tmp_path, "slices": "every:3"}
    lung = ctsearch.audit(data, **given)
    bone = ctsearch.audit(data, window="bone", **given)
    assert lung.num_slices == bone.num_slices == 12
    assert [pair.pair for pair in lung.pairs] == [pair.pair for pair in bone.pairs]
    paths[3].write_bytes(paths[3].read_bytes()[:-900])  # no slice of the set, and a neighbour of one
    beside = ctsearch.audit(data, neighbours=1, **given)
    assert any("1 of 12 files cannot be used" in line and "its neighbour" in line for line in beside.lines())
    (data / "a" / "P8").mkdir()
    Image.new("L", (64, 64)).save(data / "a" / "P8" / "x.png")
    with pytest.raises(ValueError, match="1 of 13 images have no neighbours"):
        ctsearch.audit(data, neighbours=1, **given)
    assert main(["audit", "--data", str(data), "--home", str(tmp_path), "--window", "loud"]) == 2
    assert "window" in capsys.readouterr().err


def test_data_is_explained_and_nothing_else_is_done(
    slices: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--data", str(slices), "--home", str(tmp_path / "home"), "--explain-data"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Read as:\n") and "First slices:" in output and "patients  12" in output
    assert not (tmp_path / "home" / "searches").exists()
    assert main(["search", "--home", str(tmp_path), "--explain-data"]) == 2
    assert "--data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"neighbours": "x"}, "neighbours is 'x'; it must be a number"),
        ({"neighbours": 1.5}, "neighbours is 1.5; it must be a whole number"),
        ({"colour": "no"}, "colour is 'no'; it must be true or false"),
        ({"window": ["lung"]}, "window is .*; it must be a text"),
        ({"slices": 3}, "the rule for slices is '3'"),
        ({"data": 5}, "data is 5; it must be a path"),
    ],
)
def test_what_an_audit_is_asked_is_read_as_a_search_reads_it(
    options: dict[str, Any], line: str, slices: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=line):
        ctsearch.audit(**{"data": slices, "home": tmp_path, **options})
