"""What ships is whole, is one model, and does what it says."""

import numpy as np
import pytest

from configs.emoji.unet import VARIANTS
from tests.tools.programs import ROOT
from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.metrics.retrieval import find_captions
from tfsnap.models.presets import find_unet
from tfsnap.runtime import TextToImage
from tfsnap.training.jobs.runs import load_finished, load_unet_job
from tfsnap.training.pictures import to_float
from tfsnap.weights.archive import load_trained
from tools.generators import of_model

FOLDER = ROOT / "tfsnap/presets/emoji-64"
CAPTIONS = (  # Of the holdout: training saw neither these pictures nor these words together.
    "Santa Claus, medium-light skin tone, noto style",
    "man student, medium skin tone, twemoji style",
    "woman artist, medium skin tone, fluent flat style",
    "police officer, light skin tone, fluent flat style",
    "merman, dark skin tone, noto style",
    "writing hand, medium-light skin tone, noto style",
)


@pytest.fixture(scope="module")
def drawn():
    model = TextToImage(FOLDER / "emoji-64-int8.tfsnap")
    return np.stack([np.asarray(model(text, seed=i)) for i, text in enumerate(CAPTIONS)])


def test_what_is_drawn_is_what_was_asked_for(drawn):
    clip = load_trained(FOLDER / "clip.safetensors", "clip").model
    found = find_captions(
        clip,
        clip_tokenizer(clip.config.text),
        images=to_float(drawn),
        captions=CAPTIONS,
        candidates=CAPTIONS,
    )
    assert found.top1 == 1.0


def test_the_bundle_draws_what_the_teacher_draws(drawn, monkeypatch):
    monkeypatch.chdir(ROOT)  # The run names the other networks from there.
    teacher = of_model(load_finished(FOLDER / "teacher"))
    images = teacher.make(steps=8, guidance=2.0)(CAPTIONS[:2], [0, 1])
    error = np.mean(np.square(np.clip(images, -1, 1) * 127.5 + 127.5 - drawn[:2]))
    assert 10 * np.log10(255**2 / error) > 24


def test_the_configs_are_of_these_networks():
    assert load_unet_job(FOLDER / "teacher").model == VARIANTS["full"].model
    evolved, teacher = find_unet(str(FOLDER / "evolved.json")), VARIANTS["full"].model
    assert [s.channels for s in evolved.down] == [s.channels for s in teacher.down]
    assert evolved.removable != teacher.removable


def test_what_ships_is_small():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) < 60e6
