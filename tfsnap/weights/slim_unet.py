"""A UNet with fewer channels, from the strongest of a wide one."""

from collections.abc import Mapping

import numpy as np

from tfsnap.config import StageConfig, UNetConfig, differences
from tfsnap.weights.slim import Wiring, slim

_ABOUT_TIME = 'add "time_width": {} to the narrow shape, whose first stage says it otherwise'
_FEED_FORWARD = 4  # Hidden width of `GegluFeedForward` over its width.


def slim_unet(
    tensors: Mapping[str, np.ndarray], *, wide: UNetConfig, narrow: UNetConfig
) -> dict[str, np.ndarray]:
    """Keeps the strongest channels of a UNet, see `slim`.

    Of an attention the strongest of each head are kept. A norm over a skip connection and what it
    is joined to has groups of both: there the share of a group is only nearly the same. Fewer
    groups are several of the wide network's made one.

    Args:
      tensors: weights, by address.
      wide: of their network.
      narrow: the same but for the channels of the stages and the number of groups, none larger.

    Returns:
      The weights of the narrow UNet.

    Raises:
      ValueError: the configs differ in more than channels, or those grow, or heads have a fixed
        width.
    """
    if wide.head_width is not None:
        raise ValueError("heads of a fixed width cannot be made narrower")
    stages = {
        "down": tuple(map(_with_channels, wide.down, narrow.down)),
        "mid": _with_channels(wide.mid, narrow.mid) if wide.mid and narrow.mid else wide.mid,
        "up": tuple(map(_with_channels, wide.up, narrow.up)),
    }
    # The features of time stay, though their width may have been that of the first stage.
    wanted = wide.replace(groups=narrow.groups, time_width=wide.time_width, **stages)
    others = differences(wanted.to_dict(), narrow.to_dict())
    if others:
        if narrow.time_width != wide.time_width:
            others.append(_ABOUT_TIME.format(wide.time_width))
        raise ValueError(
            f"only the channels of stages and their groups may differ, but {'; '.join(others)}"
        )
    result = slim(tensors, wide=_wiring(wide), narrow=_wiring(narrow))
    widths = {name: stage.channels for name, stage in narrow.stages.items()}
    for name, stage in wide.stages.items():
        # Scores are divided by the square root of a head's width: they stay what they were.
        scale = np.sqrt(widths[name] / stage.channels, dtype=np.float32)
        for address in result:
            if address.startswith(f"{name}.attentions.") and address.endswith(".query.kernel"):
                result[address] = result[address] * scale
    return result


def _with_channels(stage: StageConfig, other: StageConfig) -> StageConfig:
    return stage.replace(channels=other.channels)


def _wiring(config: UNetConfig) -> Wiring:
    wiring, width = Wiring(), config.down[0].channels
    features = wiring.stream("features", config.time_width)
    if config.guidance_width is not None:
        wiring.layer("time.guidance", wiring.stream("guidance", config.guidance_width), features)
    wiring.layer("time.in", features, wiring.stream("time.inner", 4 * width))
    wiring.layer("time.out", "time.inner", wiring.stream("time", 4 * width))
    wiring.stream("context", config.context_width)
    latent = wiring.stream("latent", config.in_channels)
    x = wiring.stream("conv_in", width, config.groups)
    wiring.layer("conv_in", latent, x)
    skips, last = [x], len(config.down) - 1
    for i, stage in enumerate(config.down):
        x, left = _stage(wiring, config, f"down.{i}", stage, x)
        skips += left
        if i < last:
            x = _resampled(wiring, config, f"down.{i}.downsample.conv", stage, x)
            skips.append(x)
    if config.mid is not None:
        x, _ = _stage(wiring, config, "mid", config.mid, x)
    for i, stage in enumerate(config.up):
        x, _ = _stage(wiring, config, f"up.{i}", stage, x, skips)
        if i < last:
            x = _resampled(wiring, config, f"up.{i}.upsample.conv", stage, x)
    wiring.norm("norm_out", x)
    wiring.layer("conv_out", x, wiring.stream("prediction", config.out_channels))
    return wiring


def _resampled(wiring: Wiring, config: UNetConfig, at: str, stage: StageConfig, x: str) -> str:
    writes = wiring.stream(at, stage.channels, config.groups)
    wiring.layer(at, x, writes)
    return writes


def _stage(
    wiring: Wiring,
    config: UNetConfig,
    at: str,
    stage: StageConfig,
    x: str,
    skips: list[str] | None = None,
) -> tuple[str, list[str]]:
    """Adds the blocks of a stage; takes skip connections from the end of `skips`.

    Returns:
      The stream that the last block writes, and those that all ResNets leave for the way up.
    """
    left = []
    for i, attentions in enumerate(stage.attentions):
        reads = (x,) if skips is None else (x, skips.pop())
        resnet = f"{at}.resnets.{i}"
        x = wiring.resnet(resnet, reads, stage.channels, config.groups)
        wiring.layer(f"{resnet}.time", "time", f"{resnet}.inner")
        for k in range(attentions):
            _transformer(wiring, config, f"{at}.attentions.{i}.{k}", stage.channels, x)
        left.append(x)
    return x, left


def _transformer(wiring: Wiring, config: UNetConfig, at: str, width: int, x: str) -> None:
    inner = wiring.stream(f"{at}.inner", width, config.groups)
    wiring.norm(f"{at}.norm", x)
    wiring.layer(f"{at}.proj_in", x, inner)
    heads = config.heads_of(width)
    for number, (name, source) in enumerate(
        [("self_attention", inner), ("cross_attention", "context")], start=1
    ):
        scores = wiring.stream(f"{at}.{name}.scores", width, heads)
        mixed = wiring.stream(f"{at}.{name}.mixed", width, heads)
        wiring.norm(f"{at}.norm{number}", inner)
        wiring.layer(f"{at}.{name}.query", inner, scores)
        wiring.layer(f"{at}.{name}.key", source, scores)
        wiring.layer(f"{at}.{name}.value", source, mixed)
        wiring.layer(f"{at}.{name}.out", mixed, inner)
    hidden = wiring.stream(f"{at}.hidden", _FEED_FORWARD * width)
    wiring.norm(f"{at}.norm3", inner)
    wiring.layer(f"{at}.feed_forward.up", inner, (hidden, hidden))  # Values and gates.
    wiring.layer(f"{at}.feed_forward.down", hidden, inner)
    wiring.layer(f"{at}.proj_out", inner, x)
