from __future__ import annotations

import json

import pytest

from trainable.images.pixel_format import GREY, PixelFormat
from trainable.images.windows import parse_windows


@pytest.mark.parametrize(
    ("form", "num_channels"),
    [
        (GREY, 1),
        (PixelFormat(colour=True), 3),
        (PixelFormat(neighbours=1), 3),
        (PixelFormat(neighbours=2, neighbour_mm=5), 5),
        (PixelFormat(windows=parse_windows("lung,mediastinum")), 2),
        (PixelFormat(windows=parse_windows("lung,40,400"), neighbours=1), 6),
    ],
)
def test_survives_json(form: PixelFormat, num_channels: int) -> None:
    assert form.num_channels == num_channels
    assert PixelFormat.from_dict(json.loads(json.dumps(form.to_dict()))) == form


def test_plain_grey_is_nothing_in_a_record() -> None:
    assert GREY.to_dict() == {}, "records and caches from before there were others stay what they are"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="colour came with"):
        PixelFormat(colour=True, neighbours=1)
    with pytest.raises(ValueError, match="0 to 8 on each side"):
        PixelFormat(neighbours=9)
    with pytest.raises(ValueError, match="0 mm apart"):
        PixelFormat(neighbours=1, neighbour_mm=0)
