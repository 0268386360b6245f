"""From data on a disk to cached pixels of several channels: colours, volumes and their neighbours, MedMNIST's files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainable.images.phantoms import draw_chest, save_nifti
from tests.trainable.images.test_medmnist import draw_arrays, save
from trainable.images.cache import build_cache
from trainable.images.decode import BadImageError, decode_slice
from trainable.images.likeness import NOT_CHEST_CT, UNLIKE_TRAINING, Likeness, fit_likeness
from trainable.images.mapped import open_pixels
from trainable.images.members import resize_channels, split_member
from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.prepare import PreparedData, open_sealed_test, prepare_data
from trainable.images.slice_rule import SliceRule
from trainable.images.splits import read_splits
from trainable.images.volumes import read_volume, show_slice

SIZE = 48
COLOUR = PixelFormat(colour=True)


def draw_fundus(rng: np.random.Generator, *, ill: bool) -> Image.Image:
    """An orange disc on black, with red spots where it is ill."""
    y, x = np.mgrid[:80, :80] / 40 - 1
    image = np.zeros((80, 80, 3))
    image[...] = np.kron(rng.integers(-60, 60, (8, 8)), np.ones((10, 10)))[..., None] + (190, 110, 40)
    image[x**2 + y**2 >= 0.9] = 0
    for _ in range(6 if ill else 0):
        row, column = rng.integers(20, 60, 2)
        image[row : row + 5, column : column + 5] = (120, 10, 10)
    return Image.fromarray(np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def fundus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("fundus"), np.random.default_rng(0)
    for label in ("healthy", "ill"):
        for patient in range(10):
            (folder := root / label / f"{label[0]}{patient}").mkdir(parents=True)
            for number in range(2):
                draw_fundus(rng, ill=label == "ill").save(folder / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def mosmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MosMedData as it is unpacked: CT-0 to CT-4 with studies as .nii.gz."""
    root = tmp_path_factory.mktemp("mosmed")
    for number in range(20):
        label = f"CT-{number % 2}"
        save_nifti(root / label / f"study_{number:04}.nii.gz", draw_chest(seed=number))
    return root


def prepare(
    data: Path, folder: Path, form: PixelFormat = GREY, rule: str = "all", *, skip_bad_images: bool = False
) -> PreparedData:
    return prepare_data(
        data,
        cache_dir=folder / "cache",
        splits_file=folder / "splits.csv",
        image_size=SIZE,
        seed=0,
        form=form,
        slice_rule=SliceRule.parse(rule),
        skip_bad_images=skip_bad_images,
        num_workers=2,
    )


def test_colours_reach_the_cache_and_the_sealed_test(fundus: Path, tmp_path: Path) -> None:
    training = prepare(fundus, tmp_path, COLOUR).training
    assert (training.form, training.num_channels, training.in_hounsfield) == (COLOUR, 3, False)
    rows = read_splits(tmp_path / "splits.csv")
    shown = [row.path for split in ("train", "val") for row in rows if row.split == split and row.kept]
    pixels = open_pixels(Path(training.pixels_path))
    assert pixels.shape == (len(shown), SIZE, SIZE, 3) and pixels.dtype == np.uint8
    for path, image in zip(shown, pixels, strict=True):
        np.testing.assert_array_equal(image, decode_slice(path, SIZE, colour=True))
    test = open_sealed_test(tmp_path / "splits.csv", cache_dir=tmp_path / "cache", image_size=SIZE, form=COLOUR)
    assert test.pixels.shape[1:] == (SIZE, SIZE, 3) and len(test.pixels) == len(test.labels) > 0
    grey = prepare(fundus, tmp_path).training
    assert grey.num_channels == 1 and grey.pixels_path != training.pixels_path
    assert open_pixels(Path(grey.pixels_path)).shape == (len(shown), SIZE, SIZE)


@pytest.mark.parametrize(("rule", "num_slices"), [("all", 10), ("middle", 1), ("every:3", 3), ("lung", 5)])
def test_mosmeds_layout_is_taken_as_it_is_unpacked(rule: str, num_slices: int, mosmed: Path, tmp_path: Path) -> None:
    prepared = prepare(mosmed, tmp_path, rule=rule)
    rows = read_splits(tmp_path / "splits.csv")
    assert len(rows) == 20 * num_slices
    assert prepared.grouped_by == "patient" and prepared.audit.num_patients == 20
    assert prepared.training.classes == ("CT-0", "CT-1")
    of_volume: dict[Path, set[tuple[int, str]]] = {}
    for row in rows:
        member = split_member(row.path)
        assert member is not None
        of_volume.setdefault(member[0], set()).add((row.group, row.split))
    assert len(of_volume) == 20
    assert all(len(places) == 1 for places in of_volume.values()), "a volume lies in one split, as one patient"
    assert f"volumes: 20 were read as {20 * num_slices} slices, by the rule {rule}" in prepared.reading.notes


