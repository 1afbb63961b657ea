"""Runs of the programs that several files of tests look at, and all of pytest's processes."""

import os

import pytest

from tests.tools.programs import succeed, train
from tfsnap.lock import locked


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Workdirs of the three parts, trained by the first process that needs them."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # Of all of them; each has a folder in it.
    folder = base / "runs"
    with locked(base / "runs.lock"):
        if not (folder / "unet.out").is_file():
            train_all(folder)
    return folder


def train_all(folder):
    weights = [
        f"--config.{part}={folder}/{part}/weights.safetensors" for part in ("autoencoder", "clip")
    ]
    more = {
        "autoencoder": [],
        "clip": ["--config.model.image.resolution=16"],
        "unet": [*weights, "--config.preview_steps=1"],
    }
    for part, arguments in more.items():
        result = train(part, folder / part, *arguments)
        assert result.returncode == 0, result.stderr[-3000:]
        # That of the UNet tells that all is done.
        (folder / f"{part}.out").write_text(result.stdout)


@pytest.fixture(scope="session")
def bundle(runs):
    """The UNet's run as a bundle, exported by the first process that needs it."""
    with locked(runs / "bundle.lock"):
        if not (runs / "bundle").is_dir():
            output = succeed(
                "export",
                f"--workdir={runs}/unet",
                f"--output={runs}/bundle",
                "--precision=int8",
                "--min_psnr=15",  # Networks of three steps are nearly noise.
            )
            assert "unet" in output and "dB against Keras" in output
    return runs / "bundle"
