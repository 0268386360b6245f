"""An audit by itself: real files in, findings, a page and a JSON file out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from trainable.images.audit_data import DataAudit, audit_data
from trainable.images.audit_page import write_audit
from trainable.images.findings import Severity
from trainable.images.synthetic import write_synthetic_set


@pytest.fixture(scope="module")
def clean_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_set(
        tmp_path_factory.mktemp("clean") / "set", num_patients=80, slices_per_patient=1, image_size=64
    )


@pytest.fixture(scope="module")
def bad_set(tmp_path_factory: pytest.TempPathFactory, clean_set: Path) -> Path:
    """A manifest of the set with a published split, and every fault that is looked for."""
    root = tmp_path_factory.mktemp("bad")
    rows = ["path,label,patient,split"]
    for number, path in enumerate(sorted(clean_set.glob("*/*/*.png"))):
        split = ("train", "train", "val", "test")[number % 4]
        label = path.parts[-3]
        name = f"{label}/{number:03}.png"
        (root / label).mkdir(exist_ok=True)
        image = Image.open(path)
        image.convert("RGB").save(root / name) if label == "covid" else image.save(root / name)
        rows.append(f"{name},{label},Jane Doe {number},{split}")
    source = Image.open(root / "normal/042.png").convert("L")
    ImageOps.mirror(source).save(root / "normal/mirrored.png")
    Image.new("L", (64, 64), 0).save(root / "normal/blank.png")
    (root / "normal/broken.png").write_bytes(b"no image")
    (root / "normal/copy.png").write_bytes((root / "normal/041.png").read_bytes())
    rows += ["normal/mirrored.png,normal,Jane Doe A,test", "normal/blank.png,normal,Jane Doe B,train"]
    rows += ["normal/broken.png,normal,Jane Doe C,train", "normal/copy.png,normal,Jane Doe D,test"]
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def audit(bad_set: Path, tmp_path_factory: pytest.TempPathFactory) -> DataAudit:
    return audit_data(bad_set, cache_dir=tmp_path_factory.mktemp("cache"), num_workers=2)


def titles(audit: DataAudit, severity: Severity) -> str:
    return "\n".join(finding.title for finding in audit.findings if finding.severity is severity)


def test_the_demo_is_as_good_as_clean(clean_set: Path, tmp_path: Path) -> None:
    found = audit_data(clean_set, cache_dir=tmp_path)
    assert (found.num_slices, found.num_patients) == (80, 80)
    assert "few" not in titles(found, Severity.ERROR) and not titles(found, Severity.ERROR)
    assert (
        titles(found, Severity.WARNING)
        == "a test split of 10% will hold about 8 patients; below 30 its figures say little"
    )
    assert found.exit_code == 3 and not found.pairs


def test_every_planted_fault_is_found_the_worst_first(audit: DataAudit) -> None:
    errors, warnings = titles(audit, Severity.ERROR), titles(audit, Severity.WARNING)
    assert "1 of 84 files cannot be used" in errors
    assert "of identical files in two splits" in errors
    assert "1 of 83 slices are blank" in warnings
    assert "of near-duplicates: one slice in two splits" in warnings
    assert "class covid comes from one source: its colour mode is always RGB" in warnings
    assert "classes can be told apart by file alone" in warnings
    severities = [finding.severity for finding in audit.findings]
    assert severities == sorted(severities, reverse=True) and audit.exit_code == 4
    pair = next(shown.pair for shown in audit.pairs if "mirrored" in shown.pair.second + shown.pair.first)
    assert pair.across_splits and pair.similarity > 0.99


def test_counts_are_those_of_the_manifest(audit: DataAudit) -> None:
    assert audit.counts["covid"] == {"train": 20, "val": 10, "test": 10}
    assert audit.counts["normal"] == {"train": 21, "val": 10, "test": 12}
    assert audit.num_groups["covid"] == audit.counts["covid"]


def test_the_page_stands_alone_and_names_no_patient(audit: DataAudit, tmp_path: Path) -> None:
    page, facts = write_audit(tmp_path / "new", audit)
    text = page.read_text(encoding="utf-8")
    assert "Jane" not in text and "Jane" not in facts.read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!data:)|url\(|@import|<script", text)
    assert text.count("data:image/png;base64,") == 2 * len(audit.pairs)
    assert "1 of 83 slices are blank" in text.replace("<b>", "")
    plain = json.loads(facts.read_text(encoding="utf-8"))
    assert plain["exit_code"] == 4 and plain["findings"][0]["severity"] == "error"
    assert str(audit.pairs[0].paths[0].parent) not in facts.read_text(encoding="utf-8")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["audit.html", "audit.json"]


def test_names_are_escaped_on_the_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("<b>covid", "normal"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            blob = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(blob).resize((64, 64)).save(tmp_path / "set" / label / f"{number}.png")
    page, _ = write_audit(tmp_path / "out", audit_data(tmp_path / "set", cache_dir=tmp_path))
    assert "<b>covid" not in page.read_text() and "&lt;b&gt;covid" in page.read_text()


def test_without_patients_groups_are_made_of_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("covid", "normal"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(40):
            blob = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            name = f"{label}-{10 * (number // 4) + number % 4}.png"
            Image.fromarray(blob).resize((64, 64)).save(tmp_path / "set" / label / name)
    found = audit_data(tmp_path / "set", cache_dir=tmp_path)
    assert found.num_patients is None
    assert {label: sum(groups.values()) for label, groups in found.num_groups.items()} == {"covid": 10, "normal": 10}
    assert "no patients are known: 20 groups" in titles(found, Severity.WARNING)


def test_a_set_without_one_usable_file_is_refused(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"none of the 2 files of .* can be used"):
        audit_data(tmp_path, cache_dir=tmp_path)
