"""Descriptions of networks and schedules: what none is made of is told with the field."""

import math

import numpy as np
import pytest

from tfsnap.config import (
    AutoencoderConfig,
    ClipConfig,
    ClipImageConfig,
    ClipTextConfig,
    ScheduleConfig,
    StageConfig,
    TinyDecoderConfig,
    UNetConfig,
)
from tfsnap.diffusion.schedule import NoiseSchedule

NO_WIDTH = (0, -8, 2.0, True, "8", None, [8])
NO_NUMBER = (0, -1.0, math.inf, math.nan, 10**400, True, "1", None)

WRONG = {
    (ScheduleConfig, "kind"): ("cosine", 1, ["linear"]),
    (ScheduleConfig, "beta_start"): NO_NUMBER,
    (ScheduleConfig, "beta_end"): NO_NUMBER,
    (ScheduleConfig, "steps"): (*NO_WIDTH, 2.5, "1000"),
    (UNetConfig, "down"): ((), None, 4, (1, 2, 3, 4)),
    (UNetConfig, "up"): ((), (StageConfig(1280, 3),), {}),
    (UNetConfig, "mid"): (4, StageConfig(640, 2)),
    **{
        (UNetConfig, field): NO_WIDTH
        for field in ("in_channels", "out_channels", "context_width", "heads", "groups")
    },
    (UNetConfig, "head_width"): (0, -32, 32.0, True, "32"),
    (UNetConfig, "time_width"): (0, -2, 31, 32.0, True, "32"),
    (UNetConfig, "guidance_width"): (0, 2, 5, 32.0, "32"),
    (TinyDecoderConfig, "channels"): ((), (0, 8), (8.0,), 8, None),
    (TinyDecoderConfig, "blocks"): ((), (1,), (1, 2, 3, -1), (1, 2, 3, 3.0), 4, None),
    (TinyDecoderConfig, "expansion"): NO_WIDTH,
    (AutoencoderConfig, "channels"): ((), (0, 0), (-32, -64), (32.0,), (33,), 32, None),
    (AutoencoderConfig, "decoder_channels"): ((), (32,), (0, 0, 0, 0), 32),
    (AutoencoderConfig, "scale"): NO_NUMBER,
    (AutoencoderConfig, "tiny_decoder"): (4, TinyDecoderConfig((8,), (1,))),
    **{(AutoencoderConfig, field): NO_WIDTH for field in ("resnets", "latent_channels", "groups")},
    (ClipTextConfig, "vocab_size"): NO_WIDTH,
    (ClipTextConfig, "context_length"): (*NO_WIDTH, 1),
    (ClipImageConfig, "resolution"): (*NO_WIDTH, -14, 225),
    (ClipImageConfig, "patch"): NO_WIDTH,
    (ClipImageConfig, "mean"): ((), (0.5, 0.5), (0.5, 0.5, math.nan), "rgb", 0.5),
    (ClipImageConfig, "std"): ((), (0.5, 0.5), (0.5, 0.5, 0.0), None),
    (ClipConfig, "embedding_width"): NO_WIDTH,
    **{
        (tower, field): NO_WIDTH
        for tower in (ClipTextConfig, ClipImageConfig)
        for field in ("width", "layers", "heads")
    },
    **{
        (tower, field): bad
        for tower in (ClipTextConfig, ClipImageConfig)
        for field, bad in {
            "mlp_ratio": (*NO_NUMBER, 1e-6, 1e307),
            "activation": ("relu", None, ["gelu"]),
        }.items()
    },
}


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [(kind, field, value) for (kind, field), bad in WRONG.items() for value in bad],
    ids=lambda value: getattr(value, "__name__", repr(value)[:20]),
)
def test_a_value_out_of_range_is_told_with_its_field(kind, field, value):
    with pytest.raises(ValueError, match=rf"^{kind.__name__}\.{field} is .*; it must be "):
        kind(**{field: value})


@pytest.mark.parametrize("field", ["channels", "resnets"])
@pytest.mark.parametrize("value", [0, -1, 320.0, True, "320", None])
def test_a_stage_is_of_whole_numbers(field, value):
    with pytest.raises(ValueError, match=rf"^StageConfig\.{field} is .*; it must be a whole"):
        StageConfig(**{"channels": 8, "resnets": 2, field: value})


