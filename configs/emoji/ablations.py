"""Ways to distil compared on emoji at 32 px: one thing changed at a time (SnapFusion section 4).

    tools/distill_pipeline.py --config=configs/emoji/ablations.py:losses --workdir=runs/losses

A group is trained from one teacher, `configs/emoji/unet.py:search` in runs/search/teacher, whose
shape all its arms have, and reported side by side. An arm is `configs/emoji/distill.py:student8`
but for what its name says; a budget is 400 training steps of 48 examples. Groups:

- `losses`: vanilla, the mix and the CFG-aware loss, and of the mix the probability, the range of
  scales and the weight of L_ori.
- `teachers`: 8 steps from 16, 32 and 64 of the teacher, and from a student of 16, whose training is
  a budget of its own.
- `schedules`: 32 steps to 8 directly and in two halves of the budget; w-conditioned in two halves,
  the guided x first and then 16 of its steps in 8.
- `baked`: one evaluation a step with guidance 3, from 8 steps to 1, each a budget after the one
  before.
- `consistency`: one budget with guidance 3 baked in and one that is told the scale, each drawing in
  4, 2 and 1 steps.

Cost and result: unmeasured.
"""

import ml_collections

from configs.emoji import pipeline
from configs.emoji.distill import SHORT
from configs.values import variant_dict
from tfsnap.training.pipeline import TEACHER, PipelineStage

_HALF = f"training.steps={SHORT // 2}"
_SCALE = "distill.guidance=(3.0,3.0)"
READS = "model.guidance_width=48"
ALWAYS = ("distill.cfg_probability=1.0", "distill.gamma=0.0")
_NEVER = ("distill.cfg_probability=0.0", "distill.gamma=0.0")
BAKED = ("distill.baked=True", _SCALE, *ALWAYS)
LCM = ("distill.consistency=True", "distill.teacher_steps=50", "distill.steps=4")


def arm(
    name: str, *changes: str, after: str = TEACHER, scored: tuple[int, ...] = ()
) -> PipelineStage:
    """An arm that learns from `after` and starts as it."""
    config = f"{pipeline.CONFIGS}:student8"
    return PipelineStage(name, config, after, after, changes, scored)


def _path(teacher_steps: int, steps: int) -> tuple[str, str]:
    return f"distill.teacher_steps={teacher_steps}", f"distill.steps={steps}"


_ARMS = {
    "losses": (
        arm("vanilla", "distill.cfg_probability=0.0"),
        arm("mix"),
        arm("cfg", "distill.cfg_probability=1.0"),
        arm("probability03", "distill.cfg_probability=0.3"),
        arm("range3", "distill.guidance=(1.0,3.0)"),
        arm("range9", "distill.guidance=(1.0,9.0)"),
        arm("no_original", "distill.gamma=0.0"),
        arm("original1", "distill.gamma=1.0"),
    ),
    "teachers": (
        arm("from16"),
        arm("from32", *_path(32, 8)),
        arm("from64", *_path(64, 8)),
        arm("student16", *_path(32, 16)),
        arm("from_student16", *_path(16, 8), after="student16"),
    ),
    "schedules": (
        arm("direct8", *_path(32, 8)),
        arm("progressive16", *_path(32, 16), _HALF),
        arm("progressive8", *_path(16, 8), _HALF, after="progressive16"),
        arm("conditioned", *_path(1000, 1000), READS, *ALWAYS, _HALF, scored=(50, 8)),
        arm("conditioned8", *_path(16, 8), READS, *ALWAYS, _HALF, after="conditioned"),
    ),
    "baked": (
        arm("baked8", *_path(16, 8), *BAKED),
        arm("baked4", *_path(8, 4), *_NEVER, after="baked8"),
        arm("baked2", *_path(4, 2), *_NEVER, after="baked4"),
        arm("baked1", *_path(2, 1), *_NEVER, after="baked2"),
    ),
    "consistency": (
        arm("consistency_baked", *LCM, *BAKED, scored=(4, 2, 1)),
        arm("consistency_told", *LCM, *ALWAYS, READS, scored=(4, 2, 1)),
    ),
}

VARIANTS = {name: pipeline.PIPELINE.replace(stages=arms) for name, arms in _ARMS.items()}


def get_config(variant: str = "losses") -> ml_collections.ConfigDict:
    return variant_dict(None, VARIANTS, variant)
