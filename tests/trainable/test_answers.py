"""Volumes and images classified: one row a volume by the mean of its slices, as the model was trained to see them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread

from search.cli import main
from search.commands.classify import classify
from search.commands.inputs import Per, list_patients, list_scans
from tests.trainable.images.dicom_files import build, save
from tests.trainable.images.phantoms import draw_chest, save_nifti
from tests.trainable.images.series_files import as_seen, save_enhanced, save_series
from trainable.answers import Answer, Answered, classify_files, classify_patients, classify_scans
from trainable.architectures import build_model
from trainable.checkpoint import CheckpointStore
from trainable.classifier import Classifier
from trainable.config import TrialConfig
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.scans import find_scans, open_scan
from trainable.verdicts import PatientRule, PatientVerdict

SIZE = 32
BESIDE = PixelFormat(neighbours=1)


def see_greys(pixels: torch.Tensor) -> torch.Tensor:
    """A model that knows the mean grey level of an image's first channel, and nothing else."""
    first = pixels if pixels.ndim == 3 else pixels[..., 0]
    share = first.float().mean(dim=(1, 2)) / 255
    return torch.stack([share, 1 - share], dim=1)


def build_classifier(slices: str = "all", form: PixelFormat = GREY) -> Classifier:
    return Classifier(
        label="greys", classes=("a", "b"), image_size=SIZE, predict=see_greys, slices=slices, form=form, positive=0
    )


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One scan as a NIfTI file, a folder of slices, and an enhanced CT whose frames are in no order."""
    root, values = tmp_path_factory.mktemp("volumes"), draw_chest()
    save_series(root / "series", values)
    return {
        "nifti": save_nifti(root / "scan.nii.gz", values),
        "series": root / "series",
        "enhanced": save_enhanced(root / "enhanced.dcm", values, order=np.random.default_rng(0).permutation(10)),
    }


def ask(path: Path, classifier: Classifier, *, per_slice: bool = False) -> list[Answered]:
    return list(classify_scans(list_scans([path]), classifier, per_slice=per_slice))


def get_answer(answered: Answered) -> Answer:
    assert isinstance(answered[1], Answer), answered[1]
    return answered[1]


@pytest.mark.parametrize("form", [GREY, BESIDE])
@pytest.mark.parametrize(("rule", "num_slices"), [("all", 10), ("middle", 1), ("every:4", 3), ("lung", 5)])
def test_a_volume_is_the_mean_of_its_slices_whatever_its_files(
    rule: str, num_slices: int, form: PixelFormat, volumes: dict[str, Path]
) -> None:
    means = {}
    for kind, path in volumes.items():
        ((name, _), *more) = found = ask(path, build_classifier(rule, form))
        assert name == path and not more
        answer = get_answer(found[0])
        assert answer.num_slices == num_slices
        slices = ask(path, build_classifier(rule, form), per_slice=True)
        assert len(slices) == num_slices == len({name for name, _ in slices})
        each = np.stack([get_answer(one).probabilities for one in slices])
        np.testing.assert_allclose(answer.probabilities, each.mean(axis=0), atol=1e-6)
        means[kind] = each
    np.testing.assert_array_equal(means["series"], means["nifti"])
    np.testing.assert_array_equal(means["enhanced"], means["nifti"])


def test_a_folder_of_several_series_gives_a_row_for_each_and_for_what_is_none(tmp_path: Path) -> None:
    for number in (1, 2):
        for index, path in enumerate(save_series(tmp_path / str(number), draw_chest(seed=number), uid=f"1.{number}")):
            (tmp_path / "all" / f"{number}-{index}").parent.mkdir(exist_ok=True)
            path.rename(tmp_path / "all" / f"{number}-{index}")
    scout = build(as_seen(draw_chest(), 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="1.1")
    (tmp_path / "all" / "scout").write_bytes(save(scout))
    Image.new("L", (64, 64), 51).save(tmp_path / "all" / "x.png")
    (tmp_path / "all" / "z.nii").write_bytes(b"no volume")
    found = dict(ask(tmp_path / "all", build_classifier()))
    assert [path.name for path in found] == ["all#1", "all#2", "scout", "x.png", "z.nii"]
    assert [answer.num_slices for answer in found.values() if isinstance(answer, Answer)] == [10, 10, 1]
    assert "a localizer" in str(found[tmp_path / "all" / "scout"])
    assert "its header is not that of a NIfTI file" in str(found[tmp_path / "all" / "z.nii"])


def test_a_slice_given_by_itself_is_an_image(volumes: dict[str, Path]) -> None:
    paths = sorted(volumes["series"].iterdir())[:2]
    found = list(classify_files(paths, build_classifier()))
    assert [path for path, _ in found] == paths
    assert all(get_answer(one).num_slices == 1 for one in found)


def test_an_image_by_itself_has_a_reason_where_the_model_looks_at_neighbours(volumes: dict[str, Path]) -> None:
    path = min(volumes["series"].iterdir())
    ((_, fault),) = classify_files([path], build_classifier(form=BESIDE))
    assert "looks at a slice with 1 on each side" in str(fault) and "the folder of its DICOM series" in str(fault)


def test_a_volume_that_turns_out_bad_has_one_row_and_the_others_theirs(tmp_path: Path) -> None:
    for number in range(3):
        paths = save_series(tmp_path / f"s{number}", draw_chest(seed=number), uid=f"1.{number}")
    paths = sorted((tmp_path / "s1").iterdir())
    paths[7].write_bytes(paths[7].read_bytes()[:-900])
    for per_slice in (False, True):
        found = ask(tmp_path, build_classifier(), per_slice=per_slice)
        faults = [(path.name, str(answer)) for path, answer in found if isinstance(answer, Exception)]
        assert [name for name, _ in faults] == ["s1"] and paths[7].name in faults[0][1]
        assert len(found) == (21 if per_slice else 3)
    ((_, fault),) = ask(save_nifti(tmp_path / "a.nii", draw_chest(lung=slice(0, 0))), build_classifier("lung"))
    assert "no slice shows lung" in str(fault)


def test_no_scan_is_looked_for_before_it_is_asked_for(volumes: dict[str, Path]) -> None:
    files = [*sorted(volumes["series"].iterdir()), Path("gone.png")]
    first = next(find_scans(files))
    assert first.path == volumes["series"] and first.is_volume and not open_scan(files[0]).is_volume


def test_the_rule_and_the_form_are_the_checkpoints_and_each_volume_has_a_row(
    volumes: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "searches" / "small" / "trials" / "0000"
    facts = {"config": {"architecture": "small_cnn"}, "classes": ["covid", "normal"], "image_size": 32, "epoch": 3}
    model = build_model(TrialConfig(architecture="small_cnn"), 2, num_channels=3)
    CheckpointStore(folder).save(
        "best", {"model": model.state_dict()}, {**facts, "form": BESIDE.to_dict(), "slices": "lung"}
    )
    table, lines = tmp_path / "found.csv", tmp_path / "found.json"
    common = {"model": str(folder), "home": tmp_path, "csv_file": table, "json_file": lines, "explain": True}
    assert classify(list(volumes.values()), **common) == 0  # type: ignore[arg-type]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [Path(row["path"]) for row in rows] == list(volumes.values())
    assert [row["slices"] for row in rows] == ["5"] * 3
    assert len({row["probability_covid"] for row in rows}) == 1
    assert all(Path(row["explanation"]).is_file() for row in rows)
    assert "series" in capsys.readouterr().out
    common["explain"] = False
    assert classify([volumes["series"]], **common, per=Per(unit="slice")) == 0  # type: ignore[arg-type]
    assert [json.loads(line)["slices"] for line in lines.read_text().splitlines()] == [1] * 5
    given = [str(volumes[kind]) for kind in ("series", "enhanced")]
    options = ["--model", str(folder), "--home", str(tmp_path), "--csv", str(table), "--per", "patient"]
    for more, told in (
        ([], "Patients     1, by DICOM PatientID (1)"),
        (["--patient-from", "[^/]+$"], "Patients     2, by --patient-from '[^/]+$' (2)"),
    ):
        capsys.readouterr()
        assert main(["classify", *given, *options, *more]) == 0
        assert told in capsys.readouterr().out


def test_a_volume_of_several_scales_and_one_of_a_cut_header_have_their_reasons(tmp_path: Path) -> None:
    scan = save_enhanced(tmp_path / "mixed", draw_chest())
    dataset = dcmread(scan)
    del dataset.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence
    dataset.save_as(scan)
    ((_, fault),) = ask(scan, build_classifier())
    assert "mixed: 1 slices cannot be brought to Hounsfield units, and 9 can" in str(fault)
    scan = save_enhanced(tmp_path / "cut", draw_chest())
    dataset = dcmread(scan)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:3]
    dataset.save_as(scan)
    ((_, fault),) = ask(scan, build_classifier())
    assert "its header describes 3 frames; frame 10 has no description" in str(fault)


def test_a_slice_across_its_series_is_refused_and_each_fault_is_its_own(tmp_path: Path) -> None:
    paths = save_series(tmp_path / "scan", draw_chest())
    dataset = dcmread(paths[4])
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    dataset.save_as(paths[4])
    (tmp_path / "scan" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "scan" / "empty.png").write_bytes(b"")
    for form in (GREY, BESIDE):
        found = dict(ask(tmp_path / "scan", build_classifier(form=form)))
        assert get_answer((paths[0], found.pop(tmp_path / "scan"))).num_slices == 9
        assert "a slice of another direction or size" in str(found.pop(paths[4]))
        assert "No such file" in str(found.pop(tmp_path / "scan" / "gone.png"))
        assert "neither DICOM nor an image" in str(found.pop(tmp_path / "scan" / "empty.png"))
        assert not found


def test_a_patient_has_one_answer_by_the_models_verdict_and_a_bad_file_its_reason(tmp_path: Path) -> None:
    for name, greys in (("ann", (10, 200, 90)), ("bob", (30, 40))):
        for number, grey in enumerate(greys):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("L", (SIZE, SIZE), grey).save(tmp_path / name / f"{number}.png")
    (tmp_path / "bob/bad.png").write_bytes(b"no image")
    top = PatientVerdict(rule=PatientRule(name="top_k_mean", k=1))
    found = list_patients([tmp_path])
    assert found.lines == ("2, by folders (2)",)
    answers = dict(classify_patients(found.patients, replace(build_classifier(), verdict=top)))
    slices = dict(ask(tmp_path, build_classifier()))
    of_ann = [get_answer((path, found)) for path, found in slices.items() if path.parent.name == "ann"]
    most = max(of_ann, key=lambda answer: float(answer.probabilities[0]))
    ann = get_answer((tmp_path / "ann", answers[tmp_path / "ann"]))
    assert ann.num_slices == 3
    assert ann.probabilities == pytest.approx(most.probabilities)
    assert get_answer((tmp_path / "bob", answers[tmp_path / "bob"])).num_slices == 2
    assert "bad.png" in str(answers[tmp_path / "bob/bad.png"])
