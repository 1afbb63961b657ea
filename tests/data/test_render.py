import io

import numpy as np
import pytest
from PIL import Image

from tfsnap.data.catalogue import Drawing
from tfsnap.data.render import render

WHITE, RED = (255, 255, 255), (255, 0, 0)


def bitmap(width, height, pixel):
    file = io.BytesIO()
    Image.new("RGBA", (width, height), pixel).save(file, "PNG")
    return Drawing(bitmap=file.getvalue())


def square(fill, *, width=128, height=128):
    body = f'<rect x="0" y="0" width="{width}" height="{height}" fill="{fill}"/>'
    return Drawing(svg=body, width=width, height=height)


@pytest.mark.parametrize("drawing", [square("#f00"), bitmap(20, 20, (255, 0, 0, 255))])
@pytest.mark.parametrize("resolution", [8, 33, 64])
def test_size_type_and_colour(drawing, resolution):
    pixels = render(drawing, resolution=resolution)
    assert pixels.shape == (resolution, resolution, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == RED).all()


@pytest.mark.parametrize(
    "drawing", [Drawing(svg="", width=10, height=10), bitmap(20, 20, (0, 0, 0, 0))]
)
def test_nothing_is_white(drawing):
    assert (render(drawing, resolution=16) == 255).all()


@pytest.mark.parametrize(
    "drawing", [square("rgba(255, 0, 0, 0.5)"), bitmap(20, 20, (255, 0, 0, 128))]
)
def test_half_transparent_red_is_pink(drawing):
    np.testing.assert_allclose(
        render(drawing, resolution=16).reshape(-1, 3), [[255, 127, 127]] * 256, atol=1
    )


def test_colours_under_transparency_do_not_bleed():
    """A black square in a picture whose transparent pixels are "green"."""
    pixels = np.zeros([64, 64, 4], np.uint8)
    pixels[..., 1] = 255
    pixels[16:48, 16:48] = (0, 0, 0, 255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    drawn = render(Drawing(bitmap=file.getvalue()), resolution=24).astype(int)
    assert (drawn.max(axis=-1) == drawn.min(axis=-1)).all()  # Only greys.


@pytest.mark.parametrize(
    "drawing", [square("#f00", width=128, height=64), bitmap(40, 20, (255, 0, 0, 255))]
)
def test_wide_drawings_are_centred_with_their_proportions(drawing):
    pixels = render(drawing, resolution=16)
    # Resampling a bitmap overshoots a little beside an edge.
    np.testing.assert_allclose(pixels[6:10], np.broadcast_to(RED, [4, 16, 3]), atol=12)
    np.testing.assert_allclose(pixels[:2], np.broadcast_to(WHITE, [2, 16, 3]), atol=12)
    np.testing.assert_array_equal(pixels, pixels[::-1])
