"""What an autoencoder's job shows."""

import numpy as np
import pytest

from tfsnap.config import AutoencoderConfig
from tfsnap.data.examples import Examples
from tfsnap.data.shards import ShardError
from tfsnap.training.jobs import inputs
from tfsnap.training.jobs.autoencoder import AutoencoderJob

SIDE = 8


@pytest.fixture
def job():
    return AutoencoderJob(model=AutoencoderConfig(channels=(8, 8), groups=4, resnets=1))


def loading(error, side=SIDE):
    """Stands for `load_examples`: three pictures for training, and an error for validation."""

    def load(*, split, **options):
        if split == "validation":
            raise error
        images = np.zeros([3, side, side, 3], np.uint8)
        return Examples(images, (("a",),) * 3, np.zeros(3, np.int32), ("x",), ("a", "b", "c"))

    return load


def test_a_subset_without_pictures_for_validation_shows_those_of_training(job, monkeypatch):
    monkeypatch.setattr(inputs, "load_examples", loading(ValueError("No picture of the split")))
    shown = job.previews(job.build()[0])["reconstruction"]
    assert shown.dtype == np.uint8 and shown.shape[1] >= 3 * SIDE


def test_damaged_pictures_are_not_passed_over(job, monkeypatch):
    monkeypatch.setattr(inputs, "load_examples", loading(ShardError("damaged")))
    with pytest.raises(ShardError, match="damaged"):
        job.previews(job.build()[0])


def test_pictures_that_cannot_be_halved_are_one_line(job, monkeypatch):
    monkeypatch.setattr(inputs, "load_examples", loading(None, side=SIDE + 1))
    with pytest.raises(ValueError, match="pictures of 9 x 9 pixels .* must be multiples of 2"):
        job.batches(0)
