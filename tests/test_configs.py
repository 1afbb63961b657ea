"""Every experiment's config is a job, and every field of it can be changed by a flag."""

import importlib
import pathlib
import sys

import pytest
from absl import flags
from ml_collections import config_flags

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
    if hasattr(module, "SEARCH"):
        assert EvolveConfig.from_dict(values) == module.SEARCH
    elif hasattr(module, "PIPELINE"):
        assert PipelineConfig.from_dict(values) == module.PIPELINE
    else:
        expected = module.VARIANTS[variant] if variant else module.JOB
        assert job_from_dict(values) == expected
    assert f"configs/{pathlib.Path(path).parent.name}" in module.__doc__  # The command.


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
