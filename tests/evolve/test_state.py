"""Where a search is, when its folder has moved since."""

import json
import pathlib

from tests.evolve.test_actions import CONFIG
from tfsnap.evolve.state import State


def test_a_search_finds_its_weights_when_it_has_moved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = pathlib.Path("old/round-00/edited.safetensors")
    weights.parent.mkdir(parents=True)
    weights.touch()
    State(CONFIG, str(weights)).save(pathlib.Path("old/state.json"))
    pathlib.Path("old").rename("new")
    monkeypatch.chdir("new/round-00")
    moved = tmp_path / "new/round-00/edited.safetensors"
    assert State.load(tmp_path / "new/state.json") == State(CONFIG, str(moved))


def test_a_path_as_it_was_typed_is_still_read(tmp_path, monkeypatch):
    (tmp_path / "runs/round-00").mkdir(parents=True)
    typed = "runs/round-00/edited.safetensors"
    (tmp_path / typed).touch()
    values = {"config": CONFIG.to_dict(), "weights": typed, "rounds": []}
    (tmp_path / "runs/state.json").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    assert State.load(tmp_path / "runs/state.json").weights == typed
