from __future__ import annotations

import gzip
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.trainable.images.phantoms import SPACING_MM, draw_chest, save_nifti
from trainable.images.decode import BadImageError
from trainable.images.volumes import Volume, count_slices, read_volume, show_slice
from trainable.images.windows import LUNG, WINDOWS, apply_window

CHEST = draw_chest()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_the_scale_of_the_header_gives_hounsfield_units(ending: str, tmp_path: Path) -> None:
    stored = (CHEST.astype(int) + 1024) // 2
    volume = read_volume(save_nifti(tmp_path / f"a{ending}", stored.astype(np.int16), slope=2, inter=-1024))
    assert np.abs(volume.hounsfield() - CHEST).max() <= 1
    assert volume.in_hounsfield and volume.has_orientation
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_every_orientation_gives_the_same_slices(axes: tuple[int, int, int], tmp_path: Path) -> None:
    """All 48 ways in which a scanner's axes may lie: as stored, the first axis runs along `axes[0]`, and so on."""
    for signs in product((-1, 1), repeat=3):
        stored, affine = CHEST.transpose(axes), np.zeros((4, 4))
        for own, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
            stored = stored if sign > 0 else np.flip(stored, own)
            affine[axis, own] = sign * SPACING_MM[axis]
        affine[3, 3] = 1
        path = save_nifti(tmp_path / "a.nii", np.ascontiguousarray(stored), affine=affine)
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.stored, CHEST)
        np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)
        assert count_slices(path) == volume.num_slices == 10


def test_a_slice_is_looked_at_with_the_front_on_top_and_the_right_on_the_left() -> None:
    values = np.zeros((20, 30, 4), np.float32)
    values[19, 29, 1] = 7  # furthest to the patient's right, and to the front
    shown = Volume(stored=values, spacing_mm=(1, 1, 1)).slice_at(1)
    assert shown.shape == (30, 20)
    assert shown[0, 0] == 7


def test_a_slice_goes_through_every_window() -> None:
    volume = Volume(stored=CHEST, spacing_mm=SPACING_MM)
    lung = apply_window(volume.slice_at(4), centre=-600, width=1500)
    np.testing.assert_array_equal(show_slice(volume, 4), lung)
    other = apply_window(volume.slice_at(4), centre=50, width=350)
    both = (LUNG, WINDOWS["mediastinum"])
    np.testing.assert_array_equal(show_slice(volume, 4, windows=both), np.stack([lung, other], axis=-1))
    beside = show_slice(volume, 3, windows=both, neighbours=1)
    assert beside.shape == (56, 64, 6)
    np.testing.assert_array_equal(beside[..., 4:], np.stack([lung, other], axis=-1))


def test_values_that_are_no_hounsfield_units_are_stretched_by_the_volumes_own_range() -> None:
    values = np.linspace(0, 800, 16 * 16 * 3).reshape(16, 16, 3)
    volume = Volume(stored=values, spacing_mm=(1, 1, 1))
    assert not volume.in_hounsfield
    expected = np.rint(volume.slice_at(0) * 255 / 800)
    np.testing.assert_allclose(show_slice(volume, 0), expected, atol=1)
    flat = Volume(stored=np.full((16, 16, 3), 5, np.int16), spacing_mm=(1, 1, 1))
    assert np.ptp(show_slice(flat, 1)) == 0


def test_neighbours_are_channels_from_feet_to_head_and_the_ends_repeat() -> None:
    volume = Volume(stored=CHEST, spacing_mm=SPACING_MM)
    shown = show_slice(volume, 4, neighbours=1)
    assert shown.shape == (56, 64, 3)
    for channel, index in enumerate((3, 4, 5)):
        np.testing.assert_array_equal(shown[..., channel], show_slice(volume, index))
    ends = show_slice(volume, 0, neighbours=2)
    for channel, index in enumerate((0, 0, 0, 1, 2)):
        np.testing.assert_array_equal(ends[..., channel], show_slice(volume, index))


@pytest.mark.parametrize(("distance", "step"), [(None, 1), (1.0, 1), (5.0, 1), (9.0, 2), (15.0, 3)])
def test_neighbours_lie_as_far_apart_as_was_asked(distance: float | None, step: int) -> None:
    volume = Volume(stored=CHEST, spacing_mm=SPACING_MM)
    shown = show_slice(volume, 5, neighbours=1, neighbour_mm=distance)
    np.testing.assert_array_equal(shown[..., 0], show_slice(volume, 5 - step))
    np.testing.assert_array_equal(shown[..., 2], show_slice(volume, 5 + step))


