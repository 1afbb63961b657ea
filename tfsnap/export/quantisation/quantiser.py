"""Converts the networks of a model to integer activations, calibrated on pictures that it draws."""

import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Callable, Sequence

from tfsnap.export.converter import folded
from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.keras_components import Call, InTurn
from tfsnap.export.quantisation.calibration import (
    Calibration,
    NetworkCalibration,
    fingerprint,
    load_calibration,
    require_same_shapes,
    require_same_weights,
    save_calibration,
)
from tfsnap.export.quantisation.files import require_usable
from tfsnap.export.quantisation.formats import FORMATS, ActivationFormat
from tfsnap.export.quantisation.lone_layers import LoneLayers
from tfsnap.export.quantisation.observer import observe
from tfsnap.export.quantisation.ranges import ranges_of
from tfsnap.export.quantisation.recipe import layers_to_keep
from tfsnap.export.quantisation.sensitivity import SensitivityTable
from tfsnap.export.quantisation.trials import QuantisedNetwork
from tfsnap.export.tflite_graph import TFLiteGraph
from tfsnap.export.variants import Variant, conversions_of, keras_networks
from tfsnap.runtime.interpreter import SIGNATURE

_TRIAL_CALLS = 4  # Evaluations that a layer's sensitivity is measured on, spread over all.

# Draws the calibration's pictures with the networks of one size.
Draw = Callable[[InTurn, Variant], None]


@dataclasses.dataclass(frozen=True)
class QuantisationSpec:
    """How activations are quantised, for precisions that do.

    Attributes:
      prompts: pictures that ranges are recorded on.
      steps: of their sampling; the networks are recorded in each.
      ranges: a key of `tfsnap.export.quantisation.ranges.METHODS`.
      calibration: file of what was recorded: read if it exists, else written. None keeps nothing.
      psnr_db: what each network has to reach; layers that cost too much stay in float16. None
        quantises all layers.
      sensitivity: file of the table of what each layer costs, see `SensitivityTable`.
      all_sensitivities: whether they are measured even if nothing has to be kept.

    Raises:
      ValueError: the goal is no number, or has no file beside it.
    """

    prompts: tuple[str, ...] = ()
    steps: int = 8
    ranges: str = "mse"
    calibration: pathlib.Path | None = None
    psnr_db: float | None = None
    sensitivity: pathlib.Path | None = None
    all_sensitivities: bool = False

    @property
    def pictures(self) -> dict[str, object]:
        """What a calibration is recorded on, as JSON values."""
        return {"prompts": list(self.prompts), "steps": self.steps}

    def __post_init__(self):
        if self.psnr_db is None:
            return
        if not math.isfinite(self.psnr_db):
            raise ValueError(f"psnr is {self.psnr_db}; it must be a finite number of dB")
        if self.sensitivity is None:
            raise ValueError(f"psnr is {self.psnr_db:g} without a file for sensitivities: name one")


