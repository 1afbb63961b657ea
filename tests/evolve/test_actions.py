"""Edits of a UNet: what they leave, and that the weights that are carried do what they did."""

import numpy as np
import pytest
import tensorflow as tf

from tests.small_unet import randomised_unet
from tfsnap.config import StageConfig, UNetConfig
from tfsnap.evolve.actions import Action, apply, possible
from tfsnap.evolve.carry import carry
from tfsnap.evolve.ranking import copy_of
from tfsnap.models.presets import UNETS
from tfsnap.models.unet import build_unet
from tfsnap.weights.store import addressed, assign

CONFIG = UNetConfig(
    down=(StageConfig(8, 2, (1, 2)), StageConfig(16, 1, 0), StageConfig(16, 3, (0, 1, 0))),
    mid=StageConfig(16, 2, (1, 0)),
    up=(StageConfig(16, 4, 0), StageConfig(16, 2, (0, 1)), StageConfig(8, 3, (1, 1, 0))),
    context_width=6,
    heads=2,
    groups=4,
)
ACTIONS = possible(CONFIG)

# Some of them: every kind, at every kind of place.
ADDED = [
    Action("add", "attention", "down.0", 0, 1),
    Action("add", "attention", "down.0", 1, 1),  # Between two.
    Action("add", "attention", "up.0", 3, 0),  # In a stage that has none.
    Action("add", "resnet", "down.0", 1),
    Action("add", "resnet", "down.1", 0),  # To a single one, which changes the channels.
    Action("add", "resnet", "down.2", 1),
    Action("add", "resnet", "down.2", 2),
    Action("add", "resnet", "mid", 0),
    Action("add", "resnet", "mid", 1),
]
REMOVED = [
    Action("remove", "attention", "down.0", 1, 0),
    Action("remove", "attention", "mid", 0, 0),
    Action("remove", "attention", "up.2", 1, 0),
    Action("remove", "resnet", "mid", 1),
    Action("remove", "resnet", "down.0", 1),
    Action("remove", "resnet", "down.2", 1),
    Action("remove", "resnet", "down.2", 2),
]


def weights_of(model):
    return {name: variable.numpy() for name, variable in addressed(model.variables).items()}


@pytest.fixture(scope="module")
def unet():
    return randomised_unet(CONFIG)


def evaluate(model, run=None):
    rng = np.random.default_rng(1)
    return model(
        tf.constant(rng.standard_normal([1, 4, 8, 4]), tf.float32),
        timesteps=tf.constant([321]),
        context=tf.constant(rng.standard_normal([1, 3, 6]), tf.float32),
        run=run,
    ).numpy()


def successor(unet, action):
    edited = apply(unet.config, action)
    model = build_unet(edited.config)
    tensors = carry(weights_of(unet), edited)
    assign(tensors, model.variables)
    return edited, model


def test_the_edits_of_a_network():
    texts = list(map(str, ACTIONS))
    assert len(texts) == len(set(texts))
    assert "remove down.0.attentions.1.1" in texts
    assert "remove down.0.resnets.1" in texts and "remove mid.resnets.1" in texts
    assert "add up.0.attentions.3.0" in texts and "add mid.resnets.1" in texts
    # First ResNets stay, and those of the way up go with those of the way down.
    assert not [t for t in texts if "remove" in t and ("resnets.0" in t or "up.0.resnets" in t)]
    assert "remove down.1.resnets.1" not in texts
    assert {action.verb for action in possible(CONFIG, verbs=("add",))} == {"add"}


@pytest.mark.parametrize("action", ADDED, ids=str)
def test_a_network_does_what_it_did_when_a_block_is_added(unet, action):
    edited, model = successor(unet, action)
    np.testing.assert_allclose(evaluate(model), evaluate(unet), atol=1e-5)
    paired = action.block == "resnet" and action.stage != "mid"
    assert len(model.blocks) - len(unet.blocks) == (2 if paired else 1)
    (name, *_) = [name for name, origin in edited.origins.items() if origin.added]
    before = evaluate(model)
    run = {name: tf.constant(False)}
    np.testing.assert_allclose(evaluate(model, run), before, atol=1e-5)


