"""Sets of DICOM series and of files of several frames: read as volumes, as NIfTI is, and to the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from tests.trainable.images.dicom_files import build, save
from tests.trainable.images.phantoms import draw_chest, save_nifti
from tests.trainable.images.series_files import as_seen, save_enhanced, save_series
from tests.trainable.images.sets import fill
from tests.trainable.images.test_channels import SIZE, prepare
from trainable.images.audit_data import audit_data
from trainable.images.cache import build_cache
from trainable.images.decode import BadImageError
from trainable.images.explain_data import explain_data
from trainable.images.find_slices import find_slices
from trainable.images.mapped import open_pixels
from trainable.images.members import name_frame, split_member
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.prepare import open_sealed_test
from trainable.images.slice_rule import SliceRule
from trainable.images.splits import read_splits
from trainable.images.windows import parse_windows

NUM_PATIENTS = 20
FORMS = (
    GREY,
    PixelFormat(neighbours=1, windows=parse_windows("lung,bone")),
    PixelFormat(neighbours=2, neighbour_mm=10),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PACS exports, class/patient/study/series, with a localizer and a report; every other one is an enhanced CT."""
    root = tmp_path_factory.mktemp("tree")
    for number in range(NUM_PATIENTS):
        folder = root / ("ill" if number % 2 else "well") / f"P{number:02}" / "study" / "series"
        values = draw_chest(seed=number)
        if number % 4 < 2:
            save_series(folder, values, patient=f"P{number:02}", uid=f"1.2.{number}")
        else:
            order = np.random.default_rng(number).permutation(values.shape[2])
            save_enhanced(folder / f"enhanced-{number:02}", values, patient=f"P{number:02}", order=order)
    scout = build(as_seen(values, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="1.2.1")
    (root / "ill" / "P01" / "study" / "series" / "scout").write_bytes(save(scout))
    return root


def load(data: Path, home: Path, form: PixelFormat, rule: str) -> dict[tuple[str, int], np.ndarray]:
    """The pixels of train and val and of the test, by the patient's folder or file and the slice's rank in it."""
    training = prepare(data, home, form, rule).training
    rows = read_splits(home / "splits.csv")
    shown = [row for split in ("train", "val") for row in rows if row.split == split and row.kept]
    test = open_sealed_test(home / "splits.csv", cache_dir=home / "cache", image_size=SIZE, form=form)
    ordered = [*shown, *(row for row in rows if row.split == "test")]
    pixels = [*open_pixels(Path(training.pixels_path)), *test.pixels]
    found: dict[tuple[str, int], np.ndarray] = {}
    for row, image in zip(ordered, pixels, strict=True):
        member = split_member(row.path)
        patient = next(part[:3] for part in row.path.parts if part.startswith("P") and part[1:3].isdigit())
        rank = member[1] if member and row.path.name.find("#frame") < 0 else len(found)
        found[patient, rank] = image
    return found


@pytest.mark.parametrize("rule", ["all", "middle", "every:3", "lung"])
def test_series_and_frames_are_volumes_as_nifti_is(rule: str, tree: Path, tmp_path: Path) -> None:
    expected_slices = {"all": 10, "middle": 1, "every:3": 3, "lung": 5}[rule]
    prepared = prepare(tree, tmp_path, rule=rule)
    rows = read_splits(tmp_path / "splits.csv")
    assert len(rows) == NUM_PATIENTS * expected_slices
    assert prepared.grouped_by == "patient" and prepared.audit.num_patients == NUM_PATIENTS
    assert (prepared.training.slices, prepared.training.in_hounsfield) == (rule, True)
    assert len({(row.group, row.split) for row in rows}) == NUM_PATIENTS
    lines = prepared.reading.lines()
    assert (
        f"  note      DICOM series: {NUM_PATIENTS} were read as {NUM_PATIENTS * expected_slices} slices, by the rule "
        f"{rule}" in lines
    )
    assert any(line.startswith("  left out  1 files are left out: a localizer") for line in lines)
    assert any(line.startswith("1 files are left out: a localizer") for line in prepared.warnings)


@pytest.mark.parametrize("form", FORMS)
def test_a_series_an_enhanced_ct_and_a_nifti_file_of_one_scan_have_the_same_pixels(
    form: PixelFormat, tmp_path: Path
) -> None:
    values = draw_chest()
    nifti = save_nifti(tmp_path / "a.nii", values)
    series = save_series(tmp_path / "series", values)
    order = np.random.default_rng(1).permutation(values.shape[2])
    enhanced = save_enhanced(tmp_path / "enhanced", values, order=order)
    kinds = {
        "nifti": [nifti.with_name(f"{nifti.name}#{index}") for index in range(10)],
        "series": series,
        "enhanced": [name_frame(enhanced, int(np.flatnonzero(order == index)[0])) for index in range(10)],
    }
    found = {}
    for kind, paths in kinds.items():
        rows = prepare_rows(paths)
        file = build_cache(paths, hashes=rows, size=SIZE, folder=tmp_path / "cache" / kind, num_workers=2, form=form)
        found[kind] = open_pixels(file)
    for kind in ("series", "enhanced"):
        np.testing.assert_array_equal(found[kind], found["nifti"], err_msg=kind)


def prepare_rows(paths: list[Path]) -> list[str]:
    """The SHA-256 of each image, as `read_all` finds it."""
    from trainable.images.read_many import read_all

    hashes = list(read_all(paths, SIZE, 1, lambda path, facts, pixels: facts.sha256))
    assert all(isinstance(found, str) for found in hashes), hashes
    return [str(found) for found in hashes]


def test_neighbours_that_are_no_slices_of_the_set_are_part_of_the_cache(tmp_path: Path) -> None:
    paths = save_series(tmp_path / "series", draw_chest())
    form = PixelFormat(neighbours=1)
    (sha,) = prepare_rows(paths[4:5])

    def build_it() -> Path:
        return build_cache(paths[4:5], hashes=[sha], size=SIZE, folder=tmp_path / "c", num_workers=1, form=form)

    first = build_it()
    assert build_it() == first
    paths[5].write_bytes(paths[9].read_bytes())
    assert build_it() != first
    paths[4].write_bytes(paths[9].read_bytes())
    with pytest.raises(ValueError, match="has changed since the search began"):
        build_it()


def test_neighbours_by_distance_pass_over_missing_slices(tmp_path: Path) -> None:
    values = draw_chest()
    nifti = save_nifti(tmp_path / "a.nii", values)
    paths = save_series(tmp_path / "series", values)
    paths[3].unlink()
    form = PixelFormat(neighbours=1, neighbour_mm=10)
    found = {}
    for kind, path in {"nifti": nifti.with_name("a.nii#4"), "series": paths[4]}.items():
        hashes = prepare_rows([path])
        found[kind] = open_pixels(
            build_cache([path], hashes=hashes, size=SIZE, folder=tmp_path, num_workers=1, form=form)
        )
    np.testing.assert_array_equal(found["series"], found["nifti"])


@pytest.mark.parametrize("form", FORMS)
def test_a_search_reads_trees_with_neighbours_too(form: PixelFormat, tree: Path, tmp_path: Path) -> None:
    found = load(tree, tmp_path, form, "every:3")
    assert len(found) >= NUM_PATIENTS * 3 - 3  # near-duplicates may be taken out
    assert {image.shape for image in found.values()} == {
        (SIZE, SIZE, form.num_channels) if form.num_channels > 1 else (SIZE, SIZE)
    }


def test_missing_slices_and_a_tilted_gantry_are_told_by_reading_and_audit(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / "data" / "ab"[number % 2] / f"P{number}"
        paths = save_series(folder, draw_chest(seed=number), patient=f"P{number}", uid=f"1.2.{number}")
        if number < 3:
            paths[4].unlink()
    said = "3 of 8 DICOM series: 1 slices are missing (spacing 5.00 mm, gaps after 15.0 mm)"
    assert any(line.endswith(f"warning   {said}") for line in explain_data(tmp_path / "data", unpack_into=tmp_path))
    assert any(said in line for line in audit_data(tmp_path / "data", cache_dir=tmp_path / "c").lines())


def test_a_series_without_lung_is_refused_skipped_or_noted(tmp_path: Path) -> None:
    for number in range(4):
        lung = slice(0, 0) if number == 0 else slice(3, 8)
        save_series(tmp_path / "ab"[number % 2] / f"P{number}", draw_chest(lung=lung), patient=f"P{number}")
    rule = SliceRule(kind="lung")
    with pytest.raises(BadImageError, match=r"a/P0: no slice shows lung: .*\(1 of 4 series cannot be used\)"):
        find_slices(tmp_path, unpack_into=tmp_path, slice_rule=rule)
    skipped = find_slices(tmp_path, unpack_into=tmp_path, slice_rule=rule, skip_bad_images=True).manifest
    assert len(skipped.slices) == 15 and "P0: no slice shows lung" in skipped.skipped[0]
    lines = explain_data(tmp_path, unpack_into=tmp_path, slice_rule=rule)
    assert any("DICOM series: 1 of 4 cannot be used, the first" in line for line in lines)


def test_frames_of_files_that_say_no_patient_stay_together(tmp_path: Path) -> None:
    for number in range(6):
        save_enhanced(tmp_path / "ab"[number % 2] / f"scan{number}", draw_chest(seed=number), patient=None)
    found = find_slices(tmp_path, unpack_into=tmp_path)
    assert found.patients.ids is not None and len(set(found.patients.ids)) == 6
    for number in range(6):
        save_enhanced(tmp_path / "ab"[number % 2] / f"scan{number}", draw_chest(seed=number), patient="ANONYMOUS")
    found = find_slices(tmp_path, unpack_into=tmp_path)
    assert found.patients.ids is not None and len(set(found.patients.ids)) == 6


def test_volumes_beside_images_of_unknown_patients_are_refused(tmp_path: Path) -> None:
    save_series(tmp_path / "a", draw_chest(), patient=None, uid="1.2.1")
    fill(tmp_path, "b/1.png", "b/2.png")
    with pytest.raises(ValueError, match=r"10 slices belong to volumes, and 2 images \(b/1.png\) to nobody that is"):
        find_slices(tmp_path, unpack_into=tmp_path)
    (tmp_path / "b" / "1.png").unlink()
    (tmp_path / "t.csv").write_text("path,label\nv.nii.gz,a\nb/2.png,b\n")
    save_nifti(tmp_path / "v.nii.gz", draw_chest())
    with pytest.raises(ValueError, match=r"10 slices belong to volumes, and 1 images \(b/2.png\)"):
        find_slices(tmp_path / "t.csv", unpack_into=tmp_path)


def test_images_without_neighbours_are_refused_where_these_are_asked_for(tmp_path: Path) -> None:
    for number in range(4):
        save_series(tmp_path / "ab"[number % 2] / f"P{number}", draw_chest(seed=number), patient=f"P{number}")
    lonely = build(as_seen(draw_chest(), 0), PatientID="P9", SeriesInstanceUID="1.3")
    (tmp_path / "a" / "P9").mkdir()
    (tmp_path / "a" / "P9" / "x.dcm").write_bytes(save(lonely))
    with pytest.raises(ValueError, match=r"1 of 41 images have no neighbours \(a/P9/x.dcm\)"):
        prepare(tmp_path, tmp_path / "home", PixelFormat(neighbours=1))


def test_radiographs_of_one_study_are_no_volume(tmp_path: Path) -> None:
    for number in range(4):
        for view in range(2):
            path = tmp_path / "ab"[number % 2] / f"P{number}" / f"{view}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            stored = np.random.default_rng([number, view]).integers(0, 4000, (20 + view, 24))
            headers: dict[str, Any] = {
                "Modality": "DX",
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
                "InstanceNumber": view,
            }
            path.write_bytes(save(build(stored, PatientID=f"P{number}", SeriesInstanceUID=f"1.{number}", **headers)))
    found = find_slices(tmp_path, unpack_into=tmp_path, slice_rule=SliceRule(kind="middle"))
    assert len(found.manifest.slices) == 8 and not found.volumes and not found.left_out


def test_a_slice_whose_neighbour_is_damaged_is_found_out_before_anything_is_trained(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / "data" / "ab"[number % 2] / f"P{number}"
        save_series(folder, draw_chest(seed=number), patient=f"P{number}", uid=f"1.2.{number}")
    paths = save_series(tmp_path / "data" / "a" / "P0", draw_chest(seed=0), patient="P0", uid="1.2.0")
    paths[3].write_bytes(paths[3].read_bytes()[:-900])
    form = PixelFormat(neighbours=1)
    with pytest.raises(BadImageError, match=paths[3].name):
        prepare(tmp_path / "data", tmp_path / "home", form)
    prepare(tmp_path / "data", tmp_path / "home", form, skip_bad_images=True)
    rows = read_splits(tmp_path / "home" / "splits.csv")
    assert len(rows) == 77 and not {row.path for row in rows} & set(paths[2:5])
    with pytest.raises(BadImageError, match=rf"{paths[2].name}: its neighbour {paths[3].name} cannot be used"):
        prepare(tmp_path / "data", tmp_path / "again", form, "every:3")  # 2, 5, 8: the damaged one is no row of its own


def test_a_scanners_series_without_any_order_is_told(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / "ab"[number % 2] / f"P{number}"
        paths = save_series(folder, draw_chest(seed=number), patient=f"P{number}", uid=f"1.2.{number}")
        for path in paths if number == 0 else ():
            (dataset := dcmread(path)).ImagePositionPatient = None
            dataset.save_as(path)
    found = find_slices(tmp_path, unpack_into=tmp_path, slice_rule=SliceRule(kind="middle"))
    assert len(found.manifest.slices) == 10 + 7
    assert any("1 of 8 DICOM series have neither positions nor numbers" in line for line in found.reading.lines())
