"""Races end with the right winners, and early."""

import numpy as np

from tfsnap.evolve.race import race

MEANS = {"a": 0.10, "b": 0.11, "c": 0.30, "d": 0.50, "e": 0.12}
LAP = 8


def common(lap):
    """What makes some prompts easy for everybody: much larger than the differences."""
    return np.random.default_rng(lap).standard_normal(LAP)


def one(entrant, lap):
    own = np.random.default_rng(1000 + lap * 7 + ord(entrant)).standard_normal(LAP)
    return MEANS[entrant] + common(lap) + 0.02 * own


def measure(entrants, lap):
    return [one(entrant, lap) for entrant in entrants]


def test_the_lowest_win_and_the_hopeless_are_not_measured_to_the_end():
    values = race(list(MEANS), measure, laps=20, winners=2)
    assert len(values["c"]) == len(values["d"]) == LAP  # Paired, one lap is enough.
    longest = max(map(len, values.values()))
    last = [entrant for entrant, v in values.items() if len(v) == longest]
    assert set(sorted(last, key=lambda entrant: values[entrant].mean())[:2]) == {"a", "b"}
    assert LAP < longest < 20 * LAP  # Longer for those that are close, and not to the end.


def test_values_of_a_lap_are_the_measured_ones_in_order():
    values = race(["a", "d"], measure, laps=3, winners=1, confidence=np.inf)
    for entrant in "ad":
        expected = np.concatenate([one(entrant, lap) for lap in range(3)])
        np.testing.assert_array_equal(values[entrant], expected)


def test_what_is_not_finite_falls_out_and_changes_nothing_else():
    def broken(entrants, lap):
        return [one(e, lap) + (np.nan if e == "a" and lap == 0 else 0) for e in entrants]

    values = race(list(MEANS), broken, laps=6, winners=2)
    without = race(list(MEANS)[1:], measure, laps=6, winners=2)
    assert len(values["a"]) == LAP
    for entrant, expected in without.items():
        np.testing.assert_array_equal(values[entrant], expected)


def test_unpaired_noise_keeps_everybody_in():
    """What the entrants have in common is what a race profits from."""

    def unpaired(entrants, lap):
        return [
            MEANS[e] + np.random.default_rng(lap * 31 + ord(e)).standard_normal(LAP)
            for e in entrants
        ]

    values = race(list("abe"), unpaired, laps=6, winners=1)
    assert sum(len(v) for v in values.values()) > 2 * 6 * LAP


def test_the_race_goes_on_while_one_of_those_left_may_shut_another_out():
    """Of a and b one can win only, whatever the others do."""

    def hopeless(entrant, better):
        return (entrant in "ab" and any(o in "ab" for o in better)) or len(better) > 2

    values = race(list("abd"), measure, laps=20, winners=3, hopeless=hopeless)
    assert LAP < len(values["a"]) == len(values["b"]) == len(values["d"]) < 20 * LAP


def test_what_is_not_above_the_floor_is_not_behind_what_is_further_below_it():
    means = {"far below": -0.5, "below": -0.1, "unsure": 0.01, "above": 0.2, "further above": 0.4}
    noise = {"unsure": 0.1}

    def drawn(entrants, lap):
        own = np.linspace(-1, 1, LAP)
        return [means[e] + noise.get(e, 0.01) * own * (-1) ** lap for e in entrants]

    def stayed(**floor):
        values = race(list(means), drawn, laps=3, winners=1, **floor)
        return [entrant for entrant in means if len(values[entrant]) == 3 * LAP]

    assert stayed() == []
    assert stayed(floor=0.0) == ["far below", "below", "unsure"]
    assert stayed(floor=1.0) == list(means)


def test_laps_are_told():
    told = []
    race(
        ["a", "d"], measure, laps=5, winners=1, after_lap=lambda lap, v: told.append((lap, len(v)))
    )
    assert told == [(1, 2)]
