"""What a search may start from, told before anything is trained or written."""

import pytest

from tests.data.prepared.sources import Listed, png
from tests.evolve.tiny_search import LARGE, config_of, evolver_of, give_captions
from tests.training.latent_job import CLIP
from tfsnap.config import ScheduleConfig, UNetConfig
from tfsnap.data.prepared.build import prepare_set
from tfsnap.data.prepared.recipe import Recipe
from tfsnap.data.readers.entry import Entry
from tfsnap.evolve.config import EvolveConfig
from tfsnap.evolve.start import require_start
from tfsnap.models.clip import build_text_encoder
from tfsnap.training.config import TrainingConfig
from tfsnap.training.jobs.distill import DistillConfig
from tfsnap.training.jobs.unet import UNetJob
from tfsnap.training.lora import LoraConfig
from tfsnap.weights.archive import describe
from tfsnap.weights.store import load_tensors, save_tensors, save_weights

SIZES = [(40, 24), (32, 32)]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"prediction": "epsilon"}, 'unet is not .*: prediction was "epsilon", is "v"'),
        ({"schedule": ScheduleConfig(beta_end=0.02).to_dict()}, "schedule.beta_end was 0.02"),
        ({"distilled": {"steps": 8, "guidance": 3.0}}, "guidance is baked into .*unet"),
    ],
)
def test_a_network_that_robust_training_does_not_go_on_with_is_refused(
    networks, tmp_path, about, message
):
    tensors, described = load_tensors(networks / "unet")
    save_tensors(tmp_path / "unet", tensors, metadata={**described, **about})
    with pytest.raises(ValueError, match=message):
        evolver_of(config_of(networks, unet=str(tmp_path / "unet")), tmp_path / "search")


def test_a_network_that_reads_the_guidance_scale_needs_a_teacher():
    config, reads = EvolveConfig(unet="it", guidance=3.0), UNetConfig(guidance_width=8)
    with pytest.raises(ValueError, match=r"it reads the guidance scale, .* guidance=3\.0 after"):
        require_start(config, reads, {})
    taught = config.robust.replace(distill=DistillConfig(teacher="teacher"))
    require_start(config.replace(robust=taught), reads, {})
    require_start(config.replace(guidance=1.0), reads, {})  # What it is shown.
    require_start(config, UNetConfig(), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": LoraConfig(rank=2)}, "has lora.rank=2 and"),
        (
            {
                "distill": DistillConfig(
                    teacher="t", baked=True, guidance=(3.0, 3.0), cfg_probability=1.0, gamma=0.0
                )
            },
            "distill.baked=True: a search trains a whole UNet",
        ),
    ],
)
def test_a_training_whose_networks_cannot_be_scored_is_refused(changes, message):
    config = EvolveConfig(unet="it")
    with pytest.raises(ValueError, match=message):
        require_start(config.replace(robust=config.robust.replace(**changes)), UNetConfig(), {})


def test_a_text_encoder_alone_cannot_score(networks, tmp_path, monkeypatch):
    tower, path = build_text_encoder(CLIP.text), tmp_path / "text"
    save_weights(path, tower.variables, metadata=describe(tower))
    give_captions(monkeypatch)
    config = config_of(networks)
    with pytest.raises(ValueError, match=r"text holds a text encoder alone; .* config\.robust\.cl"):
        evolver_of(
            config.replace(robust=config.robust.replace(clip=str(path))), tmp_path / "search"
        )


@pytest.mark.parametrize(
    ("split", "message"), [("trian", "split is 'trian'"), ("train", "2 shapes, from --buckets")]
)
def test_prompts_that_cannot_be_read_are_refused(networks, tmp_path, split, message):
    entries = [
        Entry(f"{k:03d}", ("a picture",), lambda k=k: png(k, SIZES[k % 2]), "x") for k in range(8)
    ]
    prepare_set(Listed(entries), tmp_path / "set", Recipe(resolution=LARGE, buckets=True))
    config = config_of(networks, split=split)
    data = config.robust.data.replace(dataset=str(tmp_path / "set"), resolution=LARGE)
    with pytest.raises(ValueError, match=message):
        evolver_of(config.replace(robust=config.robust.replace(data=data)), tmp_path / "search")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1001}, "steps is 1001; it must be at most 1000"),
        ({"seed": -1}, r"seed is -1; it must be at least 0 and below 2\^32"),
        ({"seed": 2**32}, "seed is 4294967296; it"),
        ({"guidance": float("nan")}, "guidance is nan; it must be 0 or more, and finite"),
        ({"guidance": float("inf")}, "guidance is inf; it"),
        ({"guidance": -3.0}, r"guidance is -3\.0; it"),
        ({"robust": UNetJob(training=TrainingConfig(seed=2**31 - 9))}, "rounds is 10; .* most 9: "),
    ],
)
def test_what_would_only_end_a_round_is_refused_before_it(changes, message):
    with pytest.raises(ValueError, match=rf"EvolveConfig\.{message}"):
        EvolveConfig(**changes)
