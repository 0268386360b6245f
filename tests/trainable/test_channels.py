"""Images of several channels through everything that a trial does, and out of every door of a trained model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mlflow.pytorch
import numpy as np
import onnxruntime
import pytest
import torch

from tests.trainable.images.dicom_files import build, save
from tests.trainable.scoring import score_validation
from tests.trainable.squares import make_squares
from trainable.answers import Answer, classify_files
from trainable.architectures import build_model
from trainable.augment import augment
from trainable.cells import classify_cells
from trainable.checkpoint import CheckpointStore
from trainable.checkpoint_writer import CheckpointWriter
from trainable.classifier import Classifier, build_explainer, load_checkpoint
from trainable.config import TrialConfig, TrialSettings
from trainable.export import ModelFacts, save_pixel_model
from trainable.images.batches import draw_batches, fetch_batches, take_rows
from trainable.images.decode import BadImageError, decode_slice
from trainable.images.pixel_format import PixelFormat
from trainable.images.prepare import TrainingData
from trainable.model_facts import summarise_layers
from trainable.served_model import ServedModel, check_exportable, rebuild_model
from trainable.slice_figures import draw_training_slices
from trainable.step_plan import measure_step_plan, name_step
from trainable.to_onnx import write_onnx
from trainable.train import train

SIZE = 32
COLOUR = PixelFormat(colour=True)
FORMS = [COLOUR, PixelFormat(neighbours=2)]
CONFIG = TrialConfig(architecture="small_cnn", batch_size=8, learning_rate=3e-3, augmentation=0)
SETTINGS = TrialSettings(classes=("clear", "square"), positive=1, image_size=SIZE, max_epochs=2)


def make_channels(folder: Path, form: PixelFormat, *, count: int = 48) -> TrainingData:
    """The set of squares, with the square in the last channel alone."""
    data = make_squares(folder, count=count, size=SIZE)
    squares = np.load(data.pixels_path)
    pixels = np.random.default_rng(1).integers(0, 120, (*squares.shape, form.num_channels), dtype=np.uint8)
    pixels[..., -1] = squares
    np.save(data.pixels_path, pixels)
    return replace(data, form=form)


@pytest.mark.parametrize("form", FORMS, ids=["colour", "five slices"])
def test_a_trial_learns_from_every_channel_and_goes_on_from_its_checkpoint(form: PixelFormat, tmp_path: Path) -> None:
    data = make_channels(tmp_path, form)
    settings = replace(SETTINGS, form=form, max_epochs=8, checkpoint_interval_s=0)
    store = CheckpointStore(str(tmp_path / "trials" / "0000"))
    writer = CheckpointWriter(store, 0)
    first = train(CONFIG, settings, data, checkpoints=writer)
    for _ in range(3):
        next(first)
    first.close()
    writer.close()
    writer = CheckpointWriter(store, 0)
    *_, last = train(CONFIG, settings, data, checkpoints=writer)
    writer.close()
    assert last.epoch == 8 and last.best_value > 0.9, "what is in the last channel is seen"
    loaded = store.load("best")
    assert loaded is not None
    model = rebuild_model(loaded[1]["config"], settings, loaded[0])
    assert score_validation(model, data, "auc") == pytest.approx(last.best_value)
    classifier = load_checkpoint(tmp_path / "trials" / "0000")
    assert classifier.form == form
    pixels = torch.from_numpy(np.load(data.pixels_path)[data.is_val])
    with torch.inference_mode():
        torch.testing.assert_close(classifier.predict(pixels), ServedModel(model)(pixels))


def test_a_checkpoint_from_before_there_were_channels_is_of_grey_images(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "trials" / "0000"))
    writer = CheckpointWriter(store, 0)
    facts = {"classes": ["a", "b"], "image_size": SIZE, "config": CONFIG.to_params(), "epoch": 1}
    writer.write_best({"model": build_model(CONFIG, 2).state_dict()}, facts)
    writer.close()
    classifier = load_checkpoint(tmp_path / "trials" / "0000")
    assert classifier.form.num_channels == 1
    assert classifier.predict(torch.zeros((2, SIZE, SIZE), dtype=torch.uint8)).shape == (2, 2)


def test_data_and_settings_of_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"colour=True.*they must be the same"):
        next(train(CONFIG, SETTINGS, make_channels(tmp_path, COLOUR)))


@pytest.mark.parametrize("form", FORMS, ids=["colour", "five slices"])
def test_every_door_of_a_model_takes_its_channels(form: PixelFormat, tmp_path: Path) -> None:
    """Served, registered, explained and as ONNX: one answer from the same pixels."""
    torch.manual_seed(0)
    model = build_model(replace(CONFIG, architecture="squeezenet1_1"), 2, num_channels=form.num_channels)
    pixels = torch.randint(0, 256, (5, 64, 64, form.num_channels), dtype=torch.uint8)
    check_exportable(model, image_size=64, num_channels=form.num_channels)
    served = ServedModel(model)
    with torch.inference_mode():
        expected = served(pixels)
    facts = ModelFacts(
        name="channels",
        classes=SETTINGS.classes,
        positive=1,
        image_size=64,
        data_hash="",
        search="",
        trial=0,
        metric="auc",
        value=0.5,
        form=form,
    )
    assert PixelFormat.from_dict(json.loads(facts.to_tags()["form"])) == form
    save_pixel_model(model, facts, tmp_path / "model")
    loaded = mlflow.pytorch.load_model(str(tmp_path / "model"))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(pixels), expected, rtol=0, atol=1e-6)
    classifier = Classifier(label="", classes=SETTINGS.classes, image_size=64, predict=loaded, form=form)
    heat = build_explainer(classifier).explain(pixels)
    assert heat.shape == (5, 64, 64) and np.isin(heat.max(axis=(1, 2)), (0, 1)).all()
    assert build_explainer(replace(classifier, predict=served)).explain(pixels).shape == (5, 64, 64)
    assert write_onnx(classifier, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [64, 64, form.num_channels]
    assert session.get_modelmeta().custom_metadata_map["num_channels"] == str(form.num_channels)
    np.testing.assert_allclose(session.run(None, {"pixels": pixels.numpy()})[0], expected, rtol=0, atol=1e-4)


def test_an_image_file_is_classified_by_its_colours(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    model = ServedModel(build_model(CONFIG, 2, num_channels=3))
    classifier = Classifier(label="", predict=model, classes=SETTINGS.classes, image_size=SIZE, form=COLOUR)
    table = classify_cells([content], classifier)
    with torch.inference_mode():
        expected = model(torch.from_numpy(decode_slice(content, SIZE, colour=True))[None])
    assert table["probability_square"][0] == pytest.approx(float(expected[0, 1]))


def test_colour_dicom_is_classified_in_colour_and_a_volume_gets_its_reason(tmp_path: Path) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    dicom = build(shown, bits=8, Rows=40, Columns=48, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    dicom.PlanarConfiguration = 0
    (rgb := tmp_path / "rgb.dcm").write_bytes(save(dicom))
    (volume := tmp_path / "a.nii.gz").write_bytes(b"x")
    classifier = Classifier(
        label="",
        classes=SETTINGS.classes,
        image_size=SIZE,
        form=COLOUR,
        predict=ServedModel(build_model(CONFIG, 2, num_channels=3)),
    )
    (_, answer), (_, fault) = classify_files([rgb, volume], classifier)
    with torch.inference_mode():
        expected = classifier.predict(torch.from_numpy(decode_slice(rgb, SIZE, colour=True))[None])
    assert isinstance(answer, Answer)
    np.testing.assert_allclose(answer.probabilities, expected[0].numpy(), rtol=1e-5)
    assert isinstance(fault, BadImageError) and "a.nii.gz: its header is not that of a NIfTI file" in str(fault)


def test_step_plans_and_layers_are_those_of_the_channels() -> None:
    cpu = torch.device("cpu")
    keys = {
        name_step(CONFIG, image_size=SIZE, device=cpu, num_threads=1, num_channels=num_channels)[1]
        for num_channels in (1, 3, 5)
    }
    assert len(keys) == 3
    assert name_step(CONFIG, image_size=SIZE, device=cpu, num_threads=1)[1] in keys, "what was measured stays known"
    plan = measure_step_plan(CONFIG, image_size=SIZE, device=cpu, num_threads=1, num_channels=3)
    assert plan.precision in ("fp32", "bf16")
    grey, colour = (summarise_layers("small_cnn", image_size=SIZE, num_channels=count) for count in (1, 3))
    assert colour.total_params - grey.total_params == 2 * 16 * 3 * 3


def test_channels_move_together() -> None:
    images = torch.rand(4, 1, SIZE, SIZE).expand(-1, 3, -1, -1)
    moved = augment(images, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(moved[:, 0], moved[:, 1]) and torch.equal(moved[:, 0], moved[:, 2])
    assert not torch.equal(moved, images)


def test_batches_hold_every_channel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 5), dtype=np.uint8)
    cpu = torch.device("cpu")
    taken = take_rows(pixels, np.arange(20) % 3 > 0, cpu)
    batches = draw_batches(len(taken), 4, torch.Generator().manual_seed(0))
    for rows, batch in zip(batches, fetch_batches(taken, batches, cpu), strict=True):
        assert torch.equal(batch, taken[rows]) and batch.shape[1:] == (8, 8, 5)


@pytest.mark.parametrize("form", FORMS, ids=["colour", "five slices"])
def test_figures_show_images_of_several_channels(form: PixelFormat, tmp_path: Path) -> None:
    figures = draw_training_slices(make_channels(tmp_path, form))
    for name, figure in figures.items():
        shown = [image.get_array() for axes in figure.axes for image in axes.get_images()]
        assert shown, name
        assert {image.shape for image in shown if image is not None} == {
            (SIZE, SIZE, 3) if form == COLOUR else (SIZE, SIZE)
        }
