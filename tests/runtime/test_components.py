"""The networks of a bundle, as threads share them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfsnap.runtime.components import TFLiteComponents
from tfsnap.runtime.manifest import TensorSpec

THREADS = 4


class Slow:
    """A network that notices when another runs at the same time."""

    busy = threading.Lock()
    inputs = (TensorSpec("context", "float32", (1, 2, 3)),)
    outputs = (TensorSpec("image", "float32", (1, 8, 8, 3)),)

    def __init__(self, output):
        self._output = output

    def __call__(self, **arrays):
        assert self.busy.acquire(blocking=False), "two networks run at once"
        time.sleep(0.01)
        self.busy.release()
        return {self._output: np.zeros([1, 2, 3], np.float32)}


def test_threads_take_turns():
    """An interpreter that two call at once fails, or answers one with what the other asked."""
    made = []

    def make():
        made.append(Slow("latent"))
        return made[0]

    components = TFLiteComponents(
        text_encoder=Slow("context"), unet=Slow("prediction"), decoder=Slow("image"), encoder=make
    )
    array, together = np.zeros([1, 2, 3], np.float32), threading.Barrier(THREADS)

    def draw(_):
        together.wait()
        components.encode_image(array)
        components.encode_text(array)
        components.predict(latent=array, time_features=array, context=array)
        components.decode(array)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(draw, range(THREADS)))
    assert len(made) == 1
