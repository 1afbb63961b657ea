"""Sizes of picture: how they are written, and what a manifest may say of them."""

import copy
import json

import pytest

from tfsnap.runtime import Bundle, RequestError, TextToImage
from tfsnap.runtime.manifest import Manifest
from tfsnap.runtime.sizes import Size, check_sizes, height_and_width, parse_size

SIZES = [
    {"height": 16, "width": 16, "latent": [8, 8, 4]},
    {"height": 16, "width": 24, "latent": [8, 12, 4]},
]


@pytest.fixture
def values(tiny_bundle):
    values = json.loads((tiny_bundle / "manifest.json").read_text())
    return {**values, "format_version": 2, "sizes": copy.deepcopy(SIZES)}


def test_height_comes_first():
    assert parse_size("512x768") == (512, 768)
    assert parse_size("512") == (512, 512)


@pytest.mark.parametrize("text", ["", "512x", "x512", "0x8", "8x-8", "8 x 8", "512x768x3", "ax8"])
def test_what_is_no_size(text):
    with pytest.raises(RequestError, match="it must be HEIGHTxWIDTH, as 512x768, or one"):
        parse_size(text)


def test_programs_give_numbers():
    assert height_and_width((512, 768)) == height_and_width([512, 768]) == (512, 768)
    assert height_and_width(512) == (512, 512)


@pytest.mark.parametrize("size", [(512,), (512, 768, 3), "512", ("512", "768"), 512.0, {}])
def test_what_is_no_size_of_a_program(size):
    with pytest.raises(
        RequestError, match=r"it must be \(height, width\) in pixels, or one number"
    ):
        height_and_width(size)


def test_contracts_of_another_size(values):
    manifest = Manifest.from_json(values)
    assert json.loads(json.dumps(manifest.to_dict())) == values
    wide = manifest.at(manifest.sizes[1])
    assert wide.image_shape == (16, 24, 3)
    assert wide.settings.latent.shape == (8, 12, 4)
    shapes = {t.name: t.shape for t in wide.components["unet"].inputs}
    assert shapes == {"latent": (1, 8, 12, 4), "time_features": (1, 1, 32), "context": (1, 16, 8)}
    assert wide.components["text_encoder"] == manifest.components["text_encoder"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(format_version=1), "format_version is 1; it must be 2"),
        (lambda v: v["sizes"].reverse(), "sizes must begin with the default, "),
        (lambda v: v["sizes"].clear(), "sizes must begin with the default, "),
        (lambda v: v["sizes"].append(SIZES[1]), "sizes has one twice: 16x16, 16x24, 16x24"),
        (
            lambda v: v["sizes"][1].update(width=20),
            "the latent of 16x20 is .8, 12, 4.; the default",
        ),
        (lambda v: v["sizes"][1].update(latent=[8, 12, 3]), "the latent of 16x24 is"),
        (lambda v: v["sizes"][1].update(latent=[8, 12]), "height, width and channels"),
        (lambda v: v["sizes"][1].update(width=0), "width is 0; it must be positive"),
        (lambda v: v["sizes"][1].pop("width"), "lacks 'width'"),
    ],
)
def test_what_is_wrong_is_told(values, change, message):
    change(values)
    with pytest.raises(ValueError, match=message):
        Manifest.from_json(values)


def test_ratios_are_of_each_side_where_the_default_is_no_square():
    sizes = (Size(16, 24, (8, 12, 4)), Size(32, 16, (16, 8, 4)))
    check_sizes(sizes, latent=(8, 12, 4), image=(16, 24, 3))
    with pytest.raises(ValueError, match="the latent of 32x16 is .16, 12, 4."):
        wrong = Size(32, 16, (16, 12, 4))
        check_sizes((sizes[0], wrong), latent=(8, 12, 4), image=(16, 24, 3))


def test_a_size_that_a_bundle_does_not_draw(tiny_bundle, edit):
    bundle = Bundle.open(tiny_bundle)
    assert bundle.at(16, 16) is bundle
    with pytest.raises(RequestError, match=r"draws pictures of 16x16 pixels .*, not 16x24"):
        bundle.at(16, 24)
    with pytest.raises(RequestError, match="not 24x24"):
        TextToImage(bundle, size=24)
    several = Bundle.open(edit(lambda v: v.update(format_version=2, sizes=SIZES)))
    assert several.at(16, 24).signature_of("unet") == "16x24"
    assert several.at(16, 24).signature_of("text_encoder") == "serving_default"
    with pytest.raises(RequestError, match="of 16x16, 16x24 pixels"):
        several.at(24, 16)