@pytest.mark.parametrize("value", [-2, 3, (1,), (1, -1), (1, 1.0), 2.0, True, None, "11"])
def test_a_stages_attentions_are_counts(value):
    with pytest.raises(ValueError, match=r"^StageConfig\.attentions is .*; it must be "):
        StageConfig(8, 2, value)


def test_lists_are_the_tuples_they_stand_for():
    for listed, tupled in (
        (StageConfig(320, 2, [1, 1]), StageConfig(320, 2, 2)),
        (UNetConfig(down=list(UNetConfig().down)), UNetConfig()),
        (AutoencoderConfig(channels=[128, 256, 512, 512]), AutoencoderConfig()),
        (ClipImageConfig(mean=[0.5, 0.5, 0.5]), ClipImageConfig()),
        (TinyDecoderConfig(blocks=[1, 2, 3, 3]), TinyDecoderConfig()),
    ):
        assert listed == tupled and hash(listed) == hash(tupled)


@pytest.mark.parametrize("split", [{"groups": 7}, {"heads": 7}, {"head_width": 48}])
def test_channels_fit_groups_and_heads(split):
    (field, number), *_ = split.items()
    with pytest.raises(ValueError, match=f"channels are not a multiple of .*{field}={number}"):
        UNetConfig(**split)


@pytest.mark.parametrize(
    ("kind", "first", "last", "steps"),
    [
        ("linear", 0.5, 0.99, 1000),
        ("linear", 0.0001, 0.06, 1000),
        ("scaled_linear", 0.00085, 0.012, 10_000),
        ("scaled_linear", 0.5, 1 - 2**-53, 2),
    ],
)
def test_a_schedule_leaves_some_signal(kind, first, last, steps):
    with pytest.raises(ValueError, match=rf"^ScheduleConfig\.beta_end is {last}; .*={steps}, "):
        ScheduleConfig(kind, first, last, steps)


def test_schedules_of_any_number_of_steps_that_leave_signal():
    for config in (
        ScheduleConfig("linear", 0.0001, 0.05, 1000),
        ScheduleConfig("linear", 0.0001, 0.0001, 200_000),
        ScheduleConfig(beta_start=0.99, beta_end=0.999, steps=3),
        ScheduleConfig("linear", 1e-4, 1 - 1e-13, 1),  # It has the first beta alone.
    ):
        assert np.isfinite(NoiseSchedule(config).point(config.steps - 1)).all()


def test_fields_that_follow_from_others_follow_their_change():
    autoencoder, narrow = AutoencoderConfig(), (64, 128, 256, 256)
    assert autoencoder.replace(channels=narrow) == AutoencoderConfig(narrow)
    tiny = AutoencoderConfig(tiny_decoder=TinyDecoderConfig()).replace(channels=narrow)
    assert tiny.decoder_channels == narrow
    own = autoencoder.replace(decoder_channels=narrow)
    assert own.replace(scale=1.0).decoder_channels == narrow
    assert own.replace(channels=(256, 256, 512, 512)).decoder_channels == narrow
    stages = {"down": (StageConfig(32, 1),), "mid": None, "up": (StageConfig(32, 2),)}
    assert UNetConfig().replace(**stages) == UNetConfig(**stages)
    assert UNetConfig(time_width=64).replace(**stages).time_width == 64
    assert UNetConfig().replace(**stages, time_width=320).time_width == 320
    assert UNetConfig.from_dict(UNetConfig().to_dict()) == UNetConfig()


def test_autoencoders_are_compared_but_for_their_decoders():
    mine = AutoencoderConfig(channels=(64, 128))
    tiny = TinyDecoderConfig((8, 8), (1, 1))
    assert mine.encoder_differences(mine.replace(tiny_decoder=tiny)) == []
    assert mine.encoder_differences(mine.replace(decoder_channels=(32, 32))) == []
    other = AutoencoderConfig(channels=(32, 64), tiny_decoder=tiny)
    assert mine.encoder_differences(other) == ["channels was [64, 128], is [32, 64]"]
    deeper = AutoencoderConfig(scale=0.5)
    assert len(mine.encoder_differences(deeper)) == 2
