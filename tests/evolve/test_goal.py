"""What is out of a round's race is never chosen, and what is chosen is not out of it."""

import numpy as np
import pytest

from tests.evolve.test_actions import CONFIG
from tests.evolve.test_ranking import ACTIONS
from tfsnap.evolve.actions import Action, apply
from tfsnap.evolve.goal import Grow, Shrink
from tfsnap.evolve.ranking import choose, copy_of, scored


def picked(values, most):
    """The edits that are chosen by these scores, in the order of `ACTIONS`."""
    items = [scored(a, np.full(4, v), 1.0) for a, v in zip(ACTIONS, values, strict=True)]
    return [item.action for item in choose(CONFIG, items, most=most, excess=1e3)]


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_what_is_hopeless_is_not_chosen_in_any_order(most):
    goal, rng = Shrink(CONFIG, most, 1e3), np.random.default_rng(most)
    out = 0
    for _ in range(200):
        known = rng.permutation(len(ACTIONS))[: rng.integers(1, len(ACTIONS))]
        *better, action = (ACTIONS[row] for row in known)
        if not goal.hopeless(action, better):
            continue
        out += 1
        for _ in range(5):
            values = dict(zip(ACTIONS, rng.uniform(size=len(ACTIONS)), strict=True))
            values.update({a: v * values[action] for a, v in values.items() if a in better})
            assert action not in picked(values.values(), most)
    assert out > 20


def test_the_second_choice_is_not_out_for_two_better_ones_of_one_stage():
    goal = Shrink(CONFIG, 2, 1e3)
    same = [Action("remove", "attention", "down.0", 1, k) for k in range(2)]
    second = Action("remove", "resnet", "mid", 1)
    assert not goal.hopeless(second, same)
    assert goal.hopeless(same[0], same[1:])
    elsewhere = Action("remove", "attention", "down.2", 1)
    assert goal.hopeless(second, [*same, elsewhere])
    both = Action("remove", "resnet", "down.0", 1)  # And one of up.2.
    up = Action("remove", "attention", "up.2", 0)
    assert goal.hopeless(both, [up]) and not goal.hopeless(up, [both])
    # Whichever of these three is first, it may be the only one of its level.
    assert not goal.hopeless(second, [both, up, same[0]])


def test_the_race_for_a_copy_is_among_those_that_fit():
    mid = [action for action in ACTIONS if action.stage == "mid"]
    goal = Grow(CONFIG, fits=lambda config: config.mid == CONFIG.mid)
    assert all(goal.hopeless(action, []) for action in mid)
    fitting = [a for a in ACTIONS if apply(CONFIG, copy_of(a)).config.mid == CONFIG.mid]
    assert len(fitting) > 1 and not any(goal.hopeless(action, mid) for action in fitting)
    assert goal.hopeless(fitting[0], [fitting[1]])
