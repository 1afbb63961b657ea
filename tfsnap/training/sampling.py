"""Pictures from Keras models, many at a time: previews and evaluation during training."""

import numpy as np
import tensorflow as tf

from tfsnap.diffusion.denoiser import Denoiser
from tfsnap.diffusion.guidance import guide
from tfsnap.diffusion.paths import Spacing, spaced_path
from tfsnap.diffusion.sampling import ddim, sample
from tfsnap.models.latent_diffusion import LatentDiffusion


def sample_pictures(
    model: LatentDiffusion,
    *,
    tokens: np.ndarray,
    null_tokens: np.ndarray,
    steps: int,
    guidance: float,
    noise: np.ndarray,
) -> np.ndarray:
    """Draws one picture per prompt with DDIM and classifier-free guidance.

    Args:
      model: the networks.
      tokens: int32 [N, T], one prompt a row.
      null_tokens: int32 [T], the empty prompt.
      steps: network evaluations per guidance branch.
      guidance: the guidance scale w.
      noise: standard normal, float32 [N, h, w, c], where sampling starts.

    Returns:
      float32 [N, H, W, 3] in about [-1, 1].
    """
    count = len(tokens)
    every = np.concatenate([tokens, np.broadcast_to(null_tokens, tokens.shape)])
    context = model.text_encoder(tf.constant(every))  # [2N, T, C]

    @tf.function(autograph=False)  # To convert it costs seconds, and it has nothing to convert.
    def evaluate(z: tf.Tensor, t: tf.Tensor) -> tf.Tensor:
        both = model.unet(
            tf.concat([z, z], axis=0), timesteps=tf.fill([2 * count], t), context=context
        )
        return guide(conditional=both[:count], unconditional=both[count:], scale=guidance)

    latent = sample(
        ddim,
        Denoiser(lambda z, t: evaluate(z, tf.constant(t)), model.prediction),
        tf.constant(noise),
        path=spaced_path(model.schedule, steps, Spacing()),
    )
    return model.autoencoder.decoder(latent / model.autoencoder.config.scale).numpy()
