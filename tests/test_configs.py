"""Every experiment's config is a job, and every field of it can be changed by a flag."""

import importlib
import pathlib
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from configs.emoji.distill import FEW, SHORT
from tfsnap.evolve.config import EvolveConfig
from tfsnap.training.jobs import job_from_dict
from tfsnap.training.pipeline import PipelineConfig

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.glob("configs/*/*.py")
    if "def get_config(" in path.read_text(encoding="utf-8")
)


def variants(path):
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    return [f"{path}:{name}" for name in getattr(module, "VARIANTS", {})] or [str(path)]


@pytest.fixture
def parsed(monkeypatch):
    """The config that a program gets from its command line."""
    monkeypatch.chdir(ROOT)

    def parse(*arguments):
        monkeypatch.setattr(sys, "argv", ["program", *arguments])  # Where it looks for fields.
        values = flags.FlagValues()
        config = config_flags.DEFINE_config_file("config", flag_values=values)
        values(["program", *arguments])
        return config.value

    return parse


@pytest.mark.parametrize("name", [name for path in FILES for name in variants(path)])
def test_a_config_is_a_job(parsed, name):
    path, _, variant = name.partition(":")
    module = importlib.import_module(".".join(pathlib.Path(path).with_suffix("").parts))
    values = parsed(f"--config={name}").to_dict()
    expected = module.VARIANTS[variant] if variant else module.JOB
    whole = isinstance(expected, EvolveConfig | PipelineConfig)
    read = type(expected).from_dict if whole else job_from_dict
    assert read(values) == expected
    assert f"configs/{pathlib.Path(path).parent.name}" in module.__doc__  # The command.


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("training.step", "no field 'step' there; the fields are .*, steps"),
        ("trianing.steps", "no field 'trianing' there; the fields are .*, training"),
        ("training.optimizer.lr", "no field 'lr' there; the fields are .*, learning_rate"),
    ],
)
def test_a_field_that_is_not_there_is_one_line(parsed, field, message):
    with pytest.raises(flags.IllegalFlagValueError, match=f"^flag --config has {message}"):
        parsed("--config=configs/emoji/clip.py:demo", f"--config.{field}=3")


@pytest.mark.parametrize("path", [path for path in FILES if ":" in variants(path)[0]], ids=str)
def test_a_variant_that_is_not_there_is_one_line(parsed, path):
    with pytest.raises(flags.IllegalFlagValueError) as raised:
        parsed(f"--config={path}:demoo")
    names = ", ".join(name.partition(":")[2] for name in variants(path))
    assert str(raised.value) == f"flag --config ends in 'demoo'; this file has the variants {names}"


PIPELINES = [
    (f"{path}:{name}", stage)
    for path in ("configs/emoji/pipeline.py", "configs/emoji/ablations.py")
    for name, config in importlib.import_module(path[:-3].replace("/", ".")).VARIANTS.items()
    for stage in config.stages
]


@pytest.mark.parametrize(
    ("pipeline", "stage"), PIPELINES, ids=[f"{name}-{stage.name}" for name, stage in PIPELINES]
)
def test_every_stage_of_a_pipeline_is_a_job(parsed, pipeline, stage):
    learns = "weights.safetensors" if stage.teacher else ""
    changes = (f"distill.teacher={learns}", *stage.changes)
    config = f"--config={stage.config}"
    job = job_from_dict(parsed(config, *(f"--config.{c}" for c in changes)).to_dict())
    if "ablations" in pipeline:  # One budget an arm, or two halves.
        budget = job_from_dict(parsed(config).to_dict()).training.steps
        assert budget == (FEW if "few_" in pipeline else SHORT)
        assert job.training.steps in (budget, budget // 2)
    assert bool(job.distill.teacher) == bool(stage.teacher)


def test_flags_change_tuples_and_fields_without_a_value(parsed):
    unet = "--config=configs/emoji/unet.py"
    few = "--config.data.subset.labels=('red heart', 'ghost')"
    for variant in ("full", "demo"):
        job = job_from_dict(parsed(f"{unet}:{variant}", few).to_dict())
        assert job.data.subset.labels == ("red heart", "ghost")
    layers = "--config.training.rematerialize=('up.*',)"
    width = "--config.model.time_width=128"
    job = job_from_dict(parsed(unet, layers, width).to_dict())
    assert job.training.rematerialize == ("up.*",)
    assert job.model.time_width == 128
    with pytest.raises(flags.IllegalFlagValueError):
        parsed(unet, "--config.training.steps=many")


def test_a_field_that_follows_from_another_follows_its_flag(parsed):
    autoencoder = "--config=configs/emoji/autoencoder.py"
    narrow = ("--config.model.channels=(8, 16, 16)", "--config.model.groups=8")
    job = job_from_dict(parsed(autoencoder, *narrow).to_dict())
    assert job.model.decoder_channels == (8, 16, 16)
    job = job_from_dict(
        parsed(autoencoder, *narrow, "--config.model.decoder_channels=(8, 8, 8)").to_dict()
    )
    assert (job.model.channels, job.model.decoder_channels) == ((8, 16, 16), (8, 8, 8))
