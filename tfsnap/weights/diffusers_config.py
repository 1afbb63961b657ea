"""The JSON configs of diffusers and transformers, to ours and back."""

from collections.abc import Sequence
from typing import Any

from tfsnap.config import (
    AutoencoderConfig,
    ClipTextConfig,
    ScheduleConfig,
    StageConfig,
    UNetConfig,
)
from tfsnap.diffusion.paths import LCM_TRAINING_STEPS
from tfsnap.errors import TfsnapError

Json = dict[str, Any]

VERSION = "0.21.0"  # Of diffusers: the first that reads and writes these names and fields.
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}

# What the networks here are, where diffusers has a choice. A config that lacks the field means it.
_UNET_FIXED = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "transformer_layers_per_block": 1,
}
_AUTOENCODER_FIXED = {
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
_TEXT_FIXED = {"layer_norm_eps": 1e-5}
_MID = {True: "UNetMidBlock2DCrossAttn", False: None}
_DOWN = {True: "CrossAttnDownBlock2D", False: "DownBlock2D"}
_UP = {True: "CrossAttnUpBlock2D", False: "UpBlock2D"}


class UnsupportedConfigError(TfsnapError, ValueError):
    """A config describes a network that cannot be built here; `lines` says why.

    Attributes:
      lines: one line for each reason.
    """

    def __init__(self, lines: list[str]):
        super().__init__("; ".join(lines))
        self.lines = lines


def require_fixed(values: Json, fixed: Json) -> None:
    """Raises `UnsupportedConfigError` for fields that are there and say something else."""
    wrong = [
        f"{key} is {values[key]!r}, only {wanted!r} can be built"
        for key, wanted in fixed.items()
        if key in values and values[key] != wanted
    ]
    if wrong:
        raise UnsupportedConfigError(wrong)


def unet_from_json(values: Json) -> UNetConfig:
    """Reads `unet/config.json`.

    Raises:
      UnsupportedConfigError: the network cannot be built here.
    """
    require_fixed(values, _UNET_FIXED)
    channels = values["block_out_channels"]
    resnets = _each(values.get("layers_per_block", 2), len(channels))
    down = _attention_flags(values["down_block_types"], _DOWN)
    up = _attention_flags(values["up_block_types"], _UP)
    (middle,) = _attention_flags([values.get("mid_block_type", _MID[True])], _MID)
    head = _heads(values, channels)
    return UNetConfig(
        down=tuple(
            StageConfig(c, n, n * has) for c, n, has in zip(channels, resnets, down, strict=True)
        ),
        mid=StageConfig(channels[-1], 2, (1, 0)) if middle else None,
        up=tuple(
            StageConfig(c, n + 1, (n + 1) * has)
            for c, n, has in zip(channels[::-1], resnets[::-1], up, strict=True)
        ),
        in_channels=values.get("in_channels", 4),
        out_channels=values.get("out_channels", 4),
        context_width=values.get("cross_attention_dim", 1280),
        groups=values.get("norm_num_groups", 32),
        guidance_width=values.get("time_cond_proj_dim"),
        **head,
    )


def _each(value: int | Sequence[int], count: int) -> list[int]:
    return [value] * count if isinstance(value, int) else list(value)


def _attention_flags(types: list[str], known: dict[bool, str]) -> list[bool]:
    flags = {name: flag for flag, name in known.items()}
    unknown = sorted(map(str, set(types) - flags.keys()))
    if unknown:
        raise UnsupportedConfigError(
            [f"blocks of type {unknown}, only {sorted(map(str, flags))} exist here"]
        )
    return [flags[name] for name in types]


def _heads(values: Json, channels: list[int]) -> Json:
    """The fields for attention heads. diffusers' `attention_head_dim` is the number of heads."""
    given = values.get("num_attention_heads") or values.get("attention_head_dim", 8)
    heads = _each(given, len(channels))
    widths = {c / n for c, n in zip(channels, heads, strict=True)}
    linear = values.get("use_linear_projection", False)
    if len(set(heads)) == 1 and not (linear and len(widths) == 1):
        return {"heads": heads[0]}
    if len(widths) > 1:
        raise UnsupportedConfigError(
            [f"{heads} heads at {channels} channels: neither one number nor one width of heads"]
        )
    return {"head_width": int(widths.pop())}


def unet_to_json(config: UNetConfig, sample_size: int) -> Json:
    """Writes `unet/config.json`; `sample_size` is the latent's usual side."""
    channels = [stage.channels for stage in config.down]
    if config.head_width is None:
        heads: int | list[int] = config.heads
    else:
        heads = [config.heads_of(c) for c in channels]
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": VERSION,
        "attention_head_dim": heads,
        "block_out_channels": channels,
        "cross_attention_dim": config.context_width,
        "down_block_types": [_DOWN[bool(stage.attentions[0])] for stage in config.down],
        "in_channels": config.in_channels,
        "layers_per_block": _one([stage.resnets for stage in config.down]),
        "mid_block_type": _MID[config.mid is not None],
        "norm_num_groups": config.groups,
        "out_channels": config.out_channels,
        "sample_size": sample_size,
        "time_cond_proj_dim": config.guidance_width,
        "up_block_types": [_UP[bool(stage.attentions[0])] for stage in config.up],
        "use_linear_projection": config.head_width is not None,
        **{key: _UNET_FIXED[key] for key in ("act_fn", "flip_sin_to_cos", "freq_shift")},
        **{key: _UNET_FIXED[key] for key in ("downsample_padding", "norm_eps")},
    }


