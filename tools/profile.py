#!/usr/bin/env python3
"""Counts parameters, multiply-accumulates and live activations of a network, block by block.

    tools/profile.py --unet=snapfusion --latent=64x64
    tools/profile.py --unet=runs/evolve/unet.json --latent=16x16 --tokens=32
    tools/profile.py --decoder=snapfusion --latent=64x64 --json=decoder.json

A network is the name of a preset, or a JSON file with the fields of its config. Nothing is run and
no weight is made.
"""

import dataclasses
import os
import pathlib
import sys

from absl import app, flags

# Programs are run from anywhere. This one's folder leaves the path, where the file would stand for
# Python's own module of the same name.
sys.path.pop(0)
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tfsnap.export.rules import files
from tfsnap.models.presets import AUTOENCODERS, UNETS, find_autoencoder, find_unet
from tfsnap.models.profile import (
    NetworkCost,
    profile_decoder,
    profile_encoder,
    profile_unet,
    table,
)
from tfsnap.runtime.sizes import parse_size
from tools.program import run_main
from tools.unused_flags import given, refuse

_UNET = flags.DEFINE_string("unet", None, f"A file, or one of {', '.join(UNETS)}.")
_DECODER = flags.DEFINE_string("decoder", None, f"A file, or one of {', '.join(AUTOENCODERS)}.")
_ENCODER = flags.DEFINE_string("encoder", None, "As --decoder.")
_LATENT = flags.DEFINE_string("latent", "64x64", "Height and width of the latent.")
_TOKENS = flags.DEFINE_integer("tokens", 77, "Length of the text embedding.", 1)
_JSON = flags.DEFINE_string("json", None, "Also write the figures to this file.")


def count() -> NetworkCost:
    """Counts what the flags ask for."""
    latent = parse_size(_LATENT.value)
    if _UNET.value:
        return profile_unet(find_unet(_UNET.value), latent=latent, tokens=_TOKENS.value)
    if _DECODER.value:
        return profile_decoder(find_autoencoder(_DECODER.value), latent=latent)
    config = find_autoencoder(_ENCODER.value)
    height, width = (side * config.downsampling for side in latent)
    return profile_encoder(config, size=(height, width))


def main() -> None:
    networks = [flag.value for flag in (_UNET, _DECODER, _ENCODER) if flag.value]
    if len(networks) != 1:
        raise app.UsageError("give one of --unet, --decoder and --encoder")
    if not _UNET.value:
        refuse(given(_TOKENS), "an autoencoder", "give --unet")
    files.require_usable(networks[0] if os.path.isfile(networks[0]) else None, report=_JSON.value)
    cost = count()
    print(table(cost))
    if _JSON.value:
        files.save(_JSON.value, dataclasses.asdict(cost))


if __name__ == "__main__":
    run_main(main)
