import pytest

from tfsnap.export.quantisation.formats import INT8
from tfsnap.export.quantisation.ranges import ranges_of
from tfsnap.export.quantisation.sensitivity import SensitivityTable
from tfsnap.export.quantisation.trials import QuantisedNetwork


@pytest.fixture
def network(observed):
    graph, values = observed["products"]
    return QuantisedNetwork("unet", graph, INT8, ranges_of(values, "mse", steps=INT8.steps))


def test_one_layer_alone_costs_less_than_all(network, products, calls_of, tmp_path):
    calls, path = calls_of(products, seed=1), tmp_path / "trial.tflite"
    table = SensitivityTable(tmp_path / "table.tsv")
    found = table.measured(network, lambda kept: network.psnr_db(kept, calls, path), "mark")
    assert found.keys() == network.layers.keys()
    together = network.psnr_db(set(), calls, path)
    exact = network.psnr_db(set(network.layers), calls, path)
    assert all(together < alone < exact for alone in found.values())
    lines = (tmp_path / "table.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["network", "layer", "operator", "psnr_db", "calibration"]
    assert sorted(line.split("\t")[2] for line in lines[1:]) == [
        "CONV_2D",
        "CONV_2D",
        "FULLY_CONNECTED",
    ]


def test_nothing_is_measured_twice(network, tmp_path):
    path, asked = tmp_path / "table.tsv", []

    def measure(kept):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(kept)
        return 40.0 + len(asked)

    with pytest.raises(KeyboardInterrupt):
        SensitivityTable(path).measured(network, measure, "mark")
    again = []
    found = SensitivityTable(path).measured(
        network, lambda kept: again.append(kept) or 30.0, "mark"
    )
    assert list(found.values()) == [41.0, 42.0, 30.0]
    assert len(again) == 1
    SensitivityTable(path).measured(network, lambda kept: again.append(kept) or 30.0, "other")
    assert len(again) == 4


def test_another_file(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match="is no table of sensitivities: give another file"):
        SensitivityTable(path)
