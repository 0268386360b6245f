"""One table for each split: labels and patients are one over all of them, and what none lists is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.trainable.images.sets import fill, listed, read

IMAGES = [f"im{number}.png" for number in range(12)]


def write(root: Path, name: str, images: Sequence[str], columns: str, *values: Sequence[str]) -> Path:
    """A table of images and, for each further column, its values in turn."""
    fill(root, *IMAGES)
    rows = [",".join([image, *(column[n % len(column)] for column in values)]) for n, image in enumerate(images)]
    (root / name).write_text("\n".join([columns, *rows]))
    return root


def test_patients_and_labels_in_several_forms_are_one_over_all_tables(tmp_path: Path) -> None:
    write(tmp_path / "x", "train.csv", IMAGES[:8], "path,label,patient", ["0", "1"], ["7", "8", "09", "10"])
    root = write(tmp_path / "x", "test.csv", IMAGES[8:], "path,label,patient", ["0.0", "1.0"], ["7.0", '="09"', "11.0"])
    found = read(root)
    assert found.classes == ("0", "1")
    of = {name: patient for name, (_, patient, _) in listed(found).items()}
    assert of["im0.png"] == of["im8.png"] and of["im2.png"] == of["im9.png"] and len(set(of.values())) == 5
    assert "1 patients are written in several forms (as 1 and 1.0)" in found.found.notes


def test_a_column_of_patients_in_some_tables_only_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x", "train.csv", IMAGES[:8], "path,label,patient", "ab", ["p1", "p2"])
    root = write(tmp_path / "x", "test.csv", IMAGES[8:], "path,label", "ab")
    with pytest.raises(ValueError, match=r"train\.csv has a column for patients and .*test\.csv has none"):
        read(root)


def test_what_no_table_lists_is_told(tmp_path: Path) -> None:
    write(tmp_path / "x", "train.csv", IMAGES[:6], "path,label", "ab")
    root = write(tmp_path / "x", "test.csv", IMAGES[6:9], "path,label", "ab")
    assert read(root).found.left_out == (
        "3 of 12 files beside the table are not in it and are left out (im10.png, ...)",
    )


@pytest.mark.parametrize("folder", ["", "images/"])
def test_what_a_table_given_by_itself_does_not_list_is_told(folder: str, tmp_path: Path) -> None:
    root = fill(tmp_path / "x", *(f"{folder}{image}" for image in IMAGES))
    (root / "m.csv").write_text("path,label\n" + "".join(f"{folder}{IMAGES[n]},{'ab'[n % 2]}\n" for n in range(4)))
    assert "8 of 12 files beside the table are not in it" in read(root / "m.csv").found.left_out[0]
