import math

import pytest

from tfsnap.export.quantisation.recipe import GoalError, layers_to_keep

# Each layer alone adds its noise: 20 dB is a mean squared error of 0.01.
ALONE = {"a": 60.0, "b": 25.0, "c": 45.0, "d": 30.0, "e": 50.0}


def psnr_db(kept):
    noise = 1e-9 + sum(10 ** (-db / 10) for layer, db in ALONE.items() if layer not in kept)
    return -10 * math.log10(noise)


@pytest.mark.parametrize(
    ("goal", "kept"),
    [
        (20.0, ""),
        (24.0, "b"),
        (29.0, "b"),
        (31.0, "bd"),
        (45.0, "bcd"),
        (55.0, "bcde"),
        (70, "abcde"),
    ],
)
def test_the_fewest_of_the_worst_layers_are_kept(goal, kept):
    assert layers_to_keep("unet", ALONE, psnr_db, goal_db=goal) == set(kept)


def test_a_goal_out_of_reach_says_how_near_one_comes():
    with pytest.raises(GoalError, match=r"--psnr=95 is out of reach for the unet: it is 90\.0 dB"):
        layers_to_keep("unet", ALONE, psnr_db, goal_db=95)


def test_it_measures_as_often_as_the_number_has_bits():
    asked = []

    def counted(kept):
        asked.append(len(kept))
        return 50.0 if len(kept) > 637 else 10.0

    found = layers_to_keep("unet", {str(i): i for i in range(1000)}, counted, goal_db=35)
    assert found == {str(i) for i in range(638)}
    assert len(asked) <= 11


def test_a_network_that_gives_nan_meets_no_goal():
    with pytest.raises(GoalError, match="out of reach for the unet: it is nan dB"):
        layers_to_keep("unet", ALONE, lambda kept: float("nan"), goal_db=10)
