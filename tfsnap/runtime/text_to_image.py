"""From prompts to pictures with a bundle."""

import os
import pathlib

from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import TFLiteComponents
from tfsnap.runtime.pipeline import Pipeline


class TextToImage(Pipeline):
    """A `Pipeline` of a bundle's networks in a TFLite interpreter.

    Args:
      bundle: the bundle or its path.
      size: height and width of the pictures in pixels, or one number for a square; one of those
        that the bundle draws, by default its first.
      threads: number of threads that the networks may use.
      interpreter: "ai_edge_litert" or "tflite_runtime"; by default whichever there is, see
        `tfsnap.runtime.interpreter.find_backend`.
      low_memory: whether to hold one network at a time, and one chunk of one that is stored in
        several; a network is loaded anew for every picture, a chunk in every evaluation.
      weight_cache: folder where XNNPACK's copies of the weights are kept, which then take less
        memory and are made once; ai-edge-litert alone can do that.

    Raises:
      BundleError: there is no bundle, or it cannot be used.
      InterpreterError: no interpreter is installed.
      RequestError: `threads` is out of range, or the bundle does not draw that size.

    Example:
      >>> pictures = TextToImage("emoji-demo")(["thumbs up, noto style", "purple heart"], steps=8)
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike,
        *,
        size: int | tuple[int, int] | None = None,
        threads: int = 2,
        interpreter: str | None = None,
        low_memory: bool = False,
        weight_cache: str | os.PathLike | None = None,
    ):
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle)
        bundle = bundle.sized(size)
        super().__init__(
            TFLiteComponents.load(
                bundle,
                threads=threads,
                interpreter=interpreter,
                low_memory=low_memory,
                weight_cache=None if weight_cache is None else pathlib.Path(weight_cache),
            ),
            tokenizer=bundle.tokenizer(),
            settings=bundle.manifest.settings,
        )
        self.bundle = bundle
