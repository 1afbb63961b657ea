"""From prompts to pictures with a bundle."""

import os

from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import TFLiteComponents
from tfsnap.runtime.pipeline import Pipeline


class TextToImage(Pipeline):
    """A `Pipeline` of a bundle's networks in a TFLite interpreter.

    Args:
      bundle: the bundle or its path.
      threads: number of threads that the networks may use.
      interpreter: "ai_edge_litert" or "tflite_runtime"; by default whichever there is, see
        `tfsnap.runtime.interpreter.find_backend`.

    Raises:
      BundleError: there is no bundle, or it cannot be used.
      InterpreterError: no interpreter is installed.
      RequestError: `threads` is out of range.

    Example:
      >>> pictures = TextToImage("emoji-demo")(["thumbs up, noto style", "purple heart"], steps=8)
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike,
        *,
        threads: int = 2,
        interpreter: str | None = None,
    ):
        if not isinstance(bundle, Bundle):
            bundle = Bundle.open(bundle)
        super().__init__(
            TFLiteComponents.load(bundle, threads=threads, interpreter=interpreter),
            tokenizer=bundle.tokenizer(),
            settings=bundle.manifest.settings,
        )
        self.bundle = bundle
