"""Text-to-image diffusion for phones: train, evolve, distil, export and run.

Importing tfsnap is cheap: nothing heavy is loaded, so the runtime works with numpy, Pillow and a
TFLite interpreter alone.
"""

import os

# keras-cv, int8 conversion and this package share Keras 2 (tf_keras). TensorFlow reads the variable
# when it is first imported and every entry point imports tfsnap before it: this is the one place.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Without this TensorFlow opens every program with lines about the GPU that the machine has not.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
