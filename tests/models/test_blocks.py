"""Blocks by themselves against the network that they make up."""

import numpy as np
import pytest

from tfsnap.config import StageConfig, UNetConfig
from tfsnap.models.blocks import Block, blocks_of, build_block
from tfsnap.models.presets import UNETS
from tfsnap.models.profile import profile_unet
from tfsnap.models.unet import build_unet

CONFIG = UNetConfig(
    down=(StageConfig(8, 2, (1, 0)), StageConfig(16, 1, 0), StageConfig(24, 1, 1)),
    mid=StageConfig(24, 2, (1, 0)),
    up=(StageConfig(24, 2, (2, 0)), StageConfig(16, 2, 0), StageConfig(8, 3, (0, 1, 0))),
    context_width=6,
    heads=2,
    groups=4,
)


def test_the_blocks_are_those_of_the_network():
    blocks = blocks_of(CONFIG, latent=(8, 12), tokens=5)
    unet = build_unet(CONFIG)
    assert [name for name in blocks if ".resnets." in name or ".attentions." in name] == list(
        unet.blocks
    )
    cost = profile_unet(CONFIG, latent=(8, 12), tokens=5)
    parameters = {block.name: block.parameters for block in cost.blocks}
    for name, block in blocks.items():
        alone = build_block(block)
        found = sum(layer.count_params() for layer in alone.layers)
        parts = {"time": ("time.in", "time.out"), "conv_out": ("norm_out", "conv_out")}
        assert found == sum(parameters[part] for part in parts.get(name, (name,))), name


@pytest.mark.parametrize("name", UNETS)
def test_blocks_follow_the_feature_maps_of_real_networks(name):
    blocks = blocks_of(UNETS[name], latent=(64, 64), tokens=77)
    assert blocks["conv_out"].height == 64
    lowest = 64 // UNETS[name].downsampling
    assert min(block.height for block in blocks.values() if block.height) == lowest
    middle = {b.height for n, b in blocks.items() if n.startswith("mid")}
    assert middle == ({lowest} if UNETS[name].mid else set())
    assert len(set(blocks.values())) < len(blocks)  # Equal blocks are measured once.


def test_a_block_alone_computes():
    blocks = blocks_of(CONFIG, latent=(8, 12), tokens=5)
    rng = np.random.default_rng(0)
    for name, block in blocks.items():
        alone = build_block(block)
        maps = {
            n: rng.standard_normal(shape).astype(np.float32) for n, shape in alone.inputs.items()
        }
        out = alone.function(**maps)
        assert out.shape[-1] == block.channels, name
        scale = {"downsample": 0.5, "upsample": 2.0}.get(block.kind, 1.0)
        if block.height:
            assert tuple(out.shape[1:3]) == (block.height * scale, block.width * scale), name


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind is 'pool'; it must be one of time, conv_in"):
        build_block(Block("pool", 4, 4))
