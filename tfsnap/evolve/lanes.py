"""Edits scored side by side, one on each device, and none of them twice."""

import json
import pathlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tfsnap.config import write_json
from tfsnap.evolve.actions import Action

# Scores of the prompts of a lap under an edit; None is no edit.
Measure = Callable[[Action | None, int], np.ndarray]


class Known:
    """CLIP scores that were measured already, on disk: scoring is what a search spends its time on.

    Args:
      path: a JSON file.
      weights: checksum of the weights that are scored; scores of other ones are measured again.
    """

    def __init__(self, path: pathlib.Path, weights: str):
        self._path = path
        self._weights = weights
        values = json.loads(path.read_text()) if path.is_file() else {}
        # Files of earlier versions do not say which weights they are of.
        self._values = {k: v for k, v in values.items() if v.get("weights", weights) == weights}
        self._writing = threading.Lock()

    @property
    def pictures(self) -> int:
        """How many pictures have been scored."""
        return sum(len(value["scores"]) for value in self._values.values())

    @property
    def seconds(self) -> float:
        """For how long devices have worked on them, the sum over the devices."""
        return sum(value["seconds"] for value in self._values.values())

    def __call__(self, action: Action | None, lap: int, measure: Measure) -> np.ndarray:
        """The scores of a lap; measured if they are not known."""
        key = f"{action or 'as it is'}, lap {lap}"
        if key not in self._values:
            start = time.monotonic()
            scores = measure(action, lap).tolist()
            found = {"scores": scores, "seconds": time.monotonic() - start}
            with self._writing:
                self._values[key] = {**found, "weights": self._weights}
                write_json(self._path, self._values)
        return np.array(self._values[key]["scores"])


class Lanes:
    """Several ways to measure, each with a device of its own.

    Args:
      measures: one for each device.
      known: where scores are kept.
    """

    def __init__(self, measures: Sequence[Measure], known: Known):
        self._count = len(measures)
        self._free: queue.SimpleQueue[Measure] = queue.SimpleQueue()
        for measure in measures:
            self._free.put(measure)
        self._known = known

    def __call__(self, actions: Sequence[Action | None], lap: int) -> list[np.ndarray]:
        """The scores of a lap under each of several edits."""
        with ThreadPoolExecutor(self._count) as pool:
            return list(pool.map(lambda action: self._measured(action, lap), actions))

    def _measured(self, action: Action | None, lap: int) -> np.ndarray:
        measure = self._free.get()
        try:
            return self._known(action, lap, measure)
        finally:
            self._free.put(measure)