class Quantiser:
    """Converts the networks of a model, one after another.

    Args:
      precision: a key of `tfsnap.export.quantisation.formats.FORMATS`.
      spec: how.
      variants: the model at each size, the default first.
      folder: where networks may be for a while, on disk.

    Raises:
      ValueError: a file that the spec names cannot be used.

    Attributes:
      kept: names of the layers that stayed in float16, by network.
    """

    def __init__(
        self,
        precision: str,
        spec: QuantisationSpec,
        variants: Sequence[Variant],
        folder: pathlib.Path,
    ):
        self._precision = precision
        self._form: ActivationFormat = FORMATS[precision]
        self._spec = spec
        self._variants = variants
        self._scratch = folder / "trial.tflite"
        self._graphs: dict[str, TFLiteGraph] = {}
        self._calibration: Calibration = {}
        # Files are looked at now: calibrating takes minutes.
        if spec.calibration is not None:
            require_usable(spec.calibration, "--calibration")
        self._table = SensitivityTable(spec.sensitivity) if spec.psnr_db is not None else None
        self.kept: dict[str, list[str]] = {}

    def calibrate(self, names: Sequence[str], draw: Draw) -> None:
        """Records what networks compute, or reads what was recorded.

        Args:
          names: of the networks.
          draw: runs them on the prompts of the spec.

        Raises:
          ValueError: the file is of other networks, or of pictures of another size.
          OSError: it cannot be written.
        """
        wanted = {
            _key(variant, name): (variant, name)
            for name in names
            for variant in conversions_of(self._variants, name)
        }
        # The weights are the same at every size.
        prints = {name: fingerprint(self._variants[0].graphs[name]) for name in names}
        marks = {key: prints[name] for key, (_, name) in wanted.items()}
        path = self._spec.calibration
        if path is not None and path.exists():
            found = load_calibration(path)
            require_same_weights(path, found, marks)
            graphs = {key: variant.graphs[name] for key, (variant, name) in wanted.items()}
            require_same_shapes(path, found, graphs)
            self._calibration = found
            return
        calls = self._draw(draw)
        for key, (variant, name) in wanted.items():
            recorded = calls[variant.signature][name]
            observed = observe(self._folded(variant, name), recorded, self._scratch)
            self._calibration[key] = NetworkCalibration(marks[key], observed, recorded)
        if path is not None:
            save_calibration(path, self._calibration, self._spec.pictures)

    def _draw(self, draw: Draw) -> dict[str, dict[str, list[Call]]]:
        """Evaluations in Keras by size and network."""
        calls = {}
        for variant in self._variants:
            networks = keras_networks(variant.graphs)
            draw(networks, variant)
            networks.release()
            calls[variant.signature] = networks.calls
        return calls

    def _folded(self, variant: Variant, name: str) -> TFLiteGraph:
        key = _key(variant, name)
        if key not in self._graphs:
            self._graphs[key] = folded(variant.graphs[name])
        return self._graphs[key]

    def convert(self, variant: Variant, name: str) -> ConvertedModel:
        """Converts a network.

        Raises:
          GoalError: it cannot be as near to Keras as the spec says.
          ValueError: the calibration is of another network.
        """
        if self._spec.psnr_db is not None and name not in self.kept:
            self.kept[name] = self._choose(name, goal_db=self._spec.psnr_db)
        return self._network(variant, name).model(self.kept.get(name, ()))

    def _network(self, variant: Variant, name: str) -> QuantisedNetwork:
        key = _key(variant, name)
        observed, form = self._calibration[key].observed, self._form
        ranges = ranges_of(observed, self._spec.ranges, steps=form.steps)
        return QuantisedNetwork(key, self._folded(variant, name), form, ranges)

    def _choose(self, name: str, *, goal_db: float) -> list[str]:
        """The layers to keep at every size. The goal is judged by the calls that parity is."""
        variants = conversions_of(self._variants, name)
        networks = {variant.signature: self._network(variant, name) for variant in variants}

        def reached(kept: set[str]) -> float:
            return min(
                networks[variant.signature].psnr_db(
                    kept, variant.reference.calls[name], self._scratch
                )
                for variant in variants
            )

        if not self._spec.all_sensitivities and reached(set()) >= goal_db:
            return []
        calibration, network = self._calibration[name], networks[SIGNATURE]
        few = calibration.calls[:: -(-len(calibration.calls) // _TRIAL_CALLS)]
        alone = LoneLayers(network, few, self._scratch)
        found = self._table.measured(network, alone.psnr_db, self._digest(calibration))
        return sorted(layers_to_keep(name, found, reached, goal_db=goal_db))

    def _digest(self, calibration: NetworkCalibration) -> str:
        """Tells what a sensitivity depends on."""
        digest = hashlib.sha256(calibration.weights.encode())
        digest.update(f"{self._precision} {self._spec.ranges}".encode())
        for name in sorted(calibration.observed):
            digest.update(calibration.observed[name].data)
        return digest.hexdigest()[:12]


def _key(variant: Variant, name: str) -> str:
    """What a network is called in files: the size is told unless it is the default."""
    return name if variant.signature == SIGNATURE else f"{name}@{variant.signature}"
