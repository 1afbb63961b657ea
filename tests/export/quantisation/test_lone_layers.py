"""A layer quantised alone costs what it costs in the network as a whole."""

import numpy as np
import pytest

from tfsnap.export.quantisation.formats import FORMATS
from tfsnap.export.quantisation.lone_layers import LoneLayers
from tfsnap.export.quantisation.ranges import ranges_of
from tfsnap.export.quantisation.trials import QuantisedNetwork
from tfsnap.runtime.interpreter import Network


def network_of(observed, name, form):
    graph, values = observed[name]
    return QuantisedNetwork(name, graph, form, ranges_of(values, "mse", steps=form.steps))


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("name", ["products", "unet"])
def test_it_is_what_the_whole_costs(observed, request, calls_of, form, name, tmp_path):
    network, path = network_of(observed, name, form), tmp_path / "trial.tflite"
    calls = calls_of(request.getfixturevalue(name), count=2, seed=1)
    alone = LoneLayers(network, calls, path)
    everything = set(network.layers)
    # Not in their order, since a table may begin anywhere.
    for layer in sorted(everything, reverse=True):
        whole = network.psnr_db(everything - {layer}, calls, path)
        assert alone.psnr_db(layer) == pytest.approx(whole, abs=0.005), layer
    assert not any(tmp_path.iterdir())


def test_nothing_before_the_layer_is_evaluated(observed, unet, calls_of, tmp_path, monkeypatch):
    network = network_of(observed, "unet", FORMATS["int8_full"])
    calls = calls_of(unet, count=2, seed=1)
    alone = LoneLayers(network, calls, tmp_path / "trial.tflite")
    first, *_, last = network.layers
    alone.psnr_db(first)  # Evaluates all chunks in float16 too.
    evaluated = []
    run = Network.__call__
    monkeypatch.setattr(
        Network, "__call__", lambda self, **a: evaluated.append(1) or run(self, **a)
    )
    counts = []
    for layer in (first, last):
        evaluated.clear()
        assert np.isfinite(alone.psnr_db(layer))
        counts.append(len(evaluated) / len(calls))
    assert counts[0] > 10
    assert counts[1] == 1
