"""Where the trainer runs."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfsnap.errors import TfsnapError

STRATEGIES = ("one", "mirrored", "multi_worker", "tpu")
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


class StrategyError(TfsnapError, RuntimeError):
    """The machines that a strategy needs are not there; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where this process stands among those that train together.

    Attributes:
      worker: its number.
      workers: how many there are.
    """

    worker: int = 0
    workers: int = 1

    @property
    def chief(self) -> bool:
        """Whether it is the one that writes files."""
        return self.worker == 0

    def __str__(self) -> str:
        return f"worker {self.worker} of {self.workers}"


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns a distribution strategy.

    Args:
      name: "one" for a single device; "mirrored" for every visible GPU or, without one, every
        logical CPU device; "multi_worker" for those of all machines that the environment variable
        TF_CONFIG names; "tpu" for the TPU that TPU_NAME names, or the one of this machine.

    Raises:
      ValueError: the name is unknown.
      StrategyError: TF_CONFIG is missing or wrong, or there is no TPU.

    Reference: https://www.tensorflow.org/guide/distributed_training
    """
    if name == "one":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if _logical("GPU") else "/cpu:0")
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_logical("GPU") or _logical("CPU"))
    if name == "multi_worker":
        place_of_environment()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        return _tpu()
    raise ValueError(f"strategy is {name!r}; it must be one of {', '.join(STRATEGIES)}")


def place_of(strategy: tf.distribute.Strategy) -> Place:
    """The place of this process in a strategy."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return place_of_environment()
    return Place()


def place_of_environment() -> Place:
    """Reads TF_CONFIG; a `chief`, where the cluster has one, is worker 0.

    Raises:
      StrategyError: it is missing, not JSON, or names a task that the cluster does not have.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        values = json.loads(text)
        cluster, task = values["cluster"], values["task"]
        kind, index = task["type"], int(task["index"])
        order = [(k, i) for k in ("chief", "worker") for i in range(len(cluster.get(k, ())))]
        return Place(order.index((kind, index)), len(order))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StrategyError(
            f"TF_CONFIG is {text!r} ({type(error).__name__}: {error}); for worker 0 of two it is "
            f"{_EXAMPLE}. tools/launch_local.py sets it for workers on this machine"
        ) from error


def iterate(
    strategy: tf.distribute.Strategy, part: Callable[[int, int], tf.data.Dataset]
) -> Iterator:
    """Goes through a data set as a strategy's steps take it.

    Args:
      strategy: who trains.
      part: makes what the input pipeline of a number, of so many, has to give.
    """
    if not isinstance(strategy, tf.distribute.OneDeviceStrategy) or _logical("GPU"):
        data = strategy.distribute_datasets_from_function(
            lambda context: part(context.input_pipeline_id, context.num_input_pipelines)
        )
        return iter(data)
    # There is nothing to bring to another device. TensorFlow's tuner of data sets may sleep on for
    # half a minute after it was told to end, and the program waits for it; perhaps as its thread
    # looks whether it is to end before that is noted (`CancellationManager::StartCancel`).
    options = tf.data.Options()
    options.autotune.enabled = False
    return iter(part(0, 1).with_options(options))


def _tpu() -> tf.distribute.Strategy:
    name = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StrategyError(f"no TPU called {name!r} (TPU_NAME) can be used: {reason}") from error


def _logical(kind: str) -> list[str]:
    return [device.name for device in tf.config.list_logical_devices(kind)]
