"""The same weights give the same numbers here and in diffusers and transformers."""

import numpy as np
import pytest
import torch

from tests.weights.references import (
    CROSS,
    CROSS_UP,
    PLAIN,
    PLAIN_UP,
    TOLERANCE,
    make_text_encoder,
    make_unet,
    make_vae,
    nchw,
    nhwc,
    ours,
    relative_error,
    save,
    unet_error,
    with_tanh_gelu,
)

# What the tanh form of GELU, for delegates without erf, may cost of the output's range.
TANH_COST = 5e-4

UNETS = {
    # One ResNet a stage, attention in the last only, other channels in and out.
    "short": dict(
        down_block_types=(PLAIN, CROSS),
        up_block_types=(CROSS_UP, PLAIN_UP),
        in_channels=9,
        out_channels=8,
    ),
    # Three stages of odd widths and lengths, six heads.
    "deep": dict(
        block_out_channels=(24, 48, 60),
        down_block_types=(PLAIN, CROSS, PLAIN),
        up_block_types=(PLAIN_UP, CROSS_UP, PLAIN_UP),
        layers_per_block=(1, 2, 1),
        norm_num_groups=12,
        attention_head_dim=6,
        cross_attention_dim=40,
    ),
    # A single stage of two ResNets, one head.
    "flat": dict(
        block_out_channels=(32,),
        down_block_types=(CROSS,),
        up_block_types=(CROSS_UP,),
        layers_per_block=2,
        attention_head_dim=1,
    ),
    # As BK-SDM's small ones, without a middle.
    "no middle": dict(mid_block_type=None),
    # As Stable Diffusion 2: linear projections and heads of one width.
    "second": dict(
        block_out_channels=(32, 64),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
    ),
    # As latent consistency models, which read the guidance scale.
    "conditioned": dict(time_cond_proj_dim=16),
}


@pytest.mark.parametrize("name", UNETS)
def test_unet(name, tmp_path):
    reference = make_unet(**UNETS[name])
    model = ours(save(tmp_path / "hf", unet=reference), "unet").model
    cost = unet_error(model, reference, 12, 8)
    error = unet_error(model, with_tanh_gelu(reference), 12, 8)
    print(f"UNet, {name}: {error:.1e}; against the exact GELU {cost:.1e}")
    assert error <= TOLERANCE
    assert cost <= TANH_COST


VAES = {
    "one stage": dict(block_out_channels=(24,)),
    "three stages": dict(block_out_channels=(16, 24, 40), layers_per_block=2, latent_channels=3),
    "wide then narrow": dict(block_out_channels=(40, 16), norm_num_groups=4),
}


@pytest.mark.parametrize("name", VAES)
def test_autoencoder(name, tmp_path):
    reference = make_vae(**VAES[name])
    loaded = ours(save(tmp_path / "hf", vae=reference), "autoencoder")
    model = loaded.model
    side = model.config.downsampling
    image = np.random.default_rng(0).uniform(-1, 1, [2, 6 * side, 4 * side, 3]).astype(np.float32)
    with torch.no_grad():
        moments = reference.encode(nchw(image)).latent_dist
        latent = moments.mean
        picture = reference.decode(latent).sample
    mean, logvar = model.encoder(image)
    errors = [
        relative_error(mean, nhwc(moments.mean)),
        relative_error(logvar, nhwc(moments.logvar)),
        relative_error(model.decoder(nhwc(latent)), nhwc(picture)),
    ]
    print(f"Autoencoder, {name}: mean {errors[0]:.1e}, log-variance {errors[1]:.1e}, ", end="")
    print(f"decoder {errors[2]:.1e}")
    assert max(errors) <= TOLERANCE


TEXT_ENCODERS = {
    "one layer": dict(num_hidden_layers=1),
    "four layers": dict(num_hidden_layers=4, hidden_size=40, intermediate_size=80),
    "long": dict(
        max_position_embeddings=20, num_attention_heads=2, vocab_size=333, eos_token_id=332
    ),
    "second": dict(hidden_act="gelu"),
}


@pytest.mark.parametrize("name", TEXT_ENCODERS)
def test_text_encoder_at_every_layer(name, tmp_path):
    reference = make_text_encoder(**TEXT_ENCODERS[name])
    model = ours(save(tmp_path / "hf", text_encoder=reference), "text_encoder").model
    end = reference.config.eos_token_id
    length = reference.config.max_position_embeddings
    tokens = np.random.default_rng(0).integers(0, end, [3, length]).astype(np.int32)
    ends = np.array([length - 1, 4, 2])
    for row, position in zip(tokens, ends, strict=True):
        row[position:] = end
    error = text_errors(model, reference, tokens, ends)
    if name == "second":
        print(f"Text encoder, {name}, against the exact GELU: {error:.1e}")
        assert error <= TANH_COST
        for layer in reference.encoder.layers:
            layer.mlp.activation_fn = torch.nn.GELU(approximate="tanh")
        error = text_errors(model, reference, tokens, ends)
    print(f"Text encoder, {name}: {error:.1e}")
    assert error <= TOLERANCE


def text_errors(model, reference, tokens, ends):
    """The largest error over all layers, each followed by the last norm, and the pooled state."""
    with torch.no_grad():
        out = reference(torch.from_numpy(tokens).long(), output_hidden_states=True)
        expected = [reference.final_layer_norm(state).numpy() for state in out.hidden_states]
    blocks, errors = model.blocks, []
    for count, states in enumerate(expected):
        model.blocks = blocks[:count]
        errors.append(relative_error(model(tokens), states))
    model.blocks = blocks
    pooled = model(tokens).numpy()[np.arange(len(ends)), ends]
    errors.append(relative_error(pooled, out.pooler_output))
    return max(errors)
