"""tools/latency_table.py as a user types it; nothing is exported, and the times are made up."""

import json
from types import SimpleNamespace

import pytest

from tests.small_unet import CONFIG
from tests.tools.refusals import ending, refusal
from tfsnap.evolve.latency import LatencyTable
from tfsnap.models.blocks import blocks_of


@pytest.fixture
def shape(tmp_path):
    (tmp_path / "unet.json").write_text(json.dumps(CONFIG.to_dict()))
    return tmp_path / "unet.json"


@pytest.fixture
def timed(monkeypatch):
    """Called for each block that is timed; a test may replace what it does."""
    does = SimpleNamespace(call=lambda: None, count=0)

    def time(model, **how):
        does.count += 1
        does.call()
        return SimpleNamespace(warm_p50_ms=1.0)

    monkeypatch.setattr("tfsnap.export.graphs.block_graph", lambda block: block)
    exported = SimpleNamespace(to_bytes=lambda: b"")
    monkeypatch.setattr("tfsnap.export.converter.convert", lambda graph, precision: exported)
    monkeypatch.setattr("tfsnap.bench.timing.time_network", time)
    return does


def test_what_another_process_measured_meanwhile_stays(shape, tmp_path, timed):
    path = tmp_path / "table.json"
    command = ("latency_table", f"--unet={shape}", f"--output={path}", "--latent=8x8")
    assert ending(*command, "--tokens=7") is None
    other, content = LatencyTable.load(path), path.read_text()
    path.unlink()
    timed.call = lambda: path.exists() or path.write_text(content)
    assert ending(*command, "--tokens=5") is None
    found = LatencyTable.load(path)
    assert found.about == other.about and other.ms.items() <= found.ms.items()
    assert not found.missing(blocks_of(CONFIG, latent=(8, 8), tokens=5).values())


def test_where_the_table_cannot_go_is_told_before_the_work(shape, tmp_path, timed):
    told = refusal("latency_table", f"--unet={shape}", f"--output={tmp_path}/no/table.json")
    assert told == (
        f"latency_table: Cannot write {tmp_path}/no/table.json: there is no folder {tmp_path}/no, "
        "create it first"
    )
    assert timed.count == 0
