"""What ships is whole, is one model, and does what it says."""

import numpy as np
import pytest

from configs.emoji.unet import VARIANTS
from tests.tools.programs import ROOT
from tfsnap.data.captions import TONES
from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.metrics.retrieval import find_captions
from tfsnap.models.presets import find_unet
from tfsnap.models.unet import build_unet
from tfsnap.models.weightless import build_weightless
from tfsnap.runtime import TextToImage
from tfsnap.runtime.bundle import Bundle
from tfsnap.training.jobs.runs import load_finished, load_unet_job
from tfsnap.training.pictures import to_float
from tfsnap.weights.archive import load_trained
from tools.generators import finite_uint8, of_model

FOLDER = ROOT / "tfsnap/presets/emoji-64"
CAPTIONS = (  # Of the holdout: training saw neither these pictures nor these words together.
    "Santa Claus, medium-light skin tone, noto style",
    "man student, medium skin tone, twemoji style",
    "woman artist, medium skin tone, fluent flat style",
    "police officer, light skin tone, fluent flat style",
    "merman, dark skin tone, noto style",
    "writing hand, medium-light skin tone, noto style",
)


BUNDLES = ("emoji-64-int8.tfsnap", "emoji-64-fp16.tfsnap")


@pytest.fixture(scope="module")
def models():
    return {name: TextToImage(FOLDER / name) for name in BUNDLES}


@pytest.fixture(scope="module")
def drawn(models):
    """Pictures by bundle, uint8 [N, H, W, 3]."""
    return {
        name: np.stack([np.asarray(model(text, seed=i)) for i, text in enumerate(CAPTIONS)])
        for name, model in models.items()
    }


@pytest.fixture(scope="module")
def clip():
    return load_trained(FOLDER / "clip.safetensors", "clip").model


def top1(clip, pictures):
    return find_captions(
        clip,
        clip_tokenizer(clip.config.text),
        images=to_float(pictures),
        captions=CAPTIONS,
        candidates=CAPTIONS,
    ).top1


@pytest.mark.parametrize("name", BUNDLES)
def test_what_is_drawn_is_what_was_asked_for(drawn, clip, name):
    assert top1(clip, drawn[name]) == 1.0


def test_both_bundles_draw_the_same(drawn):
    int8, fp16 = (drawn[name].astype(np.float64) for name in BUNDLES)
    error = np.square(int8 - fp16).mean(axis=(1, 2, 3))
    assert (10 * np.log10(255**2 / error) > 24).all()


@pytest.mark.parametrize("style", ["noto", "twemoji", "fluent flat", "fluent 3d"])
@pytest.mark.parametrize("thing", ["thumbs up", "raised hand", "boy"])
def test_darker_tones_are_drawn_darker(models, thing, style):
    model = models["emoji-64-int8.tfsnap"]
    # Light is left out, as its hair may be darker.
    captions = [f"{thing}, {tone} skin tone, {style} style" for tone in TONES[1:]]
    grey = np.stack([np.asarray(model(text, seed=1)).mean(axis=-1) for text in captions])
    brightness = grey[:, grey.std(axis=0) > 8].mean(axis=1)
    assert (np.diff(brightness) < -5).all()


def test_a_step_of_what_ships_is_one_evaluation():
    for name in BUNDLES:
        settings = Bundle.open(FOLDER / name).manifest.settings
        assert settings.guidance.baked_in and settings.sampler.steps == 8


@pytest.mark.parametrize("name", BUNDLES)
def test_the_networks_are_those_of_the_model_card(name):
    shape = find_unet(str(FOLDER / "evolved.json"))
    unet = build_weightless(lambda: build_unet(shape)).count_params()
    counts = Bundle.open(FOLDER / name).manifest.provenance["parameters"]
    assert counts["unet"] == unet
    card = (FOLDER.parent / "README.md").read_text()
    assert f"UNet {unet:,}, decoder {counts['decoder']:,} |" in card


def test_the_teacher_draws_what_it_is_asked_for(clip, monkeypatch):
    monkeypatch.chdir(ROOT)  # The run names the other networks from there.
    teacher = of_model(load_finished(FOLDER / "teacher"))
    assert top1(clip, finite_uint8(teacher.make(steps=8, guidance=2.0)(CAPTIONS, range(6)))) == 1.0


def test_the_configs_are_of_these_networks():
    assert load_unet_job(FOLDER / "teacher").model == VARIANTS["full"].model
    evolved, teacher = find_unet(str(FOLDER / "evolved.json")), VARIANTS["full"].model
    assert [s.channels for s in evolved.down] == [s.channels for s in teacher.down]
    assert evolved.removable != teacher.removable


def test_what_ships_is_small():
    size = {p.relative_to(FOLDER).as_posix(): p.stat().st_size for p in FOLDER.rglob("*.*")}
    assert sum(size[name] for name in (*BUNDLES, "teacher/weights.safetensors")) < 60e6
    assert sum(size.values()) < 70e6
    assert size["emoji-64-int8.tfsnap"] < 20e6
