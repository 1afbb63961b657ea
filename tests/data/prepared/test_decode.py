"""Every odd kind of picture, as a file of that kind, and what becomes of it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfsnap.data.prepared import decode as module
from tfsnap.data.prepared.decode import decode
from tfsnap.data.readers.entry import UnusableError

pytestmark = [  # Pillow warns of damage that does no harm, and of bombs before it refuses them.
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
NEAR = 6  # What a JPEG of the best quality may change a plain colour by.


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data, *, min_size=1, side=4096):
    image = decode(data, min_size=min_size, side=side)
    assert image.mode == "RGB"
    return np.asarray(image)


def plain(colour, mode="RGB", size=(8, 6)):
    return Image.new(mode, size, colour)


def png(width, height, *, depth, colour, rows, more=b""):
    """A PNG put together by hand, for what Pillow does not write."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    raw = b"".join(b"\0" + row for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "ICO", "WEBP", "TGA"])
def test_plain_pictures_keep_their_colours(kind):
    image = plain(RED, size=(16, 16))
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decoded(encoded(image, kind, **options))[3, 3], RED)


def test_16_bit_grey_is_scaled():
    values = np.array([[0, 128, 255, 257, 32896, 65535]] * 4, np.uint16)
    data = encoded(Image.fromarray(values))
    assert data[24] == 16  # The depth, in the header: this really is a 16-bit PNG.
    expected = [0, 0, 1, 1, 128, 255]
    for file in (data, encoded(Image.fromarray(values), "TIFF")):
        for channel in range(3):
            np.testing.assert_array_equal(decoded(file)[0, :, channel], expected)


def test_16_bit_colour_is_scaled():
    pixels = np.array([[0, 32896, 65535], [65535, 257, 0]], ">u2")
    data = png(2, 1, depth=16, colour=2, rows=[pixels.tobytes()])
    np.testing.assert_array_equal(decoded(data)[0], [[0, 128, 255], [255, 1, 0]])


def test_16_bit_grey_with_alpha_and_with_a_transparent_value_is_on_white():
    pixels = np.array([[32896, 65535], [0, 0]], ">u2")  # Half grey, opaque; black, transparent.
    data = png(2, 1, depth=16, colour=4, rows=[pixels.tobytes()])
    np.testing.assert_array_equal(decoded(data)[0, :, 0], [128, 255])
    key = struct.pack(">I", 2) + b"tRNS\x12\x34" + struct.pack(">I", zlib.crc32(b"tRNS\x12\x34"))
    grey = np.array([0x1234, 0x1235], ">u2")
    data = png(2, 1, depth=16, colour=0, rows=[grey.tobytes()], more=key)
    np.testing.assert_array_equal(decoded(data)[0, :, 0], [255, round(0x1235 / 257)])


def test_deeper_pictures_are_skipped():
    for image in (Image.new("F", (4, 4), 0.5), Image.new("I", (4, 4), 70_000)):
        with pytest.raises(UnusableError, match=module.DEPTH):
            decoded(encoded(image, "TIFF"))


def test_transparency_becomes_white():
    rgba = Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    rgba.putpixel((0, 0), (0, 0, 255, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 128))
    pixels = decoded(encoded(rgba))
    np.testing.assert_array_equal(pixels[0, :3], [BLUE, (127,) * 3, WHITE])
    grey = Image.new("LA", (2, 1), (10, 0))
    grey.putpixel((0, 0), (10, 255))
    np.testing.assert_array_equal(decoded(encoded(grey))[0], [(10,) * 3, WHITE])


def test_palettes_with_transparent_colours():
    palette = Image.new("P", (3, 1))
    palette.putpalette([*RED, *GREEN, *BLUE])
    palette.putdata([0, 1, 2])
    expected = [RED, WHITE, BLUE]
    for data in (
        encoded(palette, transparency=1),
        encoded(palette, transparency=bytes([255, 0, 255])),
        encoded(palette, "GIF", transparency=1),
    ):
        np.testing.assert_array_equal(decoded(data)[0], expected)
    np.testing.assert_array_equal(decoded(encoded(palette))[0], [RED, GREEN, BLUE])
    np.testing.assert_array_equal(decoded(encoded(plain(1, "1")))[0, 0], WHITE)


def without_adobe(data):
    """Cuts the segment APP14 out of a JPEG."""
    place = data.index(b"\xff\xee")
    return data[:place] + data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") :]


