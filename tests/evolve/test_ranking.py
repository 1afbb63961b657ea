"""Which edits a round makes."""

import numpy as np
import pytest

from tests.evolve.test_actions import CONFIG
from tfsnap.evolve.actions import REMOVE, Action, apply, possible
from tfsnap.evolve.ranking import choose, choose_copy, in_order, scored

ACTIONS = possible(CONFIG, verbs=(REMOVE,))


def ranked(costs, saving=1.0):
    """Removals that cost what `costs` says, and the others much."""
    return [
        scored(action, np.full(4, costs.get(str(action), 1.0)) * saving, saving)
        for action in ACTIONS
    ]


def test_the_cheapest_for_their_latency_go_first():
    items = ranked({"remove down.0.attentions.1.0": 0.01, "remove mid.resnets.1": 0.02})
    chosen = choose(CONFIG, items, most=2, excess=100.0)
    assert [str(item.action) for item in chosen] == [
        "remove down.0.attentions.1.0",
        "remove mid.resnets.1",
    ]
    assert all(item.chosen for item in chosen)
    slow = scored(ACTIONS[0], np.full(4, 0.3), 100.0)  # Costs most, but for a lot of time.
    assert choose(CONFIG, [*items, slow], most=1, excess=1.0)[0] is not None
    assert choose(CONFIG, [*items, slow], most=1, excess=1.0)[0].action == slow.action


def test_of_those_that_cost_nothing_the_one_that_saves_most_goes_first():
    large, small, least = (
        scored(action, np.full(4, drop), saving)
        for action, drop, saving in zip(
            ACTIONS, (-0.001, -0.001, -0.02), (1.0, 0.01, 0.005), strict=False
        )
    )
    costly = scored(ACTIONS[3], np.full(4, 0.001), 10.0)
    assert in_order([costly, least, small, large]) == [large, small, least, costly]
    assert small.score == pytest.approx(-0.1) and small.cost == 0.0  # What it shows stays.
    (chosen,) = choose(CONFIG, [small, large], most=1, excess=1.0)
    assert chosen.action == large.action
    slow, fast = scored(ACTIONS[0], np.ones(4), 1.0), scored(ACTIONS[1], np.full(4, 2.0), 2.0)
    assert in_order([slow, fast]) == [fast, slow]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_edit_without_a_finite_score_is_never_made(value):
    broken = scored(ACTIONS[0], np.array([0.0, value]), 1.0)
    assert broken.score == np.inf and type(broken).from_dict(broken.to_dict()) == broken
    items = [broken, *ranked({})[1:]]
    chosen = choose(CONFIG, items, most=100, excess=100.0)
    assert len(chosen) > 3 and broken.action not in [item.action for item in chosen]
    assert choose(CONFIG, [broken], most=1, excess=1.0) == []
    assert choose_copy(CONFIG, [broken], fits=lambda config: True) is None


def test_no_more_is_removed_than_the_objective_needs():
    assert len(choose(CONFIG, ranked({}), most=5, excess=1.5)) == 2
    assert len(choose(CONFIG, ranked({}), most=1, excess=1.5)) == 1


def test_a_stage_and_its_counterpart_are_edited_once():
    items = ranked(
        {
            "remove down.0.resnets.1": 0.01,
            "remove up.2.attentions.0.0": 0.02,
            "remove down.0.attentions.0.0": 0.03,
            "remove mid.attentions.0.0": 0.04,
        }
    )
    chosen = choose(CONFIG, items, most=2, excess=100.0)
    assert [str(item.action) for item in chosen] == [
        "remove down.0.resnets.1",
        "remove mid.attentions.0.0",
    ]
    config = CONFIG
    for item in choose(CONFIG, ranked({}), most=10, excess=100.0):
        config = apply(config, item.action).config  # The numbers still name what they named.


def test_the_block_that_is_worth_most_is_copied():
    items = ranked({"remove mid.attentions.0.0": 5.0, "remove down.2.resnets.1": 4.0})
    copy = choose_copy(CONFIG, items, fits=lambda config: True)
    assert copy.action == Action("add", "attention", "mid", 0, 1)
    without = choose_copy(CONFIG, items, fits=lambda c: c.mid.attentions == CONFIG.mid.attentions)
    assert without.action == Action("add", "resnet", "down.2", 1)
    assert apply(CONFIG, without.action).config.down[2].resnets == 4
    assert choose_copy(CONFIG, items, fits=lambda config: False) is None


def test_scores_are_means_with_their_errors():
    item = scored(ACTIONS[0], np.array([0.1, 0.3]), 0.5)
    assert item.dclip == pytest.approx(0.2)
    assert item.error == pytest.approx(0.1)
    assert item.score == pytest.approx(0.4)
    assert item.count == 2
    assert type(item).from_dict(item.to_dict()) == item
