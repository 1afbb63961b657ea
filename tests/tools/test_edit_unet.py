"""What tools/edit_unet.py refuses."""

import json

import pytest

from tests.small_unet import CONFIG, randomised_unet
from tests.tools.refusals import refusal
from tfsnap.config import StageConfig
from tfsnap.weights.archive import describe
from tfsnap.weights.store import save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    model = randomised_unet(CONFIG)
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    save_weights(path, model.variables, metadata=describe(model))
    return path


def refused(weights, tmp_path, shape):
    (tmp_path / "to.json").write_text(json.dumps(shape))
    flags = f"--to={tmp_path}/to.json", f"--output={tmp_path}/out.safetensors"
    told = refusal("edit_unet", f"--weights={weights}", *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["to.json"]
    return told


@pytest.mark.parametrize("shape", [[1, 2], {"down": 3}, {"groups": 0}])
def test_a_file_that_is_no_shape(weights, tmp_path, shape):
    assert "to.json: no UNetConfig can be made of it (" in refused(weights, tmp_path, shape)


def test_a_narrower_shape_that_leaves_the_features_of_time_to_its_default(weights, tmp_path):
    down = (StageConfig(4, 1, 1), StageConfig(8, 1, 0))
    up = (StageConfig(8, 2, 0), StageConfig(4, 2, 0))
    shape = CONFIG.replace(down=down, mid=StageConfig(8, 1, 1), up=up, groups=2).to_dict()
    del shape["time_width"]
    told = refused(weights, tmp_path, shape)
    assert told.endswith(
        'add "time_width": 8 to the narrow shape, whose first stage says it otherwise'
    )


def test_weights_that_do_not_say_their_shape(weights, tmp_path):
    save_weights(tmp_path / "x.safetensors", [], metadata={"network": "unet"})
    flags = f"--weights={tmp_path}/x.safetensors", f"--output={tmp_path}/y.safetensors"
    told = refusal("edit_unet", *flags, "--to=snapfusion")
    assert "its description is damaged, or a newer tfsnap's: no UNetConfig" in told
