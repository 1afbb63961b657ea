"""Ways to distil compared on emoji: one thing changed at a time (SnapFusion section 4).

    tools/distill_pipeline.py --config=configs/emoji/ablations.py:losses --workdir=runs/losses
    tools/distill_pipeline.py --config=configs/emoji/ablations.py:full_losses \
      --workdir=runs/emoji/losses

A group is trained from one teacher and reported side by side. At 32 px it is
`configs/emoji/unet.py:search` in runs/search/teacher, whose shape all arms have, and a budget is
400 training steps of 48 examples. With `full_` before the name it is the 64 px teacher that ships,
the arms are the efficient UNet, fine-tuned, and a budget is 400 steps of 128. An arm is
`configs/emoji/distill.py:student8` or `:full_student8` but for what its name says. Groups:

- `losses`: vanilla, the mix and the CFG-aware loss, and of the mix the probability, the range of
  scales and the weight of L_ori.
- `teachers`: 8 steps from 16, 32 and 64 of the teacher, and from a student of 16, whose training is
  a budget of its own.
- `schedules`: 32 steps to 8 directly and in two halves of the budget; w-conditioned in two halves,
  the guided x first and then 16 of its steps in 8.
- `baked`: one evaluation a step with guidance 3 (64 px: 2), from 8 steps to 1, each a budget after
  the one before.
- `consistency`: one budget with that guidance baked in and one that is told the scale, each drawing
  in 4, 2 and 1 steps.

With `few_` before the name the groups are at 64 px for students of 2 steps, from 4, 8 and 16 of
the teacher's: undistilled, 2 steps lose quality that 8 do not, where guidance is strong. A budget
is 200 steps of 64, for two cores and several seeds:

    tools/distill_pipeline.py --config=configs/emoji/ablations.py:few_losses \
      --workdir=runs/emoji/few-1 --config.student=runs/emoji/cut/weights.safetensors \
      --train_flag=--config.training.seed=1

(with --config.student they start from `configs/emoji/unet.py:cut`, as those that were measured).

`full_losses` and the first arms of `full_teachers` on one H100 as portable steps, one run: 8 to 30
seconds an arm; `consistency`, cut to 240 steps; the `few_` groups, three seeds, on two cores;
docs/distillation.md has the results. The others: unmeasured.
"""

import ml_collections

from configs.emoji import pipeline
from configs.emoji.distill import FEW, SHORT
from configs.values import variant_dict
from tfsnap.training.pipeline import STUDENT, TEACHER, PipelineConfig, PipelineStage

READS = "model.guidance_width=48"
ALWAYS = ("distill.cfg_probability=1.0", "distill.gamma=0.0")
_NEVER = ("distill.cfg_probability=0.0", "distill.gamma=0.0")
LCM = ("distill.consistency=True", "distill.teacher_steps=50", "distill.steps=4")


def _path(teacher_steps: int, steps: int) -> tuple[str, str]:
    return f"distill.teacher_steps={teacher_steps}", f"distill.steps={steps}"


def _range(least: float, largest: float) -> str:
    return f"distill.guidance=({least},{largest})"


def _groups(
    base: PipelineConfig,
    config: str,
    *,
    init: str,
    scale: float,
    narrow: float,
    wide: float,
    steps: int = 8,
    budget: int = SHORT,
) -> dict[str, PipelineConfig]:
    """The groups of one size.

    Args:
      base: with the teacher and how it is scored.
      config: what all arms are but for their changes: `steps` from twice as many of the teacher's,
        `budget` training steps.
      init: what they start as, "teacher" or "student".
      scale: the guidance scale that is baked in.
      narrow: end of a range of scales that is narrower than the config's.
      wide: of one that is wider.
      steps: of the students, a power of two.
      budget: training steps of an arm.
    """

    def arm(
        name: str, *changes: str, after: str = "", scored: tuple[int, ...] = ()
    ) -> PipelineStage:
        return PipelineStage(name, config, after or TEACHER, after or init, changes, scored)

    baked = ("distill.baked=True", _range(scale, scale), *ALWAYS)
    half = f"training.steps={budget // 2}"
    twice = 2 * steps
    fewer = [steps >> i for i in range(1, steps.bit_length())]  # steps / 2, ..., 1.
    groups = {
        "losses": (
            arm("vanilla", "distill.cfg_probability=0.0"),
            arm("mix"),
            arm("cfg", "distill.cfg_probability=1.0"),
            arm("probability03", "distill.cfg_probability=0.3"),
            arm("narrow", _range(1.0, narrow)),
            arm("wide", _range(1.0, wide)),
            arm("no_original", "distill.gamma=0.0"),
            arm("original1", "distill.gamma=1.0"),
        ),
        "teachers": (
            arm(f"from{twice}"),
            arm(f"from{2 * twice}", *_path(2 * twice, steps)),
            arm(f"from{4 * twice}", *_path(4 * twice, steps)),
            arm(f"student{twice}", *_path(2 * twice, twice)),
            arm(f"from_student{twice}", *_path(twice, steps), after=f"student{twice}"),
        ),
        "schedules": (
            arm(f"direct{steps}", *_path(2 * twice, steps)),
            arm(f"progressive{twice}", *_path(2 * twice, twice), half),
            arm(f"progressive{steps}", *_path(twice, steps), half, after=f"progressive{twice}"),
            arm("conditioned", *_path(1000, 1000), READS, *ALWAYS, half, scored=(50, steps)),
            arm(
                f"conditioned{steps}",
                *_path(twice, steps),
                READS,
                *ALWAYS,
                half,
                after="conditioned",
            ),
        ),
        "baked": (
            arm(f"baked{steps}", *_path(twice, steps), *baked),
            *(arm(f"baked{n}", *_path(2 * n, n), *_NEVER, after=f"baked{2 * n}") for n in fewer),
        ),
        "consistency": (
            arm("consistency_baked", *LCM, *baked, scored=(4, 2, 1)),
            arm("consistency_told", *LCM, *ALWAYS, READS, scored=(4, 2, 1)),
        ),
    }
    return {name: base.replace(stages=arms) for name, arms in groups.items()}


def _full(steps: int, budget: int) -> dict[str, PipelineConfig]:
    """The groups at 64 px."""
    return _groups(
        pipeline.VARIANTS["full"],
        f"{pipeline.CONFIGS}:full_student{steps}",
        init=STUDENT,
        scale=2.0,
        narrow=2.0,
        wide=9.0,
        steps=steps,
        budget=budget,
    )


VARIANTS = {
    **_groups(
        pipeline.PIPELINE,
        f"{pipeline.CONFIGS}:student8",
        init=TEACHER,
        scale=3.0,
        narrow=3.0,
        wide=9.0,
    ),
    **{f"full_{name}": group for name, group in _full(8, SHORT).items()},
    **{f"few_{name}": group for name, group in _full(2, FEW).items()},
}


def get_config(variant: str = "losses") -> ml_collections.ConfigDict:
    return variant_dict(None, VARIANTS, variant)