def _one(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values


def autoencoder_from_json(values: Json) -> AutoencoderConfig:
    """Reads `vae/config.json`.

    Raises:
      UnsupportedConfigError: the network cannot be built here.
    """
    require_fixed(values, _AUTOENCODER_FIXED)
    return AutoencoderConfig(
        channels=tuple(values["block_out_channels"]),
        resnets=values.get("layers_per_block", 1),
        latent_channels=values.get("latent_channels", 4),
        groups=values.get("norm_num_groups", 32),
        scale=values.get("scaling_factor", 0.18215),
    )


def autoencoder_to_json(config: AutoencoderConfig, sample_size: int) -> Json:
    """Writes `vae/config.json`; `sample_size` is the pictures' usual side."""
    stages = len(config.channels)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "block_out_channels": list(config.channels),
        "down_block_types": ["DownEncoderBlock2D"] * stages,
        "in_channels": 3,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.resnets,
        "norm_num_groups": config.groups,
        "out_channels": 3,
        "sample_size": sample_size,
        "scaling_factor": config.scale,
        "up_block_types": ["UpDecoderBlock2D"] * stages,
    }


def text_encoder_from_json(values: Json) -> ClipTextConfig:
    """Reads `text_encoder/config.json`.

    Raises:
      UnsupportedConfigError: the network cannot be built here.
    """
    require_fixed(values, _TEXT_FIXED)
    width = values.get("hidden_size", 512)
    return ClipTextConfig(
        vocab_size=values.get("vocab_size", 49408),
        context_length=values.get("max_position_embeddings", 77),
        width=width,
        layers=values.get("num_hidden_layers", 12),
        heads=values.get("num_attention_heads", 8),
        mlp_ratio=mlp_ratio(values.get("intermediate_size", 2048), width),
        activation=values.get("hidden_act", "quick_gelu"),
    )


def mlp_ratio(mlp_width: int, width: int) -> float:
    """One width over the other, an int where it is one."""
    ratio, rest = divmod(mlp_width, width)
    return mlp_width / width if rest else ratio


def text_encoder_to_json(config: ClipTextConfig) -> Json:
    """Writes `text_encoder/config.json`."""
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": config.vocab_size - 2,
        "eos_token_id": config.vocab_size - 1,
        "hidden_act": config.activation.removeprefix("exact_"),
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": config.context_length,
        "model_type": "clip_text_model",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "pad_token_id": 1,
        "projection_dim": config.width,
        "vocab_size": config.vocab_size,
    }