def test_cmyk_of_adobe_and_of_others():
    """Adobe stores CMYK inverted and says so by its segment; Pillow writes as Adobe does."""
    red = plain((0, 255, 255, 0), "CMYK", (16, 16))
    data = encoded(red, "JPEG", quality=100)
    assert b"Adobe" in data
    np.testing.assert_allclose(decoded(data)[5, 5], RED, atol=NEAR)
    inverted = plain((255, 0, 0, 255), "CMYK", (16, 16))
    data = without_adobe(encoded(inverted, "JPEG", quality=100))
    assert b"Adobe" not in data
    np.testing.assert_allclose(decoded(data)[5, 5], RED, atol=NEAR)
    np.testing.assert_array_equal(decoded(encoded(red, "TIFF"))[5, 5], RED)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_turns_pictures_upright(kind, orientation):
    """Each orientation is undone: the upper left quarter of what is seen is red."""
    seen = np.zeros([16, 32, 3], np.uint8)
    seen[:8, :16] = RED
    stored = {
        1: seen,
        2: seen[:, ::-1],
        3: seen[::-1, ::-1],
        4: seen[::-1],
        5: seen.transpose(1, 0, 2),
        6: np.rot90(seen),
        7: seen[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(seen, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    image = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    found = decoded(encoded(image, kind, exif=exif, **options)).astype(int)
    assert found.shape == (16, 32, 3)
    np.testing.assert_allclose(found[2:6, 2:14], np.broadcast_to(RED, [4, 12, 3]), atol=NEAR)
    assert found[10:, :].max() <= NEAR and found[:, 18:].max() <= NEAR


def test_damaged_exif_does_not_cost_the_picture():
    data = encoded(plain(GREEN, size=(16, 16)), "JPEG", quality=100, exif=b"Exif\0\0MM\0*garbage")
    np.testing.assert_allclose(decoded(data)[5, 5], GREEN, atol=NEAR)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_animations_the_first_frame_is_taken(kind):
    frames = [plain(colour, size=(16, 16)) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    np.testing.assert_array_equal(decoded(data)[5, 5], RED)


def noise(size=(64, 48)):
    pixels = np.random.default_rng(0).integers(0, 256, [size[1], size[0], 3])
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"])
def test_truncated_files_are_skipped(kind):
    """At whatever byte they end: nothing else is ever raised."""
    data = encoded(noise(), kind)
    decoded(data)
    for size in (len(data) // 2, *range(1, 200, 7)):
        with pytest.raises(UnusableError, match=f"{module.DAMAGED}|{module.FOREIGN}"):
            decoded(data[:size])


def test_flipped_bytes_never_raise_anything_else():
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        data = np.frombuffer(encoded(noise((24, 16)), kind), np.uint8)
        for _ in range(40):
            broken = data.copy()
            places = random.integers(0, min(len(data), 300), 3)
            broken[places] = random.integers(0, 256, 3)
            try:
                decoded(broken.tobytes())
            except UnusableError:
                continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", module.EMPTY),
        (b"text that was named .jpg", module.FOREIGN),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", module.FOREIGN),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", module.FOREIGN),
    ],
)
def test_what_is_no_picture_says_so(data, reason):
    with pytest.raises(UnusableError, match=f"^{reason}$"):
        decoded(data)


def test_small_pictures_are_skipped():
    data = encoded(plain(RED, size=(1, 100)))
    with pytest.raises(UnusableError, match=module.TOO_SMALL):
        decoded(data, min_size=2)
    assert decoded(data, min_size=1).shape == (100, 1, 3)


def test_decompression_bombs_are_not_decoded():
    for side in (8200, 20_000):  # Above our own limit, and above Pillow's.
        rows = [b"\0" * -(-side // 8)] * side
        data = png(side, side, depth=1, colour=0, rows=rows)
        assert len(data) < 200_000
        with pytest.raises(UnusableError, match=module.TOO_MANY_PIXELS):
            decoded(data)


def test_large_jpegs_are_decoded_smaller_but_not_too_small():
    pixels = decoded(encoded(noise((640, 480)), "JPEG"), side=50, min_size=400)
    assert pixels.shape == (120, 160, 3)  # A quarter; an eighth would be less than 2 * 50.
    assert decoded(encoded(noise((640, 480)), "JPEG"), side=300).shape == (480, 640, 3)
