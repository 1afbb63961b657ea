"""What a search may start from."""

import pytest

from tests.training.tiny_job import UNET, shared_strategy
from tfsnap.config import ScheduleConfig
from tfsnap.evolve.config import EvolveConfig
from tfsnap.evolve.evolver import Evolver
from tfsnap.evolve.latency import LatencyTable
from tfsnap.models.unet import build_unet
from tfsnap.training.jobs import UNetJob
from tfsnap.weights.archive import describe
from tfsnap.weights.store import save_weights


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"prediction": "epsilon"}, 'unet is not .*: prediction was "epsilon", is "v"'),
        ({"schedule": ScheduleConfig(beta_end=0.02).to_dict()}, "schedule.beta_end was 0.02"),
        ({"distilled": {"steps": 8, "guidance": 3.0}}, "guidance is baked into .*unet"),
    ],
)
def test_a_network_that_robust_training_does_not_go_on_with_is_refused(tmp_path, about, message):
    network = build_unet(UNET)
    kind = {"prediction": "v", "schedule": ScheduleConfig().to_dict(), **about}
    save_weights(tmp_path / "unet", network.variables, metadata=describe(network, **kind))
    LatencyTable({}, {}).save(tmp_path / "table")
    config = EvolveConfig(
        unet=str(tmp_path / "unet"),
        table=str(tmp_path / "table"),
        robust=UNetJob(prediction="v"),
    )
    with pytest.raises(ValueError, match=message):
        Evolver(config, workdir=tmp_path / "search", strategy=shared_strategy("one"))
