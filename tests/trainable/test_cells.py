"""Cells of a request become images, and probabilities a table."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.trainable.test_export import SIZE, draw_files
from trainable.cells import classify_cells, decode_cells, tabulate
from trainable.classifier import Classifier
from trainable.images.decode import BadImageError, decode_slice


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("/data/slice.png", "row 1: text of 15 characters is not base64"),
        (b"no picture", "row 1: an image of 10 bytes"),
        (3.5, "row 1: a float came"),
    ],
)
def test_what_is_no_image_is_refused_by_its_row(cell: object, message: str) -> None:
    good = draw_files(1)[0]
    with pytest.raises(ValueError, match=message):
        decode_cells([good, cell], SIZE)


def test_bytes_and_text_of_a_file_are_one_image() -> None:
    (file,) = draw_files(1)
    text = base64.encodebytes(file).decode()  # with line breaks
    pixels, colours = decode_cells([file, bytearray(file), memoryview(file), text], SIZE)
    assert len(set(colours)) == 1
    assert (pixels == decode_slice(file, SIZE)).all()


def test_no_images_give_an_empty_table_with_all_columns() -> None:
    classifier = Classifier(label="", predict=lambda pixels: pixels, classes=("a", "class"), image_size=SIZE)
    table = classify_cells([], classifier)
    assert list(table) == ["class", "probability", "doubt", "probability_a", "probability_class"]
    assert len(table) == 0


def test_a_doubted_image_has_a_word_instead_of_a_class_and_every_share_is_kept() -> None:
    shares = np.array([[0.2, 0.8], [0.9, 0.1]], np.float32)
    table = tabulate(shares, ("healthy", "ill"), ("", "83% of it is coloured"))
    assert list(table["class"]) == ["ill", "not a chest CT?"]
    assert list(table["probability"]) == [pytest.approx(0.8), None]
    assert list(table["doubt"]) == ["", "83% of it is coloured"]
    np.testing.assert_array_equal(table[["probability_healthy", "probability_ill"]], shares)


def test_a_bad_image_is_a_value_error() -> None:
    assert issubclass(BadImageError, ValueError)
