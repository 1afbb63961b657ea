"""Chunks run in order, pass tensors by name, and are held one at a time where that is asked for."""

import gc
import weakref

import numpy as np
import pytest

from tfsnap.runtime.chunked import ChunkedNetwork
from tfsnap.runtime.manifest import TensorSpec


def spec(name, *shape):
    return TensorSpec(name, "float32", shape or (2,))


class Chunk:
    """Adds its inputs up, each times its position."""

    backend = "backend"

    def __init__(self, inputs, outputs):
        self.inputs = tuple(map(spec, inputs))
        self.outputs = tuple(map(spec, outputs))

    def __call__(self, **arrays):
        assert sorted(arrays) == sorted(tensor.name for tensor in self.inputs)
        total = sum(i * arrays[tensor.name] for i, tensor in enumerate(self.inputs, start=1))
        return {tensor.name: total for tensor in self.outputs}

    def delegate(self):
        return "none"


PARTS = [(["a", "b"], ["p"]), (["p", "a"], ["q", "y"]), (["q", "p", "b"], ["z"])]


@pytest.fixture
def alive():
    return weakref.WeakSet()


@pytest.fixture
def loaders(alive):
    def loader(part):
        def load():
            chunk = Chunk(*part)
            alive.add(chunk)
            return chunk

        return load

    return [loader(part) for part in PARTS]


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_tensors_pass_by_name(loaders, one_at_a_time):
    network = ChunkedNetwork(loaders, outputs=["y", "z"], one_at_a_time=one_at_a_time)
    assert network.inputs == (spec("a"), spec("b"))
    assert network.outputs == (spec("y"), spec("z"))
    a, b = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    p = a + 2 * b
    y = p + 2 * a
    for _ in range(2):
        found = network(a=a, b=b)
        assert sorted(found) == ["y", "z"]
        np.testing.assert_array_equal(found["y"], y)
        np.testing.assert_array_equal(found["z"], y + 2 * p + 3 * b)


@pytest.mark.parametrize(("one_at_a_time", "kept"), [(False, 3), (True, 0)])
def test_how_many_chunks_are_held(loaders, alive, one_at_a_time, kept):
    most = []
    watched = [lambda load=load: (most.append(len(alive)), load())[1] for load in loaders]
    network = ChunkedNetwork(watched, outputs=["y"], one_at_a_time=one_at_a_time)
    gc.collect()
    assert len(alive) == kept
    network(a=np.ones(2), b=np.ones(2))
    gc.collect()
    assert len(alive) == kept
    assert max(most) == (2 if kept else 0)  # Of chunks that are held while another is loaded.
    assert len(most) == (3 if kept else 6)


def test_chunks_of_two_networks_are_refused(loaders):
    other = Chunk(["p"], ["z"])
    other.inputs = (spec("p", 3),)
    with pytest.raises(ValueError, match=r"a chunk reads .*shape=\(3,\).*, made as .*shape=\(2,\)"):
        ChunkedNetwork([*loaders[:2], lambda: other], outputs=["z"], one_at_a_time=True)
