"""Edits that are found lead where they should, in one step or in many."""

import numpy as np
import pytest

from tests.evolve.test_actions import CONFIG, evaluate, successor, unet, weights_of  # noqa: F401
from tfsnap.config import StageConfig
from tfsnap.evolve.actions import Action, apply, apply_all, possible
from tfsnap.evolve.carry import carry
from tfsnap.evolve.path import path
from tfsnap.models.presets import UNETS
from tfsnap.models.unet import build_unet
from tfsnap.weights.store import assign

GOAL = CONFIG.replace(
    down=(StageConfig(8, 1, 1), StageConfig(16, 2, 0), StageConfig(16, 2, (0, 2))),
    mid=StageConfig(16, 1, 0),
    up=(StageConfig(16, 3, 0), StageConfig(16, 3, (0, 1, 0)), StageConfig(8, 2, (1, 0))),
)


@pytest.mark.parametrize("name", ["snapfusion", "snapfusion_848m", "bk_sdm_base"])
def test_stable_diffusion_becomes_each_efficient_network(name):
    actions = path(UNETS["sd15"], UNETS[name])
    assert apply_all(UNETS["sd15"], actions).config == UNETS[name]


def test_edits_at_once_are_edits_one_by_one(unet):  # noqa: F811
    actions = path(CONFIG, GOAL)
    assert {action.verb for action in actions} == {"add", "remove"}
    model = unet
    for action in actions:
        _, model = successor(model, action)
    assert model.config == GOAL
    at_once = build_unet(GOAL)
    assign(carry(weights_of(unet), apply_all(CONFIG, actions)), at_once.variables)
    np.testing.assert_array_equal(evaluate(at_once), evaluate(model))


def test_nothing_is_done_to_what_is_there():
    assert path(CONFIG, CONFIG) == []
    edited = apply_all(CONFIG, [])
    assert edited.config == CONFIG
    assert all(origin.name == name for name, origin in edited.origins.items())


def test_what_was_added_and_copied_again_is_new_twice(unet):  # noqa: F811
    first = Action("add", "attention", "mid", 0, 1)
    second = Action("add", "attention", "mid", 0, 2)
    edited = apply_all(CONFIG, [first, second])
    new = [edited.origins[f"mid.attentions.0.{k}"] for k in (1, 2)]
    assert all(origin.added and origin.name == "mid.attentions.0.0" for origin in new)


def test_no_edits_lead_to_other_widths_or_networks():
    with pytest.raises(ValueError, match="no edits lead"):
        path(UNETS["sd15"], UNETS["bk_sdm_small"])
    with pytest.raises(ValueError, match="more than their blocks"):
        path(CONFIG, CONFIG.replace(heads=4))


@pytest.mark.parametrize("action", possible(CONFIG), ids=str)
def test_an_edit_is_read_as_it_is_written(action):
    assert Action.parse(f"{action}\n") == action


@pytest.mark.parametrize("text", ["", "remove mid", "drop mid.resnets.1", "add up.0.attentions.1"])
def test_what_is_no_edit_is_refused(text):
    with pytest.raises(ValueError, match="is no edit; it must be like"):
        Action.parse(text)


def test_an_edit_of_a_block_that_went_is_refused():
    action = Action("remove", "attention", "mid", 0)
    assert apply(CONFIG, action).config.mid.attentions == (0, 0)
    with pytest.raises(ValueError, match=r"does not allow: remove mid\.attentions\.0\.0"):
        apply_all(CONFIG, [action, action])
