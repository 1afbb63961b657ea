"""Pictures from Keras models, many at a time: previews, evaluation, distillation, the search."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfsnap.diffusion.denoiser import Denoiser
from tfsnap.diffusion.guidance import guide
from tfsnap.diffusion.paths import Spacing
from tfsnap.diffusion.samplers import SAMPLERS
from tfsnap.diffusion.sampling import sample
from tfsnap.diffusion.schedule import NoiseSchedule
from tfsnap.models.latent_diffusion import SAMPLER, LatentDiffusion
from tfsnap.models.unet import UNet

Guided = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
StepNoise = Callable[[int], tf.Tensor]


def guided(unet: UNet, guidance: float) -> Guided:
    """A UNet with classifier-free guidance, both evaluations in one batch.

    Args:
      unet: the network.
      guidance: the guidance scale w.

    Returns:
      `(z, t, context) -> output`: z [N, h, w, c], t a float scalar, context [2N, T, C], that of the
      prompts and then that of the empty prompt; a `tf.function`. Without guidance, at 1, the UNet
      sees the prompts alone, as does one that reads the scale.
    """

    def output(z: tf.Tensor, t: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        count = z.shape[0]
        if unet.config.guidance_width is not None:
            times, scales = tf.fill([count], t), tf.fill([count], float(guidance))
            return unet(z, timesteps=times, context=context[:count], guidance=scales)
        if guidance == 1.0:
            return unet(z, timesteps=tf.fill([count], t), context=context[:count])
        both = unet(tf.concat([z, z], axis=0), timesteps=tf.fill([2 * count], t), context=context)
        return guide(conditional=both[:count], unconditional=both[count:], scale=guidance)

    @tf.function(autograph=False)  # To convert it costs seconds, and it has nothing to convert.
    def evaluate(z: tf.Tensor, t: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        # A network that computes in half precision is sampled in the latent's.
        return tf.cast(output(z, t, context), z.dtype)

    return evaluate


def sample_latents(
    evaluate: Guided,
    *,
    context: tf.Tensor,
    noise: tf.Tensor,
    schedule: NoiseSchedule,
    prediction: str,
    steps: int,
    sampler: str = SAMPLER,
    step_noise: StepNoise | None = None,
) -> tf.Tensor:
    """Samples at trailing times.

    Args:
      evaluate: from `guided`.
      context: see there.
      noise: standard normal, float32 [N, h, w, c], where sampling starts.
      schedule: the noise schedule.
      prediction: of the network, "epsilon" or "v".
      steps: number of steps.
      sampler: a name of `tfsnap.diffusion.samplers.SAMPLERS`.
      step_noise: what stochastic samplers add in step k = 0, 1, ..., in the shape of `noise`; by
        default drawn by k alone.

    Returns:
      The latents, scaled as the network sees them, float32 [N, h, w, c].
    """
    method, spacing = SAMPLERS[sampler], Spacing()
    path = method.path(schedule, steps, spacing)
    return sample(
        method.method,
        Denoiser(lambda z, t: evaluate(z, tf.constant(t, tf.float32), context), prediction),
        method.start_scale(path, spacing) * noise,
        path=path,
        noise=step_noise or (lambda k: tf.random.stateless_normal(noise.shape, [k, 0])),
    )


def sample_pictures(
    model: LatentDiffusion,
    *,
    tokens: np.ndarray,
    null_tokens: np.ndarray,
    steps: int,
    guidance: float,
    noise: np.ndarray,
    sampler: str | None = None,
    step_noise: StepNoise | None = None,
) -> np.ndarray:
    """Draws one picture per prompt with guidance.

    Args:
      model: the networks.
      tokens: int32 [N, T], one prompt a row.
      null_tokens: see `picture_sampler`, as for the next two.
      steps: of the sampler.
      guidance: the guidance scale w.
      noise: standard normal, float32 [N, h, w, c], where sampling starts.
      sampler: see `sample_latents`; None is the model's.
      step_noise: see there.

    Returns:
      float32 [N, H, W, 3] in about [-1, 1].
    """
    how = {"steps": steps, "guidance": guidance, "sampler": sampler}
    draw = picture_sampler(model, null_tokens=null_tokens, **how)
    return draw(tokens, noise, step_noise)


def picture_sampler(
    model: LatentDiffusion,
    *,
    null_tokens: np.ndarray,
    steps: int,
    guidance: float,
    sampler: str | None = None,
) -> Callable[[np.ndarray, np.ndarray, StepNoise | None], np.ndarray]:
    """`sample_pictures` for many batches: the UNet is traced once for every size of a batch.

    Args:
      model: the networks.
      null_tokens: int32 [T], the empty prompt.
      steps: network evaluations per guidance branch.
      guidance: the guidance scale w; it does not matter where guidance is baked in.
      sampler: see `sample_latents`; None is the model's.

    Returns:
      A function of tokens, noise and `step_noise`.
    """
    evaluate = guided(model.unet, model.scale_of(guidance))

    def draw(
        tokens: np.ndarray, noise: np.ndarray, step_noise: StepNoise | None = None
    ) -> np.ndarray:
        every = np.concatenate([tokens, np.broadcast_to(null_tokens, tokens.shape)])
        latent = sample_latents(
            evaluate,
            context=model.text_encoder(tf.constant(every)),  # [2N, T, C]
            noise=tf.constant(noise),
            schedule=model.schedule,
            prediction=model.prediction,
            steps=steps,
            sampler=sampler or model.sampler,
            step_noise=step_noise,
        )
        return model.autoencoder.decoder(latent / model.autoencoder.config.scale).numpy()

    return draw
