from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainable.images.phantoms import draw_chest, save_nifti
from trainable.images.decode import BadImageError
from trainable.images.expand import expand_volumes
from trainable.images.manifest import Slice
from trainable.images.members import cut_runs, hash_member, name_member, split_member
from trainable.images.rows import Row
from trainable.images.slice_rule import SliceRule


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    return [
        Row(path=save_nifti(tmp_path / "CT-0" / "study_1.nii.gz", draw_chest()), name="one", label="CT-0"),
        Row(path=tmp_path / "CT-0" / "a.png", name="a", label="CT-0", patient="a", split="train"),
        Row(
            path=save_nifti(tmp_path / "CT-1" / "study_1.nii", draw_chest()),
            name="two",
            label="CT-1",
            patient="p",
            split="val",
        ),
    ]


def test_a_volume_becomes_slices_of_one_patient(rows: list[Row]) -> None:
    found = expand_volumes(rows, SliceRule.parse("every:4"), num_workers=2)
    assert [(row.path.name, row.label, row.split) for row in found.rows] == [
        ("study_1.nii.gz#1", "CT-0", None),
        ("study_1.nii.gz#5", "CT-0", None),
        ("study_1.nii.gz#9", "CT-0", None),
        ("a.png", "CT-0", "train"),
        *(("study_1.nii#1", "CT-1", "val"), ("study_1.nii#5", "CT-1", "val"), ("study_1.nii#9", "CT-1", "val")),
    ]
    assert [row.patient for row in found.rows] == [str(rows[0].path)] * 3 + ["a"] + ["p"] * 3
    assert found.notes == (
        "volumes: 2 were read as 6 slices, by the rule every:4",
        "volumes: of 1 no patient is given; each counts as a patient of its own",
    )


def test_slices_of_a_manifest_are_expanded_too(rows: list[Row]) -> None:
    item = Slice(path=rows[0].path, name="CT-0/study_1.nii.gz", label=1)
    found = expand_volumes([item], SliceRule(kind="lung"))
    assert [split_member(row.path) for row in found.rows] == [(item.path, number) for number in range(3, 8)]
    assert {row.label for row in found.rows} == {1}
    assert found.rows[0].name == "CT-0/study_1.nii.gz#3"


def test_without_volumes_nothing_changes(rows: list[Row]) -> None:
    found = expand_volumes(rows[1:2], SliceRule())
    assert found.rows == (rows[1],) and not found.notes


def test_a_bad_volume_is_named_or_skipped(rows: list[Row]) -> None:
    rows[0].path.write_bytes(b"no volume")
    for rule in (SliceRule(), SliceRule(kind="lung")):
        with pytest.raises(BadImageError, match=r"CT-0/study_1.nii.gz: .*\(1 of 2 volumes cannot be used\)"):
            expand_volumes(rows, rule)
        found = expand_volumes(rows, rule, skip_bad_images=True)
        assert len(found.skipped) == 1 and "study_1.nii.gz: " in found.skipped[0]
        assert {row.label for row in found.rows} == {"CT-0", "CT-1"}
    rows[2].path.write_bytes(b"no volume")
    with pytest.raises(BadImageError, match="2 of 2 volumes"):
        expand_volumes(rows, SliceRule(), skip_bad_images=True)


def test_an_image_inside_a_file_has_a_path_and_a_hash_of_its_own() -> None:
    path = Path("/data/b.NII.gz")
    assert split_member(name_member(path, 17)) == (path, 17)
    for name in ("a.png", "a.nii.gz", "a.nii.gz#", "a.png#3", "a.nii#x", "a.nii#3.png"):
        assert split_member(Path(name)) is None
    assert len({hash_member(file, number) for file in ("a", "b") for number in (1, 2)}) == 4


def test_images_of_one_file_are_read_together() -> None:
    one, other = Path("a.nii"), Path("b.npz")
    paths = [*(Path(f"{i}.png") for i in range(5)), *(name_member(one, i) for i in range(9)), name_member(other, 3)]
    assert [paths[run] for run in cut_runs(paths, 2)] == [paths[0:2], paths[2:4], paths[4:5], paths[5:14], paths[14:]]
