"""A challenger on data that has changed since the champion was found: compared on patients that neither has seen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from search.champion import promotion
from search.champion.promotion import TestOfBoth, judge_on_new_patients
from trainable.classifier import Classifier, load_registered
from trainable.config import TrialConfig
from trainable.export import ModelFacts, save_pixel_model
from trainable.images.prepare import SealedTest
from trainable.images.seen import find_unseen, shorten, write_seen
from trainable.images.splits import SplitRow

NUM_PATIENTS, SLICES_EACH, SIZE = 40, 2, 4


def draw_test() -> tuple[SealedTest, np.ndarray]:
    """A test of 40 patients with two slices each, the ill ones brighter, and what a perfect challenger says of it."""
    groups = np.repeat(np.arange(NUM_PATIENTS), SLICES_EACH)
    labels = groups % 2
    pixels = np.repeat(100 + 50 * labels, SIZE * SIZE).reshape(-1, SIZE, SIZE).astype(np.uint8)
    hashes = tuple(f"{number:016x}" for number in range(len(groups)))
    ill = np.where(labels == 1, 0.9, 0.1) + np.linspace(0, 0.05, len(labels))
    sealed = SealedTest(
        pixels=pixels, labels=labels, groups=groups, has_near_duplicate=np.zeros(len(labels), bool), hashes=hashes
    )
    return sealed, np.stack([1 - ill, ill], axis=1)


def judge(
    monkeypatch: pytest.MonkeyPatch, *, seen: frozenset[str], is_right: bool = False
) -> tuple[promotion.Verdict, list[int]]:
    """The verdict, and how many slices the present champion was asked about."""
    sealed, probabilities = draw_test()
    asked: list[int] = []

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        asked.append(len(pixels))
        share = (pixels.float().mean(dim=(1, 2)) / 255).round(decimals=3)
        noise = torch.linspace(0, 1, len(pixels)) if not is_right else torch.zeros(len(pixels))
        ill = share * is_right + noise * (not is_right)
        return torch.stack([1 - ill, ill], dim=1)

    present = Classifier(label="", classes=("healthy", "ill"), image_size=SIZE, predict=predict, seen=seen)
    monkeypatch.setattr(promotion, "load_present", lambda finish, uri: present)
    finish: Any = SimpleNamespace(
        task=SimpleNamespace(data=SimpleNamespace(positive=1), settings=SimpleNamespace(metric="auc")),
        group_name="patients",
    )
    verdict = judge_on_new_patients("models:/m/1", finish, TestOfBoth(sealed=sealed, probabilities=probabilities))
    return verdict, asked


def test_both_are_compared_on_patients_of_whom_not_one_image_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    first_of_each = frozenset(f"{number:016x}" for number in range(0, 20, 2))
    verdict, asked = judge(monkeypatch, seen=first_of_each)
    assert verdict.is_better
    assert verdict.words.startswith("the data has changed; on 30 test patients that neither was trained on, ")
    assert sum(asked) == 60, "the second slices of the ten seen patients are left out too"


def test_one_that_is_as_good_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, _ = judge(monkeypatch, seen=frozenset({"f" * 16}), is_right=True)
    assert not verdict.is_better and "on 40 test patients" in verdict.words


def test_where_few_are_new_or_nothing_is_known_the_challenger_waits_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = frozenset(f"{number:016x}" for number in range(62))
    verdict, asked = judge(monkeypatch, seen=seen)
    assert not verdict.is_better and not asked
    assert "9 test patients are new to it, and 10 must be: not compared (--promote always" in verdict.words
    verdict, _ = judge(monkeypatch, seen=frozenset())
    assert "it does not say which images it was trained on" in verdict.words


def test_a_model_says_what_it_has_seen_by_hashes_of_train_and_val_alone(tmp_path: Path) -> None:
    rows = [
        SplitRow(
            path=Path(f"/ann/{number}.png"),
            label="ill",
            group=number,
            split=split,
            sha256=f"{number:064x}"[::-1],
            kept=split != "val",
            near_duplicate=False,
        )
        for number, split in enumerate(("train", "val", "test"), start=1)
    ]
    facts = ModelFacts(
        name="m",
        classes=("healthy", "ill"),
        positive=1,
        image_size=32,
        data_hash="0" * 16,
        search="s",
        trial=0,
        metric="auc",
        value=0.5,
    )
    from trainable.architectures import build_model

    model = build_model(TrialConfig(architecture="small_cnn", cnn_filters=4), 2)
    save_pixel_model(model, facts, tmp_path / "pixels", seen=write_seen(rows))
    assert "ann" not in write_seen(rows)
    found = load_registered(str(tmp_path / "pixels"))
    assert found.seen == {shorten(row.sha256) for row in rows[:2]}
    assert find_unseen(np.array([7, 7, 8]), ["a", "b", "c"], {"b"}).tolist() == [False, False, True]
