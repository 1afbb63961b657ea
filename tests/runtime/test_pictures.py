"""Pictures in and out of networks."""

import numpy as np
import pytest
from PIL import Image

from tfsnap.colours import upright_rgb, upright_size
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.pictures import from_mask, from_picture, to_picture


def test_pixels_are_rounded_and_cut_off():
    image = np.zeros([1, 2, 3, 3], np.float32)
    image[0, 0, :, 0] = [-1.0, 1.0, -7.0]
    image[0, 1, :, 2] = [9.0, 1 / 255 + 1e-4, -1 / 255 - 1e-4]
    pixels = np.array(to_picture(image))
    assert pixels.shape == (2, 3, 3)
    assert pixels[0, :, 0].tolist() == [0, 255, 0]
    assert pixels[1, :, 2].tolist() == [255, 128, 127]
    assert pixels[0, 0, 1] == 128  # 127.5 is rounded up.


def test_pixels_survive_the_way_there_and_back():
    pixels = np.random.default_rng(0).integers(0, 256, [6, 4, 3]).astype(np.uint8)
    array = from_picture(Image.fromarray(pixels), height=6, width=4)
    assert array.dtype == np.float32 and array.shape == (1, 6, 4, 3)
    np.testing.assert_allclose(array[0], pixels / 127.5 - 1.0, atol=1e-6)
    np.testing.assert_array_equal(np.array(to_picture(array)), pixels)


def test_a_picture_is_cut_from_its_centre():
    wide = Image.new("RGB", (30, 10), "red")
    wide.paste((0, 0, 255), (10, 0, 20, 10))
    middle = from_picture(wide, height=5, width=5)[0, 2, 2]
    np.testing.assert_allclose(middle, [-1, -1, 1], atol=0.05)  # The filter looks a bit beyond.


def test_what_is_transparent_is_white_and_orientation_is_kept():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.all(from_picture(clear, height=4, width=4) == 1.0)
    assert np.all(from_picture(Image.new("LA", (4, 4), (0, 0)), height=4, width=4) == 1.0)
    turned = Image.new("RGB", (4, 8), "black")
    turned.paste("white", (0, 0, 4, 4))  # Above; the camera was turned to the left.
    turned.getexif()[0x0112] = 6
    array = from_picture(turned, height=4, width=8)
    assert np.all(array[0, :, :4] == -1.0) and np.all(array[0, :, 4:] == 1.0)


def test_a_file_that_pillow_turns_as_it_reads_it_is_turned_once(tmp_path):
    """A TIFF, whose EXIF has the orientation until it is loaded."""
    pixels = np.random.default_rng(0).integers(0, 256, [6, 4, 3]).astype(np.uint8)
    lying = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "lying.tiff", exif=exif)
    with Image.open(tmp_path / "lying.tiff") as image:
        assert upright_size(image) == (4, 6)
    with Image.open(tmp_path / "lying.tiff") as image:
        np.testing.assert_array_equal(np.array(upright_rgb(image)), pixels)


def test_16_bits_are_scaled_and_more_are_refused():
    deep = Image.fromarray(np.uint16([[0, 32768, 65535]]))
    found = from_picture(deep, height=1, width=3)[0, 0, :, 0]
    np.testing.assert_allclose(found, [-1, 0, 1], atol=0.01)
    with pytest.raises(RequestError, match="The image has more than 16 bits a channel"):
        from_picture(Image.new("F", (3, 1)), height=1, width=3)


def test_a_cell_is_repainted_if_any_of_its_pixels_is():
    mask = np.zeros([8, 12], np.uint8)
    mask[5, 3] = 128
    mask[0, 11] = 127
    cells = from_mask(Image.fromarray(mask), height=8, width=12, latent=(2, 3))
    assert cells.dtype == np.float32
    np.testing.assert_array_equal(cells[0, :, :, 0], [[0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("size", [(512, 512), (500, 500), (515, 512), (64, 64), (3, 3)])
def test_the_thinnest_stroke_is_repainted(size):
    """At 64 pixels and 8 cells: of a larger mask, of a smaller one, and of one that is cut."""
    columns, rows = size
    side = min(rows, columns)
    cut = columns - side  # Half of it at either end.
    for column in range(cut // 2, columns - cut // 2):
        mask = np.zeros([rows, columns], np.uint8)
        mask[rows // 2, column] = 255
        cells = from_mask(Image.fromarray(mask), height=64, width=64, latent=(8, 8))[0, :, :, 0]
        start, end = (8 * (2 * x - cut) for x in (column, column + 1))
        reached = [start < 2 * side * (cell + 1) and end > 2 * side * cell for cell in range(8)]
        np.testing.assert_array_equal(cells.max(axis=0), reached)


@pytest.mark.parametrize("mask", [Image.new("L", (12, 8), 127), Image.new("L", (80, 8), 0)])
def test_a_mask_that_repaints_nothing_is_refused(mask):
    mask.paste(255, (0, 0, mask.width // 80, 8))  # Of the wide one, what is cut off.
    with pytest.raises(RequestError, match="The mask repaints nothing: make it white"):
        from_mask(mask, height=8, width=12, latent=(2, 3))


def test_a_mask_is_turned_as_its_picture_is():
    mask = Image.fromarray(np.zeros([8, 12], np.uint8))
    mask.putpixel((3, 5), 255)
    lying = mask.transpose(Image.Transpose.ROTATE_90)  # As a phone stores it.
    lying.getexif()[0x0112] = 6
    cells = [from_mask(m, height=8, width=12, latent=(2, 3)) for m in (mask, lying)]
    assert cells[0].sum() == 1.0
    np.testing.assert_array_equal(*cells)


def test_a_mask_of_16_bits_is_scaled_and_of_more_refused():
    mask = np.zeros([8, 12], np.uint16)
    mask[5, 3], mask[0, 0], mask[0, 11] = 33000, 32000, 255
    for kind in (np.uint16, np.int32):  # How Pillow reads PNGs of 16 bits, by version.
        deep = Image.fromarray(mask.astype(kind))
        cells = from_mask(deep, height=8, width=12, latent=(2, 3))
        np.testing.assert_array_equal(cells[0, :, :, 0], [[0, 0, 0], [1, 0, 0]])
    with pytest.raises(RequestError, match="The mask has more than 16 bits a channel"):
        from_mask(Image.new("F", (12, 8), 1.0), height=8, width=12, latent=(2, 3))


def test_a_mask_in_lab_is_read():
    """A TIFF can be that."""
    mask = Image.new("LAB", (12, 8), (0, 128, 128))
    mask.putpixel((3, 5), (255, 128, 128))
    cells = from_mask(mask, height=8, width=12, latent=(2, 3))
    np.testing.assert_array_equal(cells[0, :, :, 0], [[0, 0, 0], [1, 0, 0]])


def test_what_pillow_does_not_convert_is_told(monkeypatch):
    def refuse(picture):
        raise ValueError("conversion from LAB to RGB not supported")

    monkeypatch.setattr("tfsnap.runtime.pictures.upright_rgb", refuse)
    with pytest.raises(RequestError, match="The image cannot be used: .*LAB.*: save it in RGB"):
        from_picture(Image.new("LAB", (12, 8)), height=8, width=12)
