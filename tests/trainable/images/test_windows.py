from __future__ import annotations

import math

import numpy as np
import pytest

from tests.trainable.images.dicom_files import HU, build, save
from trainable.images.decode import decode, decode_slice, read_slice
from trainable.images.windows import LUNG, WINDOWS, Window, format_windows, parse_windows, stretch


def test_windows_are_named_or_given_by_numbers() -> None:
    assert parse_windows("lung") == (LUNG,) == (Window(centre=-600, width=1500),)
    assert parse_windows(" Lung , MEDIASTINUM ,bone") == tuple(WINDOWS.values())
    assert parse_windows("-600,1500") == (LUNG,)
    assert parse_windows("lung,40,400,-1e2,2.5") == (
        LUNG,
        Window(centre=40, width=400),
        Window(centre=-100, width=2.5),
    )


@pytest.mark.parametrize("text", ["lung", "lung,mediastinum", "-600.5,1500", "lung,40,400,bone"])
def test_what_is_written_is_read_back(text: str) -> None:
    assert parse_windows(format_windows(parse_windows(text))) == parse_windows(text)
    assert format_windows(parse_windows("-600,1500")) == "lung"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a centre without a width"),
        ("brain", "'brain'; give lung, mediastinum, bone or CENTRE,WIDTH"),
        ("40", "a centre without a width"),
        ("40,lung", "'lung'"),
        ("40,0", "the width 0; it must be above 0"),
        ("40,-400", "the width -400"),
        ("nan,400", "'nan'"),
        ("40,inf", "'inf'"),
        ("lung,,bone", "a centre without a width"),
        ("lung,lung", "names a window twice"),
        ("lung,-600,1500", "names a window twice"),
    ],
)
def test_what_is_no_window_is_an_error_that_says_what_to_give(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_windows(text)
    assert str(caught.value).startswith("--window ")


@pytest.mark.parametrize(("centre", "width"), [(0, 0), (0, -1), (math.nan, 1), (0, math.inf)])
def test_a_window_that_shows_nothing_cannot_be_built(centre: float, width: float) -> None:
    with pytest.raises(ValueError, match="width must be above 0"):
        Window(centre=centre, width=width)


def test_each_window_is_a_channel() -> None:
    data = save(build(HU + 2000, RescaleSlope=1, RescaleIntercept=-2000))
    seen = decode(data, windows=parse_windows("lung,mediastinum,0,400"))
    assert seen.shape == (24, 32, 3)
    np.testing.assert_array_equal(seen[..., 0], decode(data))
    # 255 * (HU + 125) / 350 and 255 * (HU + 200) / 400 for -1350, -1000, -600, -100, 0, 100, 150 and 1000
    assert np.abs(seen[0, ::4, 1].astype(int) - [0, 0, 0, 18, 91, 164, 200, 255]).max() <= 1
    assert np.abs(seen[0, ::4, 2].astype(int) - [0, 0, 0, 64, 128, 191, 223, 255]).max() <= 1


def test_channels_are_resized_one_by_one() -> None:
    data = save(build(HU + 2000, RescaleSlope=1, RescaleIntercept=-2000))
    windows = parse_windows("lung,bone")
    small = decode_slice(data, 16, windows=windows)
    assert small.shape == (16, 16, 2) and small.flags.writeable
    for channel, window in enumerate(windows):
        np.testing.assert_array_equal(small[..., channel], decode_slice(data, 16, windows=(window,)))


def test_facts_come_with_pixels_of_every_window(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("slices") / "1"
    path.write_bytes(save(build(HU + 2000, RescaleSlope=1, RescaleIntercept=-2000, SeriesInstanceUID="1.2.3")))
    facts, pixels = read_slice(path, 16, windows=parse_windows("lung,bone"))
    assert pixels.shape == (16, 16, 2)
    assert (facts.width, facts.height, facts.mode, facts.series) == (32, 24, "HU", "1.2.3")


def test_left_out_pixels_stretch_no_range() -> None:
    values = np.array([[0, 10, 20, 900]])
    assert stretch(values, leave_out=values == 900).tolist() == [[0, 128, 255, 255]]
    assert stretch(values, leave_out=np.ones_like(values, bool)).tolist() == stretch(values).tolist()