@pytest.mark.parametrize("row", CONFIG.removable, ids=lambda row: row[0])
def test_the_copy_of_a_block_is_of_that_block_and_comes_after_it(row):
    """On the way up before it, where the skip connection of the new one comes."""
    edited = apply(CONFIG, copy_of(Action.parse(f"remove {row[0]}")))
    copies = {origin.name: name for name, origin in edited.origins.items() if origin.added}
    assert set(copies) == set(row)
    kept = {origin.name: name for name, origin in edited.origins.items() if not origin.added}
    for name, copy in copies.items():
        first, second = (copy, kept[name]) if name in row[1:] else (kept[name], copy)
        stem, number = first.rsplit(".", 1)
        assert second == f"{stem}.{int(number) + 1}"


def test_what_a_network_can_lose_is_what_an_edit_removes():
    removals = [str(action).split()[1] for action in possible(CONFIG, verbs=("remove",))]
    assert [row[0] for row in CONFIG.removable] == removals
    names = [name for row in CONFIG.removable for name in row]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("action", REMOVED, ids=str)
def test_a_network_without_blocks_is_the_one_that_skips_them(unet, action):
    _, model = successor(unet, action)
    (lost,) = [row for row in CONFIG.removable if row[0] == str(action).split()[1]]
    skipping = evaluate(unet, dict.fromkeys(lost, tf.constant(False)))
    np.testing.assert_allclose(evaluate(model), skipping, atol=1e-5)
    assert np.abs(evaluate(model) - evaluate(unet)).max() > 1e-3


@pytest.mark.parametrize("action", REMOVED, ids=str)
def test_what_stays_keeps_its_weights(unet, action):
    edited, model = successor(unet, action)
    lost = set(unet.blocks) - {origin.name for origin in edited.origins.values()}
    assert tuple(sorted(lost)) in CONFIG.removable
    weights, before = weights_of(model), weights_of(unet)
    for name, origin in edited.origins.items():
        for address in (a for a in weights if a.startswith(f"{name}.")):
            source = origin.name + address.removeprefix(name)
            np.testing.assert_array_equal(weights[address], before[source], err_msg=address)


def test_edits_lead_from_stable_diffusion_to_the_efficient_unet():
    config = UNETS["sd15"]
    for stage in ("down.3", "down.2", "mid"):
        config = apply(config, Action("remove", "resnet", stage, 1)).config
    for stage, resnet in [("down.0", 0), ("down.0", 1), ("up.3", 0), ("up.3", 1), ("up.3", 2)]:
        config = apply(config, Action("remove", "attention", stage, resnet)).config
    for resnet in (
        0,
        1,
    ):  # Up-1 has 6 attentions on two ResNets; one of them has come to it already.
        for count in range(config.up[1].attentions[resnet], 3):
            config = apply(config, Action("add", "attention", "up.1", resnet, count)).config
    assert [s.resnets for s in config.down] == [2, 2, 1, 1]
    assert config == UNETS["snapfusion"]


def test_what_cannot_be_edited_is_named():
    with pytest.raises(ValueError, match=r"does not allow: remove down\.1\.resnets\.1"):
        apply(CONFIG, Action("remove", "resnet", "down.1", 1))


def test_weights_of_another_network_are_not_carried(unet):
    edited = apply(CONFIG, Action("remove", "attention", "mid", 0))
    tensors = weights_of(unet)
    tensors["conv_in.kernel"] = tensors["conv_in.kernel"][:1]
    with pytest.raises(ValueError, match=r"conv_in\.kernel is \[3, 3, 4, 8\] in the edited"):
        carry(tensors, edited)
    del tensors["up.0.resnets.1.conv1.bias"]
    del tensors["conv_in.kernel"]
    with pytest.raises(ValueError, match="is missing in the network before"):
        carry(tensors, edited)


def test_a_network_without_a_middle_is_edited_elsewhere():
    config = CONFIG.replace(mid=None)
    actions = possible(config)
    assert actions == [action for action in ACTIONS if action.stage != "mid"]
    for action in actions:
        assert apply(config, action).config.mid is None
