"""Shortcuts: found where they are planted, silent where they are not, and COVID-CT's own."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from trainable.images.decode import read_slice
from trainable.images.shortcut_features import SIDE, Features, measure_features
from trainable.images.shortcuts import Shortcut, measure_shortcuts

NUM = 60


def draw_set(folder: Path, spoil: str = "") -> tuple[list[Features], list[str]]:
    """Sixty grey blobs of two classes that differ in nothing, but for what `spoil` names."""
    rng = np.random.default_rng(3)
    features, labels = [], []
    for number in range(NUM):
        sick = number % 2 == 1
        noise = rng.normal(0, 12, (96, 96)) + 90 + rng.normal(0, 10)
        image = Image.fromarray(np.clip(noise, 20, 235).astype(np.uint8))
        name, ending = f"{rng.integers(10**6):06}", "png"
        if sick and spoil == "lettering":
            ImageDraw.Draw(image).text((4, 4), "R L", fill=255)
        if sick and spoil == "border":
            image.paste(40, (0, 0, 96, 3))
        if sick and spoil == "grey levels":
            image = image.point([min(255, level + 40) for level in range(256)])
        if sick and spoil == "name":
            name = f"covid-{name}"
        if sick and spoil == "file":
            image = image.convert("RGB")
        path = folder / f"{name}.{ending}"
        image.save(path, compress_level=0, dpi=(72, 72) if sick and spoil == "header" else (96, 96))
        facts, pixels = read_slice(path, SIDE)
        features.append(measure_features(path, path.name, facts, pixels))
        labels.append("sick" if sick else "well")
    return features, labels


def measure(features: list[Features], labels: list[str]) -> dict[str, Shortcut]:
    found = measure_shortcuts(features, labels, np.arange(len(labels)))
    return {shortcut.group: shortcut for shortcut in found}


@pytest.mark.parametrize(
    ("group", "named"),
    [
        ("lettering", "strokes at the top left"),
        ("border", "top border"),
        ("grey levels", "level below"),
        ("name", "name"),
        ("file", "colour mode"),
        ("header", "dots per inch"),
    ],
)
def test_a_planted_shortcut_is_warned_of_by_its_name(group: str, named: str, tmp_path: Path) -> None:
    found = measure(*draw_set(tmp_path, group))
    assert found[group].is_warning and found[group].auc > 0.9
    assert any(named in name for name, _ in found[group].features)


def test_classes_that_differ_in_nothing_are_no_shortcut(tmp_path: Path) -> None:
    found = measure(*draw_set(tmp_path))
    assert not any(shortcut.is_warning for shortcut in found.values())
    assert {group for group, shortcut in found.items() if shortcut.seen} == {"border", "grey levels"}  # no lettering


def test_too_few_groups_are_not_judged(tmp_path: Path) -> None:
    features, labels = draw_set(tmp_path, "file")
    assert measure_shortcuts(features, labels, np.arange(NUM) // 8) == ()


def test_a_broken_header_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (40, 40), 9).save(path)
    facts, pixels = read_slice(path, SIDE)
    path.write_bytes(b"\\x89PNG broken")
    assert measure_features(path, "a.png", facts, pixels)["header"] == {}


def test_three_classes_are_judged_one_against_the_rest(tmp_path: Path) -> None:
    features, _ = draw_set(tmp_path)
    rng = np.random.default_rng(0)
    labels = [str(number) for number in rng.integers(0, 3, NUM)]
    for row, label in zip(features, labels, strict=True):
        row["file"]["width"] = float(label)
    found = measure(features, labels)["file"]
    assert found.features[0] == ("width", 1.0) and found.is_warning


def test_covid_ct_is_told_apart_by_its_files_alone(shared_data: Path) -> None:
    with (shared_data / "covid-ct" / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] != "test"][::2]
    features = []
    for row in rows:
        path = shared_data / "covid-ct" / row["path"]
        facts, pixels = read_slice(path, SIDE)
        features.append(measure_features(path, row["path"], facts, pixels))
    patients = np.unique([row["patient"] for row in rows], return_inverse=True)[1]
    found = measure_shortcuts(features, [row["label"] for row in rows], patients)
    by_group = {shortcut.group: shortcut for shortcut in found}
    assert by_group["file"].is_warning and by_group["file"].auc > 0.75
