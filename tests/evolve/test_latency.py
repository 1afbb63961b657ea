"""Latency tables: what they predict, and what becomes of damaged ones."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.small_unet import CONFIG
from tfsnap.config import StageConfig
from tfsnap.evolve.latency import LatencyError, LatencyTable
from tfsnap.models.blocks import blocks_of
from tfsnap.models.presets import find_unet

AT = {"latent": (8, 8), "tokens": 5}
RANDOM_UNETS = pathlib.Path(__file__).parents[2] / "benchmarks/random_unets.py"


@pytest.fixture
def table():
    blocks = blocks_of(CONFIG, **AT).values()
    return LatencyTable({b: 1.0 + k for k, b in enumerate(dict.fromkeys(blocks))}, {"device": "x"})


def test_a_network_takes_what_its_blocks_take(table):
    blocks = list(blocks_of(CONFIG, **AT).values())
    assert table.predict(CONFIG, **AT) == sum(table.ms[block] for block in blocks)
    without = CONFIG.replace(down=(StageConfig(8, 1, 0), CONFIG.down[1]))
    attention = next(block for block in blocks if block.kind == "attention")
    gone = table.predict(CONFIG, **AT) - table.predict(without, **AT)
    assert gone == pytest.approx(table.ms[attention])


def test_what_was_not_measured_is_named(table):
    with pytest.raises(LatencyError, match=r"not in the table, such as conv_in .*at 16 x 8"):
        table.predict(CONFIG, latent=(16, 8), tokens=5)
    missing = table.missing(blocks_of(CONFIG, latent=(16, 8), tokens=5).values())
    assert len(missing) == len(set(missing)) and "time" not in {block.kind for block in missing}


def test_tables_compare_whose_blocks_of_a_network_are_the_same(table):
    yardstick = table.yardstick(CONFIG, **AT)
    assert yardstick == json.loads(json.dumps(yardstick))
    other = blocks_of(CONFIG, latent=(16, 8), tokens=5).values()
    longer = LatencyTable({**dict.fromkeys(other, 9.0), **table.ms}, table.about)
    assert longer.yardstick(CONFIG, **AT) == yardstick
    slower = LatencyTable({block: 3 * ms for block, ms in table.ms.items()}, table.about)
    assert slower.yardstick(CONFIG, **AT) != yardstick
    assert LatencyTable(table.ms, {"device": "y"}).yardstick(CONFIG, **AT) != yardstick


def test_a_table_is_written_and_read(table, tmp_path):
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json") == table
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "is not"),
        (lambda c: c["blocks"][0].update(ms=0), "must be above 0"),
        (lambda c: c["blocks"][0].update(color=1), "no field 'color'"),
        (lambda c: c["blocks"][0].pop("ms"), "KeyError"),
        (lambda c: c.pop("blocks"), "KeyError"),
    ],
)
def test_a_damaged_table_is_one_clear_line(table, tmp_path, change, message):
    path = tmp_path / "table.json"
    table.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(LatencyError, match=message):
        LatencyTable.load(path)
    path.write_text("{")
    with pytest.raises(LatencyError, match="damaged"):
        LatencyTable.load(path)


def test_the_random_networks_are_those_of_the_guide(tmp_path):
    """docs/architecture.md gives an error for ten networks with 105 distinct blocks."""
    subprocess.run([sys.executable, str(RANDOM_UNETS), f"--output={tmp_path}/nets"], check=True)
    unets = [find_unet(str(path)) for path in sorted((tmp_path / "nets").iterdir())]
    at = {"latent": (16, 16), "tokens": 32}
    assert len(unets) == 10
    assert len({block for unet in unets for block in blocks_of(unet, **at).values()}) == 105
    assert [stage.channels for stage in unets[0].down] == [64, 96, 192]
