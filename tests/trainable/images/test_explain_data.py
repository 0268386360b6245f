from __future__ import annotations

from pathlib import Path

from tests.trainable.images.sets import AB, TWO, fill, join
from trainable.images.explain_data import explain_data
from trainable.images.reading import MAX_ITEMS, Reading


def test_the_first_slices_are_shown_as_they_were_understood_and_patients_are_numbers(tmp_path: Path) -> None:
    names = [f"Train/{label}/Doe {label}{n}/{k}" for label in AB for n in range(2) for k in TWO]
    root = fill(tmp_path / "x", *names, "test/COVID/Roe/1.png", "test/Normal/Poe/1.png")
    lines = explain_data(root, unpack_into=tmp_path / "u")
    table = lines[lines.index("First slices:") + 1 :]
    assert [line.split("  ")[-1].strip() for line in table] == ["patient", "1", "1", "2", "3", "5", "6"]
    assert table[1].split()[-3:] == ["COVID", "train", "1"]
    assert lines[0] == "Read as:" and not any("Doe" in line for line in lines[: lines.index("First slices:")])


def test_unknown_patients_and_splits_are_said_to_be(tmp_path: Path) -> None:
    lines = explain_data(fill(tmp_path / "x", *join(AB, TWO)), unpack_into=tmp_path / "u")
    assert lines[-1].split("  ")[-2:] == ["to be drawn", "unknown"]


def test_a_long_reading_is_cut_and_every_line_is_printable() -> None:
    many = tuple(f"line {n}\n" for n in range(20))
    reading = Reading(
        source="x\r",
        layout="CLASS/slice",
        columns=(),
        splits=(),
        classes=tuple((f"class {n}", n) for n in range(20)),
        positive="",
        patients="unknown",
        left_out=many,
        notes=(),
        warnings=("one\ttwo",),
    )
    lines = reading.lines()
    assert all(line.isprintable() for line in lines) and len(lines) < 20
    assert sum("left out" in line for line in lines) == MAX_ITEMS + 1 and "and 14 more of such lines" in "".join(lines)
    assert any(line.endswith("class 5 5 and 14 more") for line in lines)
