import pytest

from tfsnap.export.quantisation.formats import INT8
from tfsnap.export.quantisation.lone_layers import LoneLayers
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
    found = table.measured(network, LoneLayers(network, calls, path).psnr_db, "mark")
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

    def measure(layer):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(layer)
        return 40.0 + len(asked)

    with pytest.raises(KeyboardInterrupt):
        SensitivityTable(path).measured(network, measure, "mark")
    again = []
    found = SensitivityTable(path).measured(
        network, lambda layer: again.append(layer) or 30.0, "mark"
    )
    assert list(found.values()) == [41.0, 42.0, 30.0]
    assert len(again) == 1
    SensitivityTable(path).measured(network, lambda layer: again.append(layer) or 30.0, "other")
    assert len(again) == 4


HEADER = "network\tlayer\toperator\tpsnr_db\tcalibration\n"


def line(layer, psnr="40.00"):
    return f"unet\t{layer}\tCONV_2D\t{psnr}\tmark\n"


@pytest.mark.parametrize("written", [0, 5, 40, len(HEADER), len(HEADER) + 20])
def test_a_process_that_was_killed_in_a_line(network, tmp_path, written):
    path = tmp_path / "table.tsv"
    layers = list(network.layers)
    content = HEADER + line(layers[0], "50.00")
    for text in (content[:written], content + line(layers[1])[:-7], content + line(layers[1], "")):
        path.write_text(text)
        SensitivityTable(path)
        assert path.read_text() == text  # Looking at it changes nothing.
        found = SensitivityTable(path).measured(network, lambda layer: 30.0, "mark")
        assert found[layers[0]] == (30.0 if text == content[:written] else 50.0)
        assert found[layers[1]] == 30.0
        again = SensitivityTable(path).measured(network, None, "mark")  # There is nothing to do.
        assert again == found
        assert path.read_text().startswith(HEADER) and path.read_text().endswith("mark\n")


def test_a_line_that_was_cut_before_another(network, tmp_path):
    path = tmp_path / "table.tsv"
    first, *others = network.layers
    glued = line(first)[:-12] + line(others[0])
    path.write_text(HEADER + glued + "".join(map(line, others)))
    found = SensitivityTable(path).measured(network, lambda layer: 30.0, "mark")
    assert list(found.values()) == [30.0, 40.0, 40.0]


@pytest.mark.parametrize(
    "content", [b"a\tb\n1\t2\n", b"thesis", b"\x89PNG\r\n\x1a\n\0\xff", b"\xff"]
)
def test_another_file(tmp_path, content):
    path = tmp_path / "table.tsv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="table.tsv is no table of sensitivities: give another"):
        SensitivityTable(path)
    assert path.read_bytes() == content
