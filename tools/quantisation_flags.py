"""Flags about activations that are quantised in ranges recorded before."""

import pathlib

from absl import flags

from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.export.quantisation.quantiser import QuantisationSpec
from tfsnap.export.quantisation.ranges import METHODS

_CALIBRATION = flags.DEFINE_string(
    "calibration", None, "What networks compute on pictures: read if it exists, else written."
)
_PROMPTS = flags.DEFINE_multi_string(
    "calibration_prompt",
    [
        "red apple, noto style",
        "thumbs up, dark skin tone, fluent 3d style",
        "a photo of a dog on a beach at sunset",
        "an oil painting of a city in the rain",
    ],
    "A picture that is drawn for the calibration. May be repeated.",
)
_STEPS = flags.DEFINE_integer("calibration_steps", 8, "Of those pictures; each is recorded.", 1)
_RANGES = flags.DEFINE_enum(
    "ranges", "mse", list(METHODS), "Which range of the recorded values integers cover."
)
_RECIPE = flags.DEFINE_enum(
    "recipe", "all", ["all", "auto"], "Quantise all layers, or as many as --psnr allows."
)
_PSNR = flags.DEFINE_float(
    "psnr", None, "With --recipe=auto: what each network must reach against Keras, in dB.", 0.0
)
_SENSITIVITY = flags.DEFINE_string(
    "sensitivity",
    None,
    "With --recipe=auto: measure every layer, whether or not the goal needs it, and keep the table "
    "here; else it is OUTPUT.sensitivity.tsv, and made where the goal is missed.",
)


def quantisation_spec(precision: str, output: str) -> QuantisationSpec | None:
    """What the flags say, or None if the precision quantises no activations before they come.

    Args:
      precision: of the export.
      output: where the bundle goes.

    Raises:
      ValueError: two flags do not go together.
    """
    if precision not in FORMATS:
        asked = [
            f for f in (_CALIBRATION, _RECIPE, _PSNR, _SENSITIVITY) if flags.FLAGS[f.name].present
        ]
        if asked:
            raise ValueError(
                f"--{asked[0].name} is for --precision={' and '.join(FORMATS)}, and this is "
                f"{precision}"
            )
        return None
    auto = _RECIPE.value == "auto"
    if auto != (_PSNR.value is not None) or (_SENSITIVITY.value and not auto):
        raise ValueError("--recipe=auto needs --psnr, and --psnr and --sensitivity need it")
    calibration = _CALIBRATION.value
    return QuantisationSpec(
        prompts=tuple(_PROMPTS.value),
        steps=_STEPS.value,
        ranges=_RANGES.value,
        calibration=calibration and pathlib.Path(calibration),
        psnr_db=_PSNR.value,
        sensitivity=pathlib.Path(_SENSITIVITY.value or f"{output}.sensitivity.tsv"),
        all_sensitivities=bool(_SENSITIVITY.value),
    )
