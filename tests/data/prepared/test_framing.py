import numpy as np
import pytest
from PIL import Image

from tfsnap.data.prepared.framing import bucket_shapes, frame, nearest_shape


@pytest.mark.parametrize(("resolution", "step"), [(64, 8), (512, 64), (1024, 128), (96, 8)])
def test_buckets_have_about_one_area_and_round_sides(resolution, step):
    shapes = bucket_shapes(resolution)
    assert (resolution, resolution) in shapes
    assert len(shapes) == len(set(shapes)) >= 5
    assert {(w, h) for h, w in shapes} == set(shapes)  # Every shape lies and stands.
    for height, width in shapes:
        assert height % step == 0 and width % step == 0
        assert 0.8 * resolution**2 <= height * width <= resolution**2
        assert max(height, width) <= 2 * min(height, width)


def test_steps_of_buckets():
    assert bucket_shapes(64, 16) == ((80, 48), (64, 64), (48, 80))
    with pytest.raises(ValueError, match="bucket_step is 12; it must be a multiple of 8"):
        bucket_shapes(64, 12)
    with pytest.raises(ValueError, match="resolution is 100; .* such as 96 or 104"):
        bucket_shapes(100, 8)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((100, 100), (64, 64)), ((130, 100), (56, 72)), ((10, 100), (80, 48)), ((1, 1), (64, 64))],
)
def test_pictures_go_to_the_shape_nearest_to_theirs(size, shape):
    assert nearest_shape(size, bucket_shapes(64)) == shape


def test_the_middle_is_kept():
    """Red, green and blue thirds: of a wide picture the green one is left."""
    thirds = np.zeros([32, 96, 3], np.uint8)
    for i in range(3):
        thirds[:, 32 * i : 32 * i + 32, i] = 255
    for pixels in (thirds, thirds.transpose(1, 0, 2)):
        made = frame(Image.fromarray(np.ascontiguousarray(pixels)), (16, 16))
        assert made.shape == (16, 16, 3) and made.dtype == np.uint8
        np.testing.assert_allclose(made[4:-4, 4:-4], np.broadcast_to([0, 255, 0], [8, 8, 3]))
        assert (made.argmax(axis=-1) == 1).all()  # A seam may shine through at the edge.


def test_resizing_is_antialiased():
    """Fine black and white lines become grey; picking every eighth pixel would keep them."""
    lines = np.zeros([128, 128, 3], np.uint8)
    lines[:, ::2] = 255
    made = frame(Image.fromarray(lines), (16, 16)).astype(int)
    assert abs(made[2:-2, 2:-2] - 128).max() <= 3


@pytest.mark.parametrize("size", [(1, 100), (3, 2), (63, 1000), (199, 67)])
@pytest.mark.parametrize("shape", [(64, 64), (80, 48), (48, 80)])
def test_every_size_fits_every_shape(size, shape):
    assert frame(Image.new("RGB", size, (9, 8, 7)), shape).shape == (*shape, 3)
    assert (frame(Image.new("RGB", size, (9, 8, 7)), shape) == (9, 8, 7)).all()