def scheduler_from_json(values: Json) -> Json:
    """Reads `scheduler/scheduler_config.json`.

    Returns:
      What a UNet's description says about it: its prediction and its noise schedule; the whole
      config too, so that it can be written again.

    Raises:
      UnsupportedConfigError: the schedule is none of ours.
    """
    require_fixed(values, {"trained_betas": None, "rescale_betas_zero_snr": False})
    prediction = values.get("prediction_type", "epsilon")
    kind = values.get("beta_schedule", "linear")
    if prediction not in _PREDICTIONS or kind not in ("scaled_linear", "linear"):
        raise UnsupportedConfigError([f"prediction_type {prediction!r}, beta_schedule {kind!r}"])
    schedule = ScheduleConfig(
        kind=kind,
        beta_start=values.get("beta_start", 0.0001),
        beta_end=values.get("beta_end", 0.02),
        steps=values.get("num_train_timesteps", 1000),
    )
    return {
        "prediction": _PREDICTIONS[prediction],
        "schedule": schedule.to_dict(),
        "diffusers_scheduler": values,
    }


_SAMPLERS = {  # By class of diffusers.
    "DDIMScheduler": "ddim",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "EulerDiscreteScheduler": "euler",
    "LCMScheduler": "lcm",
    "PNDMScheduler": "pndm",
}


def sampling_from_json(values: Json) -> Json:
    """Reads how a `scheduler_config.json` samples.

    Returns:
      Fields of `tfsnap.runtime.settings.Sampler`; schedulers that do not exist here are DDIM.
    """
    name = _SAMPLERS.get(values.get("_class_name", ""), "ddim")
    if name == "dpmpp_2m" and values.get("use_karras_sigmas"):
        name = "dpmpp_2m_karras"
    return {
        "default": name,
        "spacing": values.get("timestep_spacing", "default"),
        "steps_offset": values.get("steps_offset", 0),
        "set_alpha_to_one": values.get("set_alpha_to_one", name != "pndm"),
    }


def scheduler_to_json(about: Json) -> Json:
    """Writes `scheduler/scheduler_config.json` for a UNet's description.

    What it was distilled for goes before the scheduler that its teacher came with.
    """
    distilled = about.get("distilled")
    if "diffusers_scheduler" in about and not distilled:
        return about["diffusers_scheduler"]
    schedule = ScheduleConfig.from_dict(about.get("schedule", {}))
    names = {ours: theirs for theirs, ours in _PREDICTIONS.items()}
    return {
        "_diffusers_version": VERSION,
        "beta_end": schedule.beta_end,
        "beta_schedule": schedule.kind,
        "beta_start": schedule.beta_start,
        "clip_sample": False,
        "num_train_timesteps": schedule.steps,
        "prediction_type": names[about.get("prediction", "epsilon")],
        **(_student_times(distilled, schedule) if distilled else _STABLE_DIFFUSION_TIMES),
    }


_STABLE_DIFFUSION_TIMES = {
    "_class_name": "DDIMScheduler",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def _student_times(distilled: Json, schedule: ScheduleConfig) -> Json:
    """The sampler that a UNet was distilled for, at the times that it learnt."""
    sampler = distilled.get("sampler", "ddim")
    kinds = {ours: theirs for theirs, ours in _SAMPLERS.items()}
    times = {
        "_class_name": kinds[sampler],
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
    }
    if sampler == "lcm":  # Its times depend on this alone, and it always ends without noise.
        times["original_inference_steps"] = min(LCM_TRAINING_STEPS, schedule.steps)
    return times


def call_advice(about: Json) -> str | None:
    """How to call diffusers' pipeline with a distilled UNet; None for any other.

    No file of diffusers says how many steps it was distilled for, or that guidance is baked in.
    """
    distilled = about.get("distilled")
    if not distilled:
        return None
    baked_in = distilled.get("guidance")
    guidance = "" if baked_in is None else f" and guidance_scale=1 ({baked_in:g} is baked in)"
    return (
        "The UNet is distilled, for which diffusers has no field: call its pipeline with "
        f"num_inference_steps={distilled['steps']}{guidance}"
    )
