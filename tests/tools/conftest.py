"""Runs of the programs that several files of tests look at."""

import pytest

from tests.tools.programs import succeed, train


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Workdirs of the three parts, trained one after another."""
    folder = tmp_path_factory.mktemp("runs")
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
        (folder / f"{part}.out").write_text(result.stdout)
    return folder


@pytest.fixture(scope="session")
def bundle(runs):
    output = succeed(
        "export",
        f"--workdir={runs}/unet",
        f"--output={runs}/bundle",
        "--precision=int8",
        "--min_psnr=15",  # Networks of three steps are nearly noise.
    )
    assert "unet" in output and "dB against Keras" in output
    return runs / "bundle"
