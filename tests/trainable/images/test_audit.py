"""The audit: counts, odd files by content, duplicates, and no more than a screen of text."""

from __future__ import annotations

import json
from pathlib import Path

from trainable.images.audit import Audit, audit_slices
from trainable.images.decode import ImageFacts
from trainable.images.splits import SplitRow


def row(name: str, label: str = "covid", split: str = "train", kept: bool = True) -> SplitRow:
    return SplitRow(
        path=Path("/data/set") / name,
        label=label,
        group=0,
        split=split,
        sha256=name,
        kept=kept,
        near_duplicate=not kept,
    )


def facts(sha256: str, kind: str = "PNG", mode: str = "L", side: int = 100) -> ImageFacts:
    return ImageFacts(format=kind, mode=mode, width=side, height=side, sha256=sha256, num_bytes=9, patient="Jane Doe")


def make_audit() -> Audit:
    rows = [
        row("covid/a.png"),
        row("covid/b.png", split="test"),
        row("normal/c.jpg", "normal", kept=False),
        row("normal/d.png", "normal", "val"),
        row("normal/e.png", "normal", "val"),
    ]
    found = [
        facts("1", "JPEG"),
        facts("2", mode="RGBA"),
        facts("3", "JPEG", side=60),
        facts("4"),
        facts("4"),
    ]
    return audit_slices(
        rows,
        found,
        [(1, 2, 0.97), (3, 4, 1.0)],
        num_patients=4,
        image_size=64,
        skipped=["f.png"],
        warnings=["mind the gap"],
    )


def test_counts_classes_and_splits() -> None:
    assert make_audit().counts == {
        "covid": {"train": 1, "val": 0, "test": 1},
        "normal": {"train": 1, "val": 2, "test": 0},
    }


def test_odd_files_are_named_by_kind() -> None:
    odd = make_audit().odd_files
    assert {kind: files.names for kind, files in odd.items()} == {
        "JPEG data in a .png": ("covid/a.png",),
        "mode RGBA, not 8-bit grey": ("covid/b.png",),
        "smaller than 64 px": ("normal/c.jpg",),
    }


def test_duplicates_are_told_within_and_across() -> None:
    across, within = make_audit().near_duplicates
    assert (across.first, across.second) == ("covid/b.png", "normal/c.jpg")
    assert across.across_splits and across.across_labels
    assert not within.across_splits and not within.across_labels
    assert make_audit().identical_files == (("normal/d.png", "normal/e.png"),)


def test_is_json_without_patient_ids() -> None:
    text = json.dumps(make_audit().to_dict())
    assert "Jane" not in text
    assert json.loads(text)["skipped"] == {"count": 1, "names": ["f.png"]}


def test_lines_are_few_and_tell_everything() -> None:
    lines = make_audit().lines()
    text = "\n".join(lines)
    assert len(lines) <= 20 and "Jane" not in text
    for part in ("5 slices, 4 patients, 2 classes", "mode RGBA", "0.97", "skipped: 1 (f.png)", "mind the gap"):
        assert part in text


def test_many_classes_and_kinds_still_fit_a_terminal() -> None:
    modes = [f"M{k}" for k in range(12)]
    rows = [row(f"{mode}.png", label=mode) for mode in modes]
    audit = audit_slices(rows, [facts(mode, mode=mode) for mode in modes], [], num_patients=None, image_size=64)
    assert len(audit.lines()) <= 20
    assert "patients unknown" in audit.lines()[0]
