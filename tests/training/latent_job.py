"""A small UNet's job on a few random pictures, with networks that nobody trained."""

from tests.training.tiny_job import TRAINING, UNET, shared_strategy
from tfsnap.config import AutoencoderConfig, ClipConfig, ClipImageConfig, ClipTextConfig
from tfsnap.data.augment import AugmentConfig
from tfsnap.training.jobs.inputs import DataConfig
from tfsnap.training.jobs.unet import UNetJob
from tfsnap.training.trainer import Trainer

PICTURES, VARIANTS, LENGTH, SIDE = 21, 3, 4, 8
AUGMENT = AugmentConfig(translation=0.2, zoom=0.1)
AUTOENCODER = AutoencoderConfig(channels=(8, 8), groups=4, resnets=1, scale=0.7)
CLIP = ClipConfig(
    text=ClipTextConfig(vocab_size=32, context_length=LENGTH, width=8, layers=1, heads=2),
    image=ClipImageConfig(resolution=SIDE, patch=4, width=8, layers=1, heads=2),
    embedding_width=8,
)


def job_of(networks, **changes):
    job = UNetJob(
        autoencoder=str(networks / "autoencoder"),
        clip=str(networks / "clip"),
        model=UNET,
        data=DataConfig(resolution=SIDE, caption_variants=VARIANTS, resample=0.7),
        training=TRAINING,
        prediction="v",
        dropout=0.3,
        preview_steps=1,
    )
    return job.replace(**changes)


def losses(job, workdir, steps=4):
    trainer = Trainer(job, workdir=workdir, strategy=shared_strategy("one"))
    batches = job.batches(0).take(steps).as_numpy_iterator()
    return [float(trainer.train_step(batch, k)["loss"]) for k, batch in enumerate(batches)]
