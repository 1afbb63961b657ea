"""UNets and autoencoders by name."""

import json
import pathlib
from collections.abc import Mapping
from typing import TypeVar

from tfsnap.config import (
    DESCRIPTION_ERRORS,
    AutoencoderConfig,
    Config,
    StageConfig,
    TinyDecoderConfig,
    UNetConfig,
)

C = TypeVar("C", bound=Config)

# Table 3 of SnapFusion in the only reading that skip connections allow: of the four ResNets of
# "mid", which pools Down-4, mid and Up-0, one is in each of the first two and two in the last. The
# two ResNets of Up-1 carry three attentions each. 759,327,364 parameters.
_SNAPFUSION = UNetConfig(
    down=(
        StageConfig(320, 2, 0),
        StageConfig(640, 2, 2),
        StageConfig(1280, 1, 2),
        StageConfig(1280, 1, 0),
    ),
    mid=StageConfig(1280, 1, 1),
    up=(
        StageConfig(1280, 2, 0),
        StageConfig(1280, 2, 6),
        StageConfig(640, 3, 3),
        StageConfig(320, 3, 0),
    ),
)

# The paper's table 1 gives 848 M parameters, which only this has: Stable Diffusion without the five
# attentions at the highest resolution. 846,789,764 parameters.
_SNAPFUSION_848M = UNetConfig(
    down=(StageConfig(320, 2, 0), *UNetConfig().down[1:]),
    up=(*UNetConfig().up[:3], StageConfig(320, 3, 0)),
)

# One ResNet and its attention less in every stage (Kim et al. 2023, arXiv 2305.15798).
_BK_SDM_BASE = UNetConfig(
    down=(
        StageConfig(320, 1, 1),
        StageConfig(640, 1, 1),
        StageConfig(1280, 1, 1),
        StageConfig(1280, 1, 0),
    ),
    up=(
        StageConfig(1280, 2, 0),
        StageConfig(1280, 2, 2),
        StageConfig(640, 2, 2),
        StageConfig(320, 2, 2),
    ),
)

# The same without the middle, and without the innermost stages as well.
_BK_SDM_SMALL = _BK_SDM_BASE.replace(mid=None)
_BK_SDM_TINY = _BK_SDM_BASE.replace(down=_BK_SDM_BASE.down[:3], mid=None, up=_BK_SDM_BASE.up[1:])

UNETS = {
    "sd15": UNetConfig(),
    "snapfusion": _SNAPFUSION,
    "snapfusion_848m": _SNAPFUSION_848M,
    "bk_sdm_base": _BK_SDM_BASE,
    "bk_sdm_small": _BK_SDM_SMALL,
    "bk_sdm_tiny": _BK_SDM_TINY,
}

AUTOENCODERS = {
    "sd15": AutoencoderConfig(),
    # SnapFusion's efficient decoder: half of the channels, a quarter of the work.
    "snapfusion": AutoencoderConfig(decoder_channels=(64, 128, 256, 256)),
    "tiny": AutoencoderConfig(tiny_decoder=TinyDecoderConfig()),
}


def find_unet(name: str) -> UNetConfig:
    """A UNet by the name of a preset, or of a JSON file with the fields of its config.

    The file may also be the `config.json` of a run, whose `model` is taken.

    Raises:
      ValueError: it is neither, or the file is no such config.
      OSError: the file cannot be read.
    """
    return _find(name, UNetConfig, UNETS)


def find_autoencoder(name: str) -> AutoencoderConfig:
    """As `find_unet`, an autoencoder."""
    return _find(name, AutoencoderConfig, AUTOENCODERS)


def _find(name: str, kind: type[C], presets: Mapping[str, C]) -> C:
    if name in presets:
        return presets[name]
    path = pathlib.Path(name)
    if not path.is_file():
        raise ValueError(f"{name!r} is no file and no preset; presets are {', '.join(presets)}")
    content = path.read_bytes()
    try:
        values = json.loads(content)
        return kind.from_dict(values.get("model", values))
    except DESCRIPTION_ERRORS as error:
        raise ValueError(f"{name}: no {kind.__name__} can be made of it ({error})") from error
