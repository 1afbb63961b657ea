"""Text to image from a bundle with numpy, Pillow and a TFLite interpreter; no TensorFlow.

Example:
  >>> from tfsnap.runtime import TextToImage
  >>> TextToImage("emoji-demo")("thumbs up, noto style", seed=1).save("thumb.png")
"""

from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.errors import (
    BundleError,
    InterpreterError,
    NotFiniteError,
    PromptTruncatedWarning,
    RequestError,
    TfsnapError,
)
from tfsnap.runtime.pipeline import Pipeline
from tfsnap.runtime.text_to_image import TextToImage

__all__ = [
    "Bundle",
    "BundleError",
    "InterpreterError",
    "NotFiniteError",
    "Pipeline",
    "PromptTruncatedWarning",
    "RequestError",
    "TextToImage",
    "TfsnapError",
]