def test_values_of_32_bits_keep_what_lies_between_them(tmp_path: Path) -> None:
    stored = (CHEST.astype(np.int64) + 3_000_000_000).astype(np.uint32)
    volume = read_volume(save_nifti(tmp_path / "a.nii", stored, slope=1, inter=-3e9))
    np.testing.assert_array_equal(volume.hounsfield(), CHEST)
    assert volume.hounsfield().dtype == volume.slice_at(0).dtype == np.float32


def test_a_volume_whose_header_says_nothing_of_its_axes_says_so(tmp_path: Path) -> None:
    raw = bytearray(save_nifti(tmp_path / "a.nii", CHEST).read_bytes())
    raw[252:256] = bytes(4)  # qform_code and sform_code
    volume = read_volume(bytes(raw))
    assert not volume.has_orientation
    assert volume.num_slices == 10


def test_one_volume_in_four_dimensions_is_taken(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", CHEST[..., None])
    np.testing.assert_array_equal(read_volume(path).stored, CHEST)
    assert count_slices(path) == 10


def to_bytes(values: np.ndarray) -> bytes:
    return nibabel.Nifti1Image(values, np.eye(4)).to_bytes()


def with_field(at: int, content: bytes) -> bytes:
    raw = bytearray(to_bytes(CHEST))
    raw[at : at + len(content)] = content
    return bytes(raw)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut gz": (lambda: (packed := gzip.compress(to_bytes(CHEST)))[: len(packed) // 2], "ended before"),
    "changed gz": (lambda: (packed := gzip.compress(to_bytes(CHEST)))[:-8] + bytes(4) + packed[-4:], "CRC"),
    "cut": (lambda: to_bytes(CHEST)[:5000], "it is cut or damaged"),
    "cut header": (lambda: to_bytes(CHEST)[:200], "header is not that of a NIfTI file"),
    "empty": (lambda: b"", "header is not that of a NIfTI file"),
    "text": (lambda: b"patient;class\n" * 100, "header is not that of a NIfTI file"),
    "no header but its size": (lambda: gzip.compress(b"\x5c\1\0\0" + b"\1\2" * 400), "not that of a NIfTI file"),
    "four dimensions": (
        lambda: to_bytes(np.zeros((16, 16, 4, 3), np.int16)),
        r"\(16, 16, 4, 3\); it must be one volume",
    ),
    "two dimensions": (lambda: to_bytes(np.zeros((16, 16), np.int16)), "three dimensions"),
    "no size": (lambda: to_bytes(np.zeros((16, 0, 4), np.int16)), r"\(16, 0, 4\); a volume has some voxels"),
    "negative size": (lambda: with_field(42, b"\xfd\xff"), "some voxels"),
    "huge size": (lambda: with_field(42, b"\x30\x75\x30\x75"), "it is cut or damaged"),
    "voxels that begin in the header": (lambda: with_field(108, bytes(4)), "voxels begin at byte 0, in itself"),
    "unknown kind of number": (lambda: with_field(70, b"\x0f\x27"), "not that of a NIfTI file"),
    "complex numbers": (lambda: to_bytes(np.zeros((16, 16, 4), np.complex64)), "plain numbers"),
    "colours": (lambda: to_bytes(np.zeros((16, 16, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "plain numbers"),
    "NaN": (lambda: to_bytes(np.where(CHEST[0, 0, 0] == CHEST, np.nan, CHEST).astype(np.float32)), "no finite numbers"),
    "infinite scale": (lambda: with_field(112, np.array([1, np.inf], np.float32).tobytes()), "intercept"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_volume_is_one_line_that_names_it(kind: str, tmp_path: Path) -> None:
    make, reason = BAD[kind]
    (path := tmp_path / "study_0001.nii.gz").write_bytes(make())
    with pytest.raises(BadImageError, match=reason) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 400
    try:  # the header alone may be right
        assert count_slices(path) > 0
    except BadImageError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_a_volume_that_unpacks_to_more_than_is_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainable.images.volumes.MAX_BYTES", 50_000)
    with pytest.raises(BadImageError, match="unpacks to more than"):
        read_volume(gzip.compress(to_bytes(CHEST)))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    looks: list[Callable[[Path], Any]] = [read_volume, count_slices]
    for look in looks:
        with pytest.raises(FileNotFoundError):
            look(tmp_path / "none.nii.gz")
