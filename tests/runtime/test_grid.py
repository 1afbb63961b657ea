"""A grid holds every picture at its place, and captions that fit under them."""

import numpy as np
import pytest
from PIL import Image

from tfsnap.runtime.grid import grid

COLOURS = ["red", "lime", "blue", "yellow", "cyan"]


def pictures(size=(20, 30)):
    return [Image.new("RGB", size, colour) for colour in COLOURS]


def places(sheet, colour):
    """Top, bottom, left and right of a colour."""
    rows, columns = np.nonzero(
        (np.array(sheet) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))).all(-1)
    )
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_pictures_are_in_reading_order_and_whole():
    sheet = grid(pictures(), columns=3, scale=2)
    boxes = [places(sheet, colour) for colour in COLOURS]
    assert all((box[1] - box[0] + 1, box[3] - box[2] + 1) == (60, 40) for box in boxes)
    tops, lefts = [box[0] for box in boxes], [box[2] for box in boxes]
    assert tops[0] == tops[1] == tops[2] < tops[3] == tops[4]
    assert lefts[0] == lefts[3] < lefts[1] == lefts[4] < lefts[2]


def test_pixels_are_enlarged_to_squares():
    checks = Image.fromarray(np.uint8([[0, 255], [255, 0]])).convert("RGB")
    sheet = np.array(grid([checks], scale=3))[8:14, 8:14, 0]
    np.testing.assert_array_equal(sheet, np.kron([[0, 255], [255, 0]], np.ones([3, 3])))


def test_captions_stand_under_their_pictures():
    plain = grid(pictures((90, 20)), [""] * 5, columns=5)
    sheet = np.array(grid(pictures((90, 20)), ["heart", "", "", "", ""], columns=5))
    assert sheet.shape[0] > plain.size[1]
    ink = np.argwhere((sheet < 128).all(-1))
    assert len(ink) > 20
    assert ink[:, 0].min() >= 8 + 20
    assert ink[:, 1].max() < 8 + 90


@pytest.mark.parametrize("caption", ["one two three four five six", "w" * 60, "a " + "m" * 40])
def test_long_captions_are_wrapped(caption):
    sheet = np.array(grid(pictures((90, 20))[:2], [caption, ""], columns=2))
    columns = np.argwhere((sheet < 128).all(-1))[:, 1]
    assert columns.max() < 8 + 90
    assert sheet.shape[0] >= 2 * 8 + 20 + 2 * 16  # Two lines at least.


def test_is_about_square_by_default():
    width, height = grid(pictures((20, 20)) * 5).size
    assert width == height


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        ([], None, "needs pictures"),
        (
            [Image.new("RGB", (1, 2)), Image.new("RGB", (2, 1))],
            None,
            r"sizes are \[\(1, 2\), \(2, 1",
        ),
        (pictures(), ["a"], "1 captions for 5 pictures"),
    ],
)
def test_refuses(images, captions, message):
    with pytest.raises(ValueError, match=message):
        grid(images, captions)
