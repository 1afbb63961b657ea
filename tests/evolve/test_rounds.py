"""What a round makes of its scores, which are made up."""

import numpy as np
import pytest
from PIL import Image

from tests.evolve.tiny_search import (
    PROMPTS,
    REMOVALS,
    SHAPE,
    config_of,
    evolver_of,
    give_captions,
    make_up,
)
from tfsnap.evolve.actions import REMOVE, Action, apply, possible
from tfsnap.evolve.state import State
from tfsnap.models.presets import find_unet
from tfsnap.models.unet import build_unet
from tfsnap.training.stopping import StopRequest
from tfsnap.training.trainer import TrainingError
from tfsnap.weights.archive import describe, load_trained
from tfsnap.weights.store import save_weights


@pytest.fixture
def searched(networks, tmp_path, monkeypatch):
    """Runs one round in the test's folder, whose scores are made up."""
    give_captions(monkeypatch)

    def searched(scores, **changes):
        config = config_of(networks, **changes)
        make_up(tmp_path, config.unet, scores)
        return run(evolver_of(config, tmp_path))

    return searched


@pytest.fixture
def grown(networks, tmp_path, monkeypatch):
    """The same of a search that has met its objective, with a network without some block."""
    give_captions(monkeypatch)

    def grown(scores, *, without, **changes):
        unet = build_unet(apply(SHAPE, Action.parse(f"remove {without}")).config)
        path, config = tmp_path / "smaller", config_of(networks, **changes)
        save_weights(path, unet.variables, metadata=describe(unet, prediction="v"))
        make_up(tmp_path, path, scores, removals=possible(unet.config, verbs=(REMOVE,)))
        State(unet.config, str(path)).save(tmp_path / "state.json")
        return run(evolver_of(config.replace(grow=True, target=0.99), tmp_path))

    return grown


def run(evolver):
    with StopRequest() as stop:
        assert evolver.run(stop) is not None
    return evolver


def test_an_unfinished_search_shows_the_rounds_that_are_done(networks, tmp_path, monkeypatch):
    give_captions(monkeypatch)
    config = config_of(networks, rounds=2, actions=1)
    make_up(tmp_path, config.unet, {"remove mid.resnets.1": 0.5})
    evolver = evolver_of(config, tmp_path)
    train = evolver._train

    def fail_later(stop):
        if evolver.rounds:
            raise TrainingError("the loss is not finite")
        return train(stop)

    monkeypatch.setattr(evolver, "_train", fail_later)
    with pytest.raises(TrainingError), StopRequest() as stop:
        evolver.run(stop)
    newest = apply(SHAPE, Action.parse("remove mid.resnets.1")).config
    assert find_unet(str(tmp_path / "unet.json")) == newest
    assert (tmp_path / "edits.txt").read_text() == "remove mid.resnets.1\n"
    assert "| remove mid.resnets.1 |" in (tmp_path / "rounds.md").read_text()
    with Image.open(tmp_path / "rounds.png") as picture:
        picture.load()
    assert not list(tmp_path.glob(".*"))


def made(evolver):
    """The edits of the only round."""
    (found,) = evolver.rounds
    return [str(item.action) for item in found.actions]


def test_a_network_without_a_finite_score_ends_the_search(searched):
    with pytest.raises(ValueError, match=r"4 of 8 pictures of .*weights\.safetensors have no fini"):
        searched({"as it is": (0.5, np.nan)})


def test_an_edit_without_a_finite_score_does_not_hide_the_best(searched):
    scores = {"remove down.0.attentions.0.0": np.nan, "remove mid.resnets.1": 0.5}
    evolver = searched(scores, actions=1)
    assert made(evolver) == ["remove mid.resnets.1"]
    (found,) = evolver.rounds
    (broken,) = [item for item in found.scores if not np.isfinite(item.score)]
    assert str(broken.action) in scores and broken.count == 4


def test_what_fell_out_does_not_win_with_easier_prompts(searched, capsys):
    """Everybody loses much in the second lap, which the third here does not run."""
    scores = {
        "remove mid.resnets.1": (0.495, 0.40),
        "remove mid.attentions.0.0": (0.495, 0.39),
        "remove down.0.attentions.1.0": (0.490, 0.49),
    }
    evolver = searched(scores, actions=1)
    assert made(evolver) == ["remove mid.resnets.1"]
    assert "  remove mid.resnets.1: dCLIP +0.0525, -1.000 ms\n" in capsys.readouterr().out
    assert [item.count for item in evolver.rounds[0].scores][:3] == [8, 8, 4]


def test_an_edit_that_saves_more_is_not_behind_one_that_costs_nothing_either(searched):
    scores = {"remove mid.attentions.0.0": 0.6, "remove down.0.resnets.1": 0.51}
    evolver = searched(scores, actions=1)
    assert made(evolver) == ["remove down.0.resnets.1"]  # Two blocks.
    assert [item.count for item in evolver.rounds[0].scores][:3] == [8, 8, 4]


def test_the_second_choice_is_raced_for_as_well(searched):
    """The two best edit one stage, so that one of them is made: the other one is of the rest."""
    scores = {
        "remove down.0.attentions.1.0": 0.499,
        "remove down.0.attentions.1.1": 0.498,
        "remove down.2.attentions.1.0": (0.48, 0.30),
        "remove mid.resnets.1": (0.48, 0.45),
    }
    wanted = ["remove down.0.attentions.1.0", "remove mid.resnets.1"]
    assert made(searched(scores, actions=2)) == wanted


def test_the_race_for_a_copy_is_for_the_highest_that_fits(grown, capsys):
    scores = {
        "remove down.2.resnets.1": -0.9,  # Worth most, but two blocks.
        "remove mid.attentions.0.0": (0.1, 0.2),
        "remove up.1.attentions.1.0": (0.1, 0.0),
    }
    evolver = grown(scores, without="down.0.resnets.1", actions=1)
    assert made(evolver) == ["add up.1.attentions.1.1"]
    assert "  add up.1.attentions.1.1: dCLIP +0.4500, +1.000 ms\n" in capsys.readouterr().out
    (copy,) = evolver.rounds[0].actions
    assert copy.dclip == pytest.approx(0.45) and copy.count == 8


@pytest.mark.parametrize(("guidance", "once"), [(3.0, 2), (1.0, 1)])
def test_evaluations_are_those_that_guidance_takes(searched, guidance, once):
    (found,) = searched({}, guidance=guidance, steps=5).rounds
    assert found.evaluations == once * 5 * 2 * PROMPTS * (1 + len(REMOVALS))


def test_a_round_that_finds_nothing_to_edit_is_the_last(grown, tmp_path):
    evolver = grown({}, without="down.0.attentions.1.0")  # A copy of a block leaves no time.
    (found,) = evolver.rounds
    assert found.actions == [] and found.clip == pytest.approx(0.5015)
    assert evolver.weights == str(tmp_path / "round-00/robust/weights.safetensors")
    assert load_trained(evolver.weights, "unet").model.config == find_unet(
        str(tmp_path / "unet.json")
    )
    again = evolver_of(evolver.config.replace(rounds=5), tmp_path)
    assert again.over and again.rounds == evolver.rounds
    run(again)
    assert not (tmp_path / "round-01").exists()