def test_slices_and_their_neighbours_reach_the_cache(mosmed: Path, tmp_path: Path) -> None:
    for form in (GREY, PixelFormat(neighbours=1), PixelFormat(neighbours=1, neighbour_mm=10)):
        training = prepare(mosmed, tmp_path, form, "lung").training
        pixels = open_pixels(Path(training.pixels_path))
        rows = read_splits(tmp_path / "splits.csv")
        shown = [row.path for split in ("train", "val") for row in rows if row.split == split and row.kept]
        for path, image in list(zip(shown, pixels, strict=True))[::7]:
            member = split_member(path)
            assert member is not None
            expected = show_slice(
                read_volume(member[0]), member[1], neighbours=form.neighbours, neighbour_mm=form.neighbour_mm
            )
            np.testing.assert_array_equal(image, resize_channels(expected, SIZE))


def test_a_bad_volume_is_named_or_left_out_and_counted(mosmed: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for path in sorted(mosmed.rglob("*.nii.gz")):
        (copy := data / path.relative_to(mosmed)).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    cut = data / "CT-0" / "study_0002.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-3000])
    with pytest.raises(BadImageError, match=r"study_0002.nii.gz: Compressed file ended"):
        prepare(data, tmp_path, rule="middle")
    prepared = prepare(data, tmp_path, rule="middle", skip_bad_images=True)
    assert prepared.audit.skipped.count == 1 and prepared.audit.num_slices == 19


def test_a_volume_that_has_changed_is_an_error(mosmed: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "a.nii.gz"
    save_nifti(data, draw_chest())
    hashes, paths = ["0" * 64], [data.with_name("a.nii.gz#3")]
    with pytest.raises(ValueError, match=r"a.nii.gz#3 has changed since the search began"):
        build_cache(paths, hashes=hashes, size=SIZE, folder=tmp_path, num_workers=1)
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.parametrize("colour", [False, True])
def test_medmnists_files_are_data(colour: bool, tmp_path: Path) -> None:
    arrays = draw_arrays(colour=colour)
    form = COLOUR if colour else GREY
    prepared = prepare(save(tmp_path / "set.npz", arrays), tmp_path, form)
    rows = read_splits(tmp_path / "splits.csv")
    assert [row.split for row in rows] == ["train"] * 12 + ["val"] * 6 + ["test"] * 4
    pixels = open_pixels(Path(prepared.training.pixels_path))
    given = np.concatenate([arrays["train_images"], arrays["val_images"]])
    np.testing.assert_array_equal(pixels, np.stack([resize_channels(image, SIZE) for image in given]))
    assert prepared.training.labels.tolist() == [*np.arange(12) % 2, *np.arange(6) % 2]
    test = open_sealed_test(tmp_path / "splits.csv", cache_dir=tmp_path / "cache", image_size=SIZE, form=form)
    np.testing.assert_array_equal(test.pixels[3], resize_channels(arrays["test_images"][3], SIZE))


def test_what_an_image_cannot_become_is_one_line(fundus: Path, mosmed: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"40 of 40 images have no neighbours \(healthy/h0/0\.jpg\)"):
        prepare(fundus, tmp_path / "a", PixelFormat(neighbours=1))
    with pytest.raises(BadImageError, match=r"\.nii\.gz: a volume has no colours"):
        prepare(mosmed, tmp_path / "b", COLOUR, "middle")
    with pytest.raises(ValueError, match=r"22 of 22 images have no neighbours \(set\.npz#0\)"):
        prepare(save(tmp_path / "set.npz", draw_arrays()), tmp_path / "c", PixelFormat(neighbours=1))


def test_a_set_in_colour_doubts_what_is_unlike_it(fundus: Path, tmp_path: Path) -> None:
    training = prepare(fundus, tmp_path, COLOUR).training
    learnt = Likeness.from_json(fit_likeness(training, []).to_json())
    assert learnt.in_colour and learnt.verdict == UNLIKE_TRAINING
    rng = np.random.default_rng(1)
    like = np.stack([np.asarray(draw_fundus(rng, ill=True).resize((SIZE, SIZE))) for _ in range(10)])
    assert sum(map(bool, learnt.doubt(like, [0.0] * 10))) <= 1
    unlike = [
        like[0].mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2),
        rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
    ]
    grey, noise = learnt.doubt(np.stack(unlike), [0.0, 0.0])
    assert "of a training image at least" in grey
    assert "training image" in noise
    assert fit_likeness(replace(training, form=GREY), []).verdict == NOT_CHEST_CT


def test_channels_are_averaged_to_be_judged(mosmed: Path, tmp_path: Path) -> None:
    training = prepare(mosmed, tmp_path, PixelFormat(neighbours=1), "lung").training
    learnt = fit_likeness(training, [])
    assert learnt.is_ct and not learnt.in_colour
    pixels = open_pixels(Path(training.pixels_path))[:8]
    grey = learnt.measure(pixels.mean(axis=3).round().astype(np.uint8))
    for name, values in learnt.measure(pixels).items():
        np.testing.assert_allclose(values, grey[name], atol=0.15 * max(1, grey[name].max()))
