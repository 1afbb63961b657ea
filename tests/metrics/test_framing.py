import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tfsnap.metrics.framing import squares, to_square


@pytest.mark.parametrize("size", [(40, 31), (31, 40), (17, 90), (12, 9), (24, 24)])
def test_a_square_is_what_clips_processor_makes(size):
    """Smaller, larger, odd rests, tall and wide."""
    pixels = np.random.default_rng(0).integers(0, 256, [*size, 3], dtype=np.uint8)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 24},
        crop_size={"height": 24, "width": 24},
        do_normalize=False,
        do_rescale=False,
    )
    expected = processor(pixels, return_tensors="np")["pixel_values"][0]
    found = to_square(Image.fromarray(pixels), 24)
    np.testing.assert_array_equal(found, np.moveaxis(expected, 0, -1))


def test_pictures_of_the_size_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, [2, 8, 8, 3], dtype=np.uint8)
    assert squares(images, 8) is images
    assert squares(images, 12).shape == (2, 12, 12, 3)
    np.testing.assert_array_equal(
        squares(images[:, :, :6], 4)[1], to_square(Image.fromarray(images[1, :, :6]), 4)
    )
