import numpy as np
import pytest
import tensorflow as tf
from keras_cv.models import StableDiffusion

from tfsnap.config import StageConfig, UNetConfig
from tfsnap.models.unet import ADDED, build_unet, time_features
from tfsnap.weights.store import WeightMismatchError, addressed, assign

SMALL = UNetConfig(
    down=(StageConfig(8, 2, (0, 1)), StageConfig(16, 1, 2)),
    mid=StageConfig(16, 1, 1),
    up=(StageConfig(16, 2, (1, 0)), StageConfig(8, 3, 0)),
    context_width=12,
    heads=2,
    groups=4,
)


@pytest.fixture(scope="module")
def unet():
    unet = build_unet(SMALL)
    rng = np.random.default_rng(0)
    for variable in unet.variables:
        variable.assign_add(0.1 * rng.standard_normal(variable.shape))
    return unet


def evaluate(unet, **changes):
    rng = np.random.default_rng(1)
    inputs = {
        "latent": rng.standard_normal([2, 4, 6, 4]),
        "timesteps": np.array([3, 900]),
        "context": rng.standard_normal([2, 5, 12]),
    } | changes
    latent = tf.constant(inputs["latent"], tf.float32)
    context = tf.constant(inputs["context"], tf.float32)
    more = {name: tf.constant(value) for name, value in changes.items() if name == "guidance"}
    return unet(latent, timesteps=tf.constant(inputs["timesteps"]), context=context, **more).numpy()


def test_time_features_are_stable_diffusions():
    model = StableDiffusion.__new__(StableDiffusion)  # Only the method: no weights are made.
    for t in (0, 1, 500, 999):
        theirs = StableDiffusion._get_timestep_embedding(model, t, 1, dim=320)
        ours = time_features(tf.constant([t]), 320)
        np.testing.assert_allclose(ours[:, 0], theirs, atol=2e-4)  # float32 angles of up to 999.


def test_every_input_matters_and_examples_do_not_mix(unet):
    output = evaluate(unet)
    assert output.shape == (2, 4, 6, 4)
    for name, other in [("timesteps", np.array([4, 900])), ("context", np.zeros([2, 5, 12]))]:
        assert np.abs(evaluate(unet, **{name: other})[0] - output[0]).max() > 1e-3, name
    np.testing.assert_allclose(
        evaluate(unet, timesteps=np.array([4, 900]))[1], output[1], atol=1e-5
    )


def test_a_scale_is_read_beside_the_time(unet):
    told = build_unet(SMALL.replace(guidance_width=6))
    values = {name: v.numpy() for name, v in addressed(unet.variables).items()}
    with pytest.raises(WeightMismatchError, match=r"missing.*time\.guidance\.kernel"):
        assign(values, told.variables)
    assign(values, told.variables, added=ADDED)
    np.testing.assert_array_equal(evaluate(told, guidance=[7.0, 2.0]), evaluate(unet))
    rng = np.random.default_rng(2)
    told.time_guidance.kernel.assign(rng.standard_normal([6, 8]))
    output = evaluate(told, guidance=[7.0, 2.0])
    assert np.abs(output - evaluate(unet)).max() > 1e-2
    other = evaluate(told, guidance=[7.0, 3.0])
    np.testing.assert_allclose(other[0], output[0], atol=1e-5)
    assert np.abs(other[1] - output[1]).max() > 1e-3
    np.testing.assert_array_equal(evaluate(told, guidance=[1.0, 1.0]), evaluate(told))
    with pytest.raises(ValueError, match="reads no guidance scale"):
        evaluate(unet, guidance=[7.0, 2.0])


@pytest.mark.parametrize("width", [2, 7])
def test_features_of_a_scale_are_an_even_number_of_four_or_more(width):
    with pytest.raises(ValueError, match=f"guidance_width is {width}; it must be even and at"):
        SMALL.replace(guidance_width=width)


def test_blocks_lie_where_the_config_says(unet):
    names = addressed(unet.variables)
    transformers = {name.rsplit(".norm.", 1)[0] for name in names if ".norm.gamma" in name}
    assert transformers == {
        "down.0.attentions.1.0",
        "down.1.attentions.0.0",
        "down.1.attentions.0.1",
        "mid.attentions.0.0",
        "up.0.attentions.0.0",
    }
    resnets = {name.removesuffix(".conv1.kernel") for name in names if ".conv1.kernel" in name}
    assert resnets == {
        *(f"down.0.resnets.{i}" for i in range(2)),
        "down.1.resnets.0",
        "mid.resnets.0",
        *(f"up.0.resnets.{i}" for i in range(2)),
        *(f"up.1.resnets.{i}" for i in range(3)),
    }


def test_skip_connections_are_last_in_first_out(unet):
    """Each up-ResNet's input is as wide as its stage's input and the matching way-down map."""
    weights = addressed(unet.variables)
    widths = [
        weights[f"up.{i}.resnets.{j}.norm1.gamma"].shape[0]
        for i in range(2)
        for j in range(3 - (i == 0))
    ]
    #        16 mid + 16 resnet, 16 + 8 downsampled; 16 up + 8, 8 + 8, 8 + 8 conv_in
    assert widths == [32, 24, 24, 16, 16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"up": (StageConfig(16, 3, 0), StageConfig(8, 3, 0))}, "2 ResNets"),
        ({"mid": StageConfig(8, 1, 0)}, "as wide as the last down stage"),
        ({"heads": 3}, "not a multiple"),
        ({"up": (StageConfig(16, 2, 0),)}, "2 stages"),
    ],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SMALL.replace(**change)
