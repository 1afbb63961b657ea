import copy

import numpy as np

from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.quantisation.activations import layers_of, tensors_to_observe
from tfsnap.export.quantisation.observer import observe
from tfsnap.export.rules.recorder import RecordingNetwork


def test_it_sees_what_the_network_computes_in_floats(observed, unet, calls_of):
    graph, values = observed["unet"]
    assert set(values) == {graph.name(index) for index in tensors_to_observe(graph)}
    calls = calls_of(unet)
    recorder = RecordingNetwork(ConvertedModel("unet", *copy.deepcopy(graph).packed()).to_bytes())
    for inputs, _ in calls:
        recorder(**inputs)
    for name, quantiles in values.items():
        assert np.all(np.diff(quantiles) >= 0)
        least, most = recorder.ranges[name]
        # Dynamic range is not exact.
        np.testing.assert_allclose(
            [quantiles[0], quantiles[-1]], [least, most], atol=0.1 * (most - least)
        )


def test_medians_are_those_of_all_calls(products, calls_of, tmp_path, observed):
    graph, _ = observed["products"]
    calls = calls_of(products, count=3)
    one = next(iter(layers_of(graph).values()))
    found = observe(graph, calls, tmp_path / "model.tflite")[graph.name(one.inputs[0])]
    everything = np.concatenate([inputs["x"].ravel() for inputs, _ in calls])
    np.testing.assert_allclose(
        found, np.quantile(everything, np.linspace(0, 1, found.size)), atol=1e-5
    )
    assert not list(tmp_path.iterdir())
