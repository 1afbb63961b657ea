"""Records how far every tensor of a model reaches, on the CPU, in float32."""

import pathlib
from collections.abc import Collection

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfsnap.export.rules.ranges import Ranges
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import TFLiteComponents
from tfsnap.runtime.interpreter import SIGNATURE, Network, find_backend
from tfsnap.runtime.manifest import COMPONENTS, ENCODER
from tfsnap.runtime.pictures import from_picture, to_picture
from tfsnap.runtime.pipeline import Pipeline


class RecordingNetwork(Network):
    """A TFLite network that keeps every tensor's range.

    Unless it is told which tensors, all activations are in memory at once, and the interpreter's
    own kernels run, because a delegate would hide what it computes.

    Args:
      model: path or content of the file.
      signature: of the file, which is run.
      threads: number of threads that it may use.
      returned: names of the tensors to record, which the file takes or returns; None means all.

    Attributes:
      ranges: least and largest value of every float tensor by its name, over all calls.

    Raises:
      ValueError: the file is no TFLite model.

    Example:
      >>> network = RecordingNetwork(pathlib.Path("unet.tflite"))
      >>> network(latent=z, time_features=t, context=c)
      >>> network.ranges["conv_in/BiasAdd"]
      (-3.1, 2.8)
    """

    def __init__(
        self,
        model: pathlib.Path | bytes,
        *,
        signature: str = SIGNATURE,
        threads: int = 2,
        returned: Collection[str] | None = None,
    ):
        kind = "model_content" if isinstance(model, bytes) else "model_path"
        kernels = OpResolverType.AUTO
        if returned is None:
            kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(
            **{kind: model if isinstance(model, bytes) else str(model)},
            num_threads=threads,
            experimental_preserve_all_tensors=returned is None,
            experimental_op_resolver_type=kernels,
        )
        interpreter.allocate_tensors()
        super().__init__(interpreter, find_backend("ai_edge_litert"), signature)
        if returned is None:
            details = [d for d in interpreter.get_tensor_details() if d["name"]]
        else:
            sides = [*interpreter.get_input_details(), *interpreter.get_output_details()]
            details = [d for d in sides if d["name"] in returned]
        self._floats = {d["name"]: d["index"] for d in details if d["dtype"] == np.float32}
        self.ranges: dict[str, tuple[float, float]] = {}

    def invoke(self) -> None:
        """Evaluates the network and notes its tensors."""
        super().invoke()
        for name, index in self._floats.items():
            try:
                values = self._interpreter.get_tensor(index)
            except ValueError:  # No operator computes it.
                continue
            if values.size:
                self.note(name, values)

    def note(self, name: str, values: np.ndarray) -> None:
        """Widens the range of a tensor by the values that it has now."""
        # numpy's minimum passes NaN on, so that a network that overflows says so.
        least, most = self.ranges.get(name, (np.inf, -np.inf))
        least, most = np.minimum(least, values.min()), np.maximum(most, values.max())
        self.ranges[name] = (float(least), float(most))


def record_bundle(bundle: Bundle) -> dict[str, Ranges]:
    """Draws the picture of the bundle's goldens and records the ranges on the way.

    Args:
      bundle: the bundle, at the size of picture that it was opened for.

    Returns:
      Ranges by component: text encoder, UNet and decoder, and the encoder where there is one, which
      is given the picture.

    Raises:
      ValueError: a network is in chunks, or there are no goldens.
    """
    goldens = bundle.manifest.goldens
    if goldens is None:
        raise ValueError(
            f"{bundle.path} has no goldens, whose prompt would be drawn: export it again, or give "
            "ranges that were recorded elsewhere"
        )
    if any(component.chunks for component in bundle.manifest.components.values()):
        raise ValueError(
            f"{bundle.path} has a network in chunks: record with the same bundle without --chunks"
        )
    networks = {}
    for name in (name for name in (*COMPONENTS, ENCODER) if name in bundle.manifest.components):
        with bundle.model(name) as path:
            networks[name] = RecordingNetwork(path, signature=bundle.signature_of(name))
    drawing = {name: networks[name] for name in COMPONENTS}
    components = TFLiteComponents(**drawing, encoder=lambda: networks[ENCODER])
    pipeline = Pipeline(components, tokenizer=bundle.tokenizer(), settings=bundle.manifest)
    (drawn,) = pipeline.generate(
        [goldens.prompt], steps=goldens.steps, guidance=goldens.guidance, seed=goldens.seed
    )
    if ENCODER in networks:
        height, width, _ = components.image_shape
        picture = from_picture(to_picture(drawn.image), height=height, width=width)
        components.encode_image(picture)
    return {name: network.ranges for name, network in networks.items()}
