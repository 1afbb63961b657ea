"""Small networks of diffusers and transformers with random weights, and ours beside them."""

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    UNet2DConditionModel,
)
from diffusers.models.activations import GEGLU
from transformers import CLIPTextConfig, CLIPTextModel

from tfsnap.weights import convert
from tfsnap.weights.archive import load_trained

TOLERANCE = 1e-4  # Of the reference's range, in float32.

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"


def randomised(module, seed=0):
    """Every parameter random, norms and biases too, so that a swap of two shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter += 0.1 * noise
            else:
                fan_in = parameter[0].numel()
                parameter.copy_(noise * fan_in**-0.5)
    return module.eval()


def make_unet(seed=0, **changes):
    """A two-stage UNet2DConditionModel."""
    values = dict(
        block_out_channels=(32, 64),
        down_block_types=(CROSS, PLAIN),
        up_block_types=(PLAIN_UP, CROSS_UP),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_head_dim=4,
        norm_num_groups=8,
        sample_size=8,
    )
    return randomised(UNet2DConditionModel(**{**values, **changes}), seed)


def make_vae(seed=1, **changes):
    """A two-stage AutoencoderKL."""
    values = dict(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=16,
    )
    values |= changes
    stages = len(values["block_out_channels"])
    values["down_block_types"] = ("DownEncoderBlock2D",) * stages
    values["up_block_types"] = ("UpDecoderBlock2D",) * stages
    return randomised(AutoencoderKL(**values), seed)


def make_text_encoder(seed=2, **changes):
    """A two-layer CLIPTextModel."""
    values = dict(
        vocab_size=100,
        hidden_size=24,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=9,
        hidden_act="quick_gelu",
        bos_token_id=98,
        eos_token_id=99,
    )
    return randomised(CLIPTextModel(CLIPTextConfig(**{**values, **changes})), seed)


def make_scheduler(**changes):
    """Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        **changes,
    )


def with_tanh_gelu(unet):
    """Gives diffusers' feed-forwards the tanh form of GELU, which ours has for delegates."""
    for module in unet.modules():
        if isinstance(module, GEGLU):
            module.gelu = lambda gate: torch.nn.functional.gelu(gate, approximate="tanh")
    return unet


def save(folder, *, scheduler=True, dtype=None, **modules):
    """Writes modules (unet=, vae=, text_encoder=) as a pipeline would."""
    for name, module in modules.items():
        module = module if dtype is None else module.to(dtype)
        module.save_pretrained(folder / name)
    if scheduler:
        make_scheduler().save_pretrained(folder / "scheduler")
    return folder


def ours(folder, network, layout=None, **options):
    """Converts one network of a checkpoint to tfsnap's layout and loads it."""
    components = convert.read(folder, layout or convert.detect_format(folder), [network], **options)
    output = folder.parent / f"{folder.name}-{network}-tfsnap"
    convert.write(components, output, convert.TFSNAP)
    return load_trained(output / f"{network}.safetensors", network)


def nhwc(array):
    return np.ascontiguousarray(np.moveaxis(np.asarray(array), 1, -1))


def nchw(array):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1)))


def relative_error(actual, reference):
    """Largest difference over the reference's range."""
    actual, reference = np.asarray(actual), np.asarray(reference)
    assert actual.shape == reference.shape
    return np.abs(actual - reference).max() / np.ptp(reference)


def unet_inputs(config, height, width, tokens=5, seed=3):
    """A latent, timesteps and a context, NHWC."""
    rng = np.random.default_rng(seed)
    return {
        "latent": rng.standard_normal([2, height, width, config.in_channels], np.float32),
        "timesteps": np.array([981, 7]),
        "context": rng.standard_normal([2, tokens, config.context_width], np.float32),
    }


def unet_error(model, reference, height, width):
    """Our UNet against diffusers' on the same inputs."""
    inputs = unet_inputs(model.config, height, width)
    told = {}
    if model.config.guidance_width is not None:
        inputs["guidance"] = np.array([7.5, 1.25], np.float32)
        told["timestep_cond"] = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
            None, torch.from_numpy(inputs["guidance"]) - 1, model.config.guidance_width
        )
    with torch.no_grad():
        expected = reference(
            nchw(inputs["latent"]),
            torch.from_numpy(inputs["timesteps"]),
            torch.from_numpy(inputs["context"]),
            **told,
        ).sample
    return relative_error(model(**inputs), nhwc(expected))
