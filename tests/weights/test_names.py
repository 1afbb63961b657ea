"""The name tables list exactly the weights that the networks have."""

import math

import pytest

from tfsnap.config import (
    AutoencoderConfig,
    ClipConfig,
    ClipImageConfig,
    ClipTextConfig,
    StageConfig,
    TinyDecoderConfig,
    UNetConfig,
)
from tfsnap.models.autoencoder import build_autoencoder
from tfsnap.models.clip import build_clip, build_text_encoder
from tfsnap.models.unet import build_unet
from tfsnap.models.weightless import build_weightless
from tfsnap.weights.archive import describe
from tfsnap.weights.convert import TFSNAP, read
from tfsnap.weights.names.autoencoder import autoencoder_rows
from tfsnap.weights.names.clip import clip_rows
from tfsnap.weights.names.text_encoder import text_encoder_rows
from tfsnap.weights.names.unet import unet_rows
from tfsnap.weights.store import WeightMismatchError, addressed, save_weights

SECOND_UNET = UNetConfig(context_width=1024, head_width=64)
SECOND_TEXT = ClipTextConfig(width=1024, layers=23, heads=16, activation="gelu")
OPEN_CLIP_G = ClipConfig(
    text=ClipTextConfig(width=1024, layers=24, heads=16),
    image=ClipImageConfig(width=1408, layers=40, mlp_ratio=6144 / 1408),
    embedding_width=1024,
)
PRUNED_UNET = UNetConfig(
    down=(StageConfig(8, 2, (0, 1)), StageConfig(16, 1, 0)),
    mid=StageConfig(16, 2, (2, 0)),
    up=(StageConfig(16, 2, 0), StageConfig(8, 3, (0, 0, 2))),
    in_channels=3,
    context_width=5,
    heads=2,
    groups=4,
    time_width=6,
)


@pytest.mark.parametrize(
    ("rows", "build", "config"),
    [
        (unet_rows, build_unet, PRUNED_UNET),
        (unet_rows, build_unet, PRUNED_UNET.replace(guidance_width=4)),
        (
            autoencoder_rows,
            build_autoencoder,
            AutoencoderConfig(channels=(8, 16), decoder_channels=(4, 8), resnets=1, groups=4),
        ),
        (text_encoder_rows, build_text_encoder, ClipTextConfig(20, 7, 6, 2, 3, 2)),
        (
            clip_rows,
            build_clip,
            ClipConfig(
                ClipTextConfig(20, 7, 6, 2, 3, 2), ClipImageConfig(8, 4, 22, 1, 2, 96 / 22), 5
            ),
        ),
    ],
)
def test_tables_are_the_models(rows, build, config):
    variables = addressed(build_weightless(lambda: build(config)).variables)
    table = {row.address: row.shape for row in rows(config)}
    assert table == {key: tuple(variable.shape) for key, variable in variables.items()}
    for column in ("diffusers", "ldm"):
        assert len({getattr(row, column) for row in rows(config)}) == len(table)


@pytest.mark.parametrize(
    ("rows", "tensors", "parameters"),
    [
        (unet_rows(UNetConfig()), 686, 859_520_964),
        (unet_rows(SECOND_UNET), 686, 865_910_724),
        (text_encoder_rows(ClipTextConfig()), 196, 123_060_480),
        (text_encoder_rows(SECOND_TEXT), 372, 340_387_840),
        (autoencoder_rows(AutoencoderConfig()), 248, 83_653_863),
        (clip_rows(ClipConfig()), 590, 427_616_513),
        (clip_rows(OPEN_CLIP_G), 1038, 1_366_678_273),
    ],
)
def test_full_size_tables_have_the_published_numbers(rows, tensors, parameters):
    assert len(rows) == tensors
    assert sum(math.prod(row.shape) for row in rows) == parameters


def test_heads_of_one_width_are_as_many_as_fit():
    assert [SECOND_UNET.heads_of(stage.channels) for stage in SECOND_UNET.down] == [5, 10, 20, 20]
    assert UNetConfig().heads_of(1280) == 8
    with pytest.raises(ValueError, match="groups=4 and head_width=3"):
        PRUNED_UNET.replace(head_width=3)
    with pytest.raises(ValueError, match="one of quick_gelu, gelu"):
        ClipTextConfig(activation="relu")


def test_a_tiny_decoder_has_no_names_elsewhere(tmp_path):
    tiny = TinyDecoderConfig(channels=(4,), blocks=(1,))
    config = AutoencoderConfig(channels=(8,), resnets=1, groups=4, tiny_decoder=tiny)
    model = build_autoencoder(config)
    path = tmp_path / "autoencoder.safetensors"
    save_weights(path, model.variables, metadata=describe(model))
    with pytest.raises(WeightMismatchError, match="tiny decoder, .* cannot be converted; .*export"):
        read(path, TFSNAP, ["autoencoder"])
