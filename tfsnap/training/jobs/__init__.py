"""What can be trained: a job joins a network, an objective and data, built from a config."""

from tfsnap.training.jobs.autoencoder import AutoencoderJob
from tfsnap.training.jobs.clip import ClipJob
from tfsnap.training.jobs.unet import UNetJob

JOBS = {"autoencoder": AutoencoderJob, "clip": ClipJob, "unet": UNetJob}
