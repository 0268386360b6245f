"""The champion of a confirmation: real models of two folds, on slices that tell one class from the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from search.champion.confirmed import build_confirmed, load_member, prefers
from search.core.confirmation import Confirmation
from search.core.ledger import Ledger, TrialEntry
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.config import TrialConfig, TrialSettings
from trainable.images.prepare import TrainingData
from trainable.metrics import score
from trainable.report import Outcome
from trainable.served_model import predict
from trainable.task import TrialTask, locate_trial
from trainable.train import train
from trainable.verdicts import MEAN_VERDICT, PatientRule, PatientVerdict

SIZE, EPOCHS = 32, 3
MEMBERS = (5, 2)
CONFIRMATION = Confirmation(members=MEMBERS, num_folds=2)


@dataclass(frozen=True, kw_only=True)
class Folds:
    task: TrialTask
    ledger: Ledger


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Folds:
    """Trials 5 and 2, each trained in both folds of 24 patients with two slices each."""
    folder = tmp_path_factory.mktemp("folds")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 24)
    pixels = rng.normal(100 + 30 * labels[:, None, None], 60, (48, SIZE, SIZE)).clip(0, 255).astype(np.uint8)
    np.save(folder / "pixels.npy", pixels)
    data = TrainingData(
        name="two greys",
        data_hash="0" * 16,
        classes=("dark", "light"),
        positive=1,
        image_size=SIZE,
        pixels_path=str(folder / "pixels.npy"),
        labels=labels,
        is_val=np.arange(48) % 6 < 2,
        groups=np.arange(48) // 2,
    )
    settings = TrialSettings(
        classes=data.classes, positive=1, image_size=SIZE, max_epochs=EPOCHS, deterministic=True, keeps_last=True
    )
    task = TrialTask(
        search="s", settings=settings, data=data, trials_uri=str(folder / "trials"), node_dir=str(folder), num_folds=2
    )
    ledger = Ledger()
    for number, rate in zip(MEMBERS, (3e-3, 1e-3), strict=True):
        config = TrialConfig(architecture="small_cnn", cnn_filters=8, batch_size=8, learning_rate=rate)
        entry = TrialEntry(number=number, params=config.to_params(), values={1: 0.8}, outcome=Outcome.COMPLETED)
        ledger.restore(entry)
        for training in CONFIRMATION.trainings_of(number):
            with CheckpointWriter(CheckpointStore(locate_trial(task.trials_uri, training))) as writer:
                list(train(config, settings, task.data_of(training), checkpoints=writer))
    return Folds(task=task, ledger=ledger)


def test_folds_part_the_patients_of_train_and_val(folds: Folds) -> None:
    held_out = [folds.task.data_of(training).is_val for training in range(4)]
    assert (held_out[0] ^ held_out[1]).all(), "each slice is in one fold"
    assert (held_out[0] == held_out[2]).all() and (held_out[1] == held_out[3]).all(), "the same for every trial"
    groups = folds.task.data.groups
    assert not set(groups[held_out[0]]) & set(groups[held_out[1]])
    assert replace(folds.task, num_folds=0).data_of(3) is folds.task.data


def test_the_last_epoch_is_kept_whatever_its_value(folds: Folds) -> None:
    for training in range(4):
        loaded = CheckpointStore(locate_trial(folds.task.trials_uri, training)).load("best")
        assert loaded is not None
        assert loaded[1]["epoch"] == EPOCHS and loaded[1]["finished"]


def test_every_slice_is_scored_by_the_model_that_has_not_seen_its_patient(folds: Folds) -> None:
    member = load_member(CONFIRMATION, folds.ledger.entries[5], folds.task)
    assert member is not None
    data = folds.task.data
    pixels = np.load(data.pixels_path)
    for fold, model in enumerate(member.models):
        rows = folds.task.data_of(fold).is_val
        assert np.allclose(member.predictions[rows], predict(model, pixels[rows], data.labels[rows])[1], atol=1e-6)
        turned = np.ascontiguousarray(pixels[rows][:, :, ::-1])
        assert np.allclose(member.mirrored[rows], predict(model, turned, data.labels[rows])[1], atol=1e-6)
        assert not np.allclose(member.mirrored[rows], member.predictions[rows], atol=1e-6)


def test_the_champion_is_the_mean_of_all_folds_and_its_value_that_on_patients_not_seen(folds: Folds) -> None:
    built = build_confirmed(CONFIRMATION, folds.ledger, folds.task, goals={"min_sensitivity": 0.8})
    assert built is not None
    assert set(built.numbers) <= set(MEMBERS) and built.num_folds == 2
    assert len(built.model.members) == 2 * len(built.numbers)
    assert built.model.weights is not None and sum(built.model.weights) == pytest.approx(1)
    data = folds.task.data
    assert built.probabilities.shape == (data.is_val.sum(), 2)
    assert built.value > 0.8, "the greys are easily told apart"
    assert built.point is not None
    pixels = np.load(data.pixels_path)
    probabilities = built.model.predict(pixels, data.labels)
    served = built.model.to_served()
    import torch

    assert np.allclose(served(torch.from_numpy(pixels)).detach().numpy(), probabilities, atol=1e-5)
    assert score(data.labels, probabilities, 1)["auc"] > 0.8


@pytest.mark.parametrize("is_better", [False, True])
def test_mirror_images_are_looked_at_where_patients_not_seen_speak_for_it(
    folds: Folds, monkeypatch: pytest.MonkeyPatch, is_better: bool
) -> None:
    asked: list[np.ndarray] = []

    def prefer(challenger: np.ndarray, champion: np.ndarray, data: TrainingData, metric: str) -> tuple[bool, str]:
        asked.extend([challenger, champion])
        return is_better, f"{metric} differs"

    monkeypatch.setattr("search.champion.confirmed.prefers", prefer)
    built = build_confirmed(CONFIRMATION, folds.ledger, folds.task, goals={}, calibrates=False, only=(5,))
    member = load_member(CONFIRMATION, folds.ledger.entries[5], folds.task)
    assert built is not None and member is not None
    with_mirror = (member.predictions + member.mirrored) / 2
    assert np.allclose(asked[0], with_mirror) and np.allclose(asked[1], member.predictions)
    assert built.model.is_mirrored is is_better
    assert built.out_of_fold is not None
    assert np.allclose(built.out_of_fold, with_mirror if is_better else member.predictions, atol=1e-6)
    verdict = "taken" if is_better else "as they are"
    assert built.notes == (f"with mirror images beside as they are: auc differs; {verdict}",)


def test_predictions_are_preferred_that_are_likelier_better_on_the_same_patients(folds: Folds) -> None:
    data, truth = folds.task.data, np.eye(2)[folds.task.data.labels]
    noise = np.random.default_rng(0).dirichlet([1, 1], len(truth))
    is_better, words = prefers(0.3 * truth + 0.7 * noise, noise, data, "auc")
    assert is_better and words.startswith("auc differs by +")
    assert not prefers(noise, 0.3 * truth + 0.7 * noise, data, "auc")[0]
    assert not prefers(noise, noise, data, "auc")[0], "what is the same is not better"


def test_the_rule_for_patients_is_chosen_on_patients_that_no_model_has_seen(
    folds: Folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is handed the calibrated out-of-fold probabilities of the mean, and what it gives is the champion's."""
    seen: list[np.ndarray] = []

    def choose(labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, positive: int) -> PatientVerdict:
        seen.append(probabilities)
        return PatientVerdict(rule=PatientRule(name="noisy_or"))

    monkeypatch.setattr("trainable.patients.choose_verdict", choose)
    built = build_confirmed(CONFIRMATION, folds.ledger, folds.task, goals={})
    assert built is not None and built.model.verdict == PatientVerdict(rule=PatientRule(name="noisy_or"))
    (found,) = seen
    assert found[folds.task.data.is_val] == pytest.approx(built.probabilities)
    alone = replace(folds.task, data=replace(folds.task.data, groups=np.arange(48)))
    built = build_confirmed(CONFIRMATION, folds.ledger, alone, goals={})
    assert built is not None and built.model.verdict == MEAN_VERDICT, "a patient with one slice has nothing to join"


def test_one_model_alone_and_the_members_of_an_opened_test_are_kept_to(folds: Folds) -> None:
    alone = build_confirmed(CONFIRMATION, folds.ledger, folds.task, goals={}, is_mean=False)
    assert alone is not None and len(alone.numbers) == 1
    assert not alone.model.is_mirrored and not alone.notes
    opened = build_confirmed(CONFIRMATION, folds.ledger, folds.task, goals={}, only=(2,))
    assert opened is not None and opened.numbers == (2,)


def test_a_trial_that_lacks_a_fold_is_no_member_and_says_so(folds: Folds, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folds.task.trials_uri, tmp_path / "trials")
    shutil.rmtree(tmp_path / "trials" / "0001")
    task = replace(folds.task, trials_uri=str(tmp_path / "trials"))
    built = build_confirmed(CONFIRMATION, folds.ledger, task, goals={})
    assert built is not None
    assert built.numbers == (2,)
    assert "trial 5 was not trained in all 2 folds" in built.warnings[0]
    shutil.rmtree(tmp_path / "trials" / "0002")
    assert build_confirmed(CONFIRMATION, folds.ledger, task, goals={}) is None
