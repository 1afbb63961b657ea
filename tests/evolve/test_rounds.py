"""What a round makes of its scores, which are made up."""

import numpy as np
import pytest

from tests.evolve.tiny_search import config_of, evolver_of, give_captions, make_up
from tfsnap.training.stopping import StopRequest


@pytest.fixture
def searched(networks, tmp_path, monkeypatch):
    """A search of one round whose scores are made up, after it has run."""
    give_captions(monkeypatch)

    def searched(scores, **changes):
        config = config_of(networks, **changes)
        make_up(tmp_path, config, scores)
        evolver = evolver_of(config, tmp_path)
        with StopRequest() as stop:
            assert evolver.run(stop) is not None
        return evolver

    return searched


def test_a_network_without_a_finite_score_ends_the_search(searched):
    with pytest.raises(ValueError, match=r"4 of 8 pictures of .*weights\.safetensors have no fini"):
        searched({"as it is": (0.5, np.nan)})


def test_an_edit_without_a_finite_score_does_not_hide_the_best(searched):
    scores = {"remove down.0.attentions.0.0": np.nan, "remove mid.resnets.1": 0.5}
    (found,) = searched(scores, actions=1).rounds
    assert [str(item.action) for item in found.actions] == ["remove mid.resnets.1"]
    (broken,) = [item for item in found.scores if not np.isfinite(item.score)]
    assert str(broken.action) in scores and broken.count == 4
