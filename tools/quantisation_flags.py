"""Flags about activations that are quantised in ranges recorded before."""

import os
import pathlib

from absl import flags

from tfsnap.export.quantisation.calibration import recorded_pictures
from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.export.quantisation.quantiser import QuantisationSpec
from tfsnap.export.quantisation.ranges import METHODS
from tfsnap.runtime.publish import replaced_with

_PROMPTS = [
    "red apple, noto style",
    "thumbs up, dark skin tone, fluent 3d style",
    "a photo of a dog on a beach at sunset",
    "an oil painting of a city in the rain",
]


class QuantisationFlags:
    """Defines the flags of a program, once."""

    def __init__(self):
        self._calibration = flags.DEFINE_string(
            "calibration",
            None,
            "What networks compute on pictures: read if the file exists, else written.",
        )
        self._prompts = flags.DEFINE_multi_string(
            "calibration_prompt", _PROMPTS, "A picture to calibrate on. May be repeated."
        )
        self._steps = flags.DEFINE_integer(
            "calibration_steps", 8, "Of those pictures; every evaluation is recorded.", 1
        )
        self._ranges = flags.DEFINE_enum(
            "ranges", "mse", list(METHODS), "Which range of the recorded values integers cover."
        )
        self._recipe = flags.DEFINE_enum(
            "recipe", "all", ["all", "auto"], "Quantise all layers, or as many as --psnr allows."
        )
        self._psnr = flags.DEFINE_float(
            "psnr", None, "For --recipe=auto: what each network is to reach, in dB.", 0.0
        )
        self._sensitivity = flags.DEFINE_string(
            "sensitivity",
            None,
            "For --recipe=auto: measure every layer, needed or not, for the table in this file. "
            "Without it, where a goal is missed, the table is OUTPUT.sensitivity.tsv.",
        )

    def spec(self, precision: str, output: str) -> QuantisationSpec | None:
        """What the flags say, or None if the precision has no recorded ranges.

        Args:
          precision: of the export.
          output: where the bundle goes.

        Raises:
          ValueError: two flags do not go together, or a file would be lost with an earlier bundle.
        """
        if precision not in FORMATS:
            self._refuse_all(precision)
            return None
        psnr, table = self._psnr.value, self._sensitivity.value
        auto = self._recipe.value == "auto"
        if auto != (psnr is not None) or (table and not auto):
            raise ValueError("--recipe=auto needs --psnr, and --psnr and --sensitivity need it")
        for flag in (self._calibration, self._sensitivity):
            _require_outside(flag, output)
        path = self._calibration.value
        self._require_recorded(path)
        return QuantisationSpec(
            prompts=tuple(self._prompts.value),
            steps=self._steps.value,
            ranges=self._ranges.value,
            calibration=pathlib.Path(path) if path else None,
            psnr_db=psnr,
            sensitivity=pathlib.Path(table or f"{pathlib.Path(output)}.sensitivity.tsv"),
            all_sensitivities=bool(table),
        )

    def _require_recorded(self, path: str | None) -> None:
        """What a file was recorded on is what is asked for, if anything is."""
        if not path or not os.path.exists(path):
            return
        recorded = recorded_pictures(path)
        for name, flag in {"prompts": self._prompts, "steps": self._steps}.items():
            if flag.present and name in recorded and recorded[name] != flag.value:
                raise ValueError(
                    f"--{flag.name} is {flag.value}, but {path} exists and was recorded with "
                    f"{recorded[name]}: leave the flag out, or give another --calibration"
                )

    def _refuse_all(self, precision: str) -> None:
        for flag in vars(self).values():
            if flag.present:
                raise ValueError(
                    f"--{flag.name} is for --precision={' and '.join(FORMATS)}, and this is "
                    f"{precision}"
                )


def _require_outside(flag: flags.FlagHolder, output: str) -> None:
    """A bundle is replaced with all that is in it."""
    if flag.value and replaced_with(flag.value, pathlib.Path(output)) is not None:
        raise ValueError(
            f"--{flag.name} is {flag.value}, and --output={output} is replaced as a whole: give a "
            "file beside it"
        )
