"""The search for an efficient emoji UNet (SnapFusion section 3.1, Algorithm 1).

    tools/train.py --config=configs/emoji/unet.py:search --workdir=runs/search/teacher
    tools/latency_table.py --unet=runs/search/teacher/config.json --latent=8x8 --tokens=24 \
      --threads=1 --warmup=20 --runs=200 --output=runs/search/table.json
    tools/evolve.py --config=configs/emoji/evolve.py --workdir=runs/search/evolved

Variants: `search` is 32 px, from `configs/emoji/unet.py:search`; `full` is 64 px, from the teacher
that ships, and its prompts are captions of the validation split:

    tools/latency_table.py --unet=tfsnap/presets/emoji-64/teacher/config.json --latent=16x16 \
      --tokens=32 --output=runs/emoji/table.json
    tools/evolve.py --config=configs/emoji/evolve.py:full --workdir=runs/emoji/evolved \
      --config.robust.latents=runs/emoji/latents

One run of each on two cores of an AMD EPYC kept busy by other work (docs/architecture.md).
`search`: 24 minutes, five rounds; 46 % of the latency, CLIP score 0.811 in the first round and
0.809 in the last. `full`: 22 minutes, three rounds; 49 % of the latency by the table, 0.644 and
0.587.
"""

from typing import Any

import ml_collections

from configs.emoji import unet
from configs.values import variant_dict
from tfsnap.evolve.config import EvolveConfig
from tfsnap.training.config import OptimizerConfig
from tfsnap.training.jobs import UNetJob


def _search(teacher: UNetJob, runs: str, *, robust_steps: int = 200, **fields: Any) -> EvolveConfig:
    """A search with its table in `runs`, and so many steps of robust training a round."""
    return EvolveConfig(
        table=f"{runs}/table.json",
        robust=teacher.replace(
            run_probability=0.9,
            training=teacher.training.replace(
                steps=robust_steps,
                batch_size=min(teacher.training.batch_size, 64),
                checkpoint_every=100,
                optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=20, ema_decay=0.98),
            ),
        ),
        **fields,
    )


VARIANTS = {
    "search": _search(
        unet.VARIANTS["search"], "runs/search", unet="runs/search/teacher/weights.safetensors"
    ),
    "full": _search(
        unet.VARIANTS["full"],
        "runs/emoji",
        unet="tfsnap/presets/emoji-64/teacher/weights.safetensors",
        split="validation",
        robust_steps=100,
        prompts=64,
        actions=4,
    ),
}


def get_config(variant: str = "search") -> ml_collections.ConfigDict:
    return variant_dict(None, VARIANTS, variant)
