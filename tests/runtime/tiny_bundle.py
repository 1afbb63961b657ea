"""Writes a bundle of three tiny networks with random weights: python tiny_bundle.py FOLDER

It is a program of its own because TensorFlow converts the networks, and a process that holds
TensorFlow cannot load tflite_runtime. The goldens come from TensorFlow and from the sampler written
out below, not from the code under test; only the noise does, which has tests of its own. Beside the
bundle lie networks to break it with.
"""

import gzip
import hashlib
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from tfsnap.runtime.philox import normal
from tfsnap.tokenizer import Tokenizer

T, C, F = 16, 8, 32  # Tokens, width of the context, time features.
H, W, SCALE = 8, 8, 0.5  # The latent.
STEPS, GUIDANCE, PROMPT = 4, 3.0, "ab cd"
RNG = np.random.default_rng(7)


def weight(*shape, gain=1.0):
    """Random weights that half precision holds exactly, so that conversion loses nothing."""
    values = gain * RNG.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
    return values.astype(np.float16).astype(np.float32)


TABLE, MIX = weight(49408, C, gain=200.0), weight(C, C)
CONV_IN, CONV_OUT = weight(3, 3, 4, 16), weight(3, 3, 16, 4)
FROM_CONTEXT, FROM_TIME = weight(C, 16, gain=2.0), weight(F, 16)
TO_RGB = weight(3, 3, 4, 3, gain=0.03)


def text_encoder(tokens):
    rows = tf.gather(TABLE, tf.reshape(tokens, [T]))  # [T, C]
    return {"context": tf.reshape(tf.tanh(rows @ MIX), [1, T, C])}


def unet(latent, time_features, context):
    told = tf.reduce_mean(context, 1) @ FROM_CONTEXT + time_features[:, 0] @ FROM_TIME
    hidden = tf.nn.conv2d(latent, CONV_IN, 1, "SAME") + tf.reshape(told, [1, 1, 1, 16])
    return {"prediction": tf.nn.conv2d(tf.tanh(hidden), CONV_OUT, 1, "SAME")}


def unet_of_nan(latent, time_features, context):
    prediction = unet(latent, time_features, context)["prediction"]
    return {"prediction": tf.math.log(-1.0 - prediction * prediction)}


def unet_of_wider_context(latent, time_features, context):
    return unet(latent, time_features, context[:, :, :C])


def decoder(latent):
    large = tf.image.resize(latent, [2 * H, 2 * W], method="nearest")
    return {"image": tf.tanh(tf.nn.conv2d(large, TO_RGB, 1, "SAME"))}


LATENT = ([1, H, W, 4], "float32")
NETWORKS = {
    "text_encoder": (text_encoder, {"tokens": ([1, T], "int32")}),
    "unet": (
        unet,
        {
            "latent": LATENT,
            "time_features": ([1, 1, F], "float32"),
            "context": ([1, T, C], "float32"),
        },
    ),
    "decoder": (decoder, {"latent": LATENT}),
}
OUTPUTS = {
    "text_encoder": {"name": "context", "dtype": "float32", "shape": [1, T, C]},
    "unet": {"name": "prediction", "dtype": "float32", "shape": [1, H, W, 4]},
    "decoder": {"name": "image", "dtype": "float32", "shape": [1, 2 * H, 2 * W, 3]},
}


def convert(function, inputs):
    specs = [tf.TensorSpec(shape, dtype, name=name) for name, (shape, dtype) in inputs.items()]
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def merges():
    """As many merges as CLIP's, none of which ever applies: every character is a token."""
    lines = ["#version: made up", *(f"x{i} y{i}" for i in range(48894))]
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def sample(context, unconditional, noise):
    """DDIM with trailing steps of Stable Diffusion's schedule, in the paper's own terms."""
    alphas_bar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    z = noise
    for i in range(STEPS, 0, -1):
        t = 1000 * i // STEPS - 1
        earlier = alphas_bar[1000 * (i - 1) // STEPS - 1] if i > 1 else 1.0
        angles = [t * 10000.0 ** (-k / (F // 2)) for k in range(F // 2)]
        time = np.array([[[*np.cos(angles), *np.sin(angles)]]], np.float32)
        told = unet(z, time, context)["prediction"].numpy().astype(np.float64)
        untold = unet(z, time, unconditional)["prediction"].numpy().astype(np.float64)
        eps = GUIDANCE * told - (GUIDANCE - 1) * untold
        x = (z - (1 - alphas_bar[t]) ** 0.5 * eps) / alphas_bar[t] ** 0.5
        z = (earlier**0.5 * x + (1 - earlier) ** 0.5 * eps).astype(np.float32)
    return z


def goldens(folder):
    tokenizer = Tokenizer(folder / "tokenizer/merges.txt.gz", context_length=T)
    tokens = tokenizer(PROMPT)
    context = text_encoder(tokens)["context"].numpy()
    noise = normal(0, [1, H, W, 4])
    latent = sample(context, text_encoder(tokenizer(""))["context"].numpy(), noise)
    image = decoder(latent / SCALE)["image"].numpy()
    return {"tokens": tokens, "context": context, "noise": noise, "latent": latent, "image": image}


def file_entry(folder, file):
    content = (folder / file).read_bytes()
    return {"file": file, "sha256": hashlib.sha256(content).hexdigest()}


def component_entry(folder, name):
    inputs = NETWORKS[name][1]
    return {
        **file_entry(folder, f"{name}.tflite"),
        "bytes": (folder / f"{name}.tflite").stat().st_size,
        "inputs": [{"name": n, "dtype": d, "shape": s} for n, (s, d) in inputs.items()],
        "outputs": [OUTPUTS[name]],
        "parity": {"psnr_db": 90.0, "threshold_db": 50.0},
    }


def manifest(folder):
    return {
        "format": "tfsnap-bundle",
        "format_version": 1,
        "name": "tiny",
        "precision": "fp16",
        "components": {name: component_entry(folder, name) for name in NETWORKS},
        "schedule": {
            "kind": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "steps": 1000,
        },
        "prediction": "epsilon",
        "time_features": {"width": F, "max_period": 10000.0},
        "latent": {"shape": [H, W, 4], "scale": SCALE},
        "tokenizer": {
            **file_entry(folder, "tokenizer/merges.txt.gz"),
            "context_length": T,
            "pad_token": 0,
        },
        "guidance": {"baked_in": False, "default": GUIDANCE},
        "sampler": {"default": "ddim", "steps": STEPS, "spacing": "trailing"},
        "goldens": {
            **file_entry(folder, "goldens.safetensors"),
            "prompt": PROMPT,
            "seed": 0,
            "steps": STEPS,
            "guidance": GUIDANCE,
        },
        "provenance": {"tfsnap": "test"},
    }


def main(root):
    folder = root / "tiny"
    (folder / "tokenizer").mkdir(parents=True)
    for name, (function, inputs) in NETWORKS.items():
        (folder / f"{name}.tflite").write_bytes(convert(function, inputs))
    inputs = NETWORKS["unet"][1]
    (root / "unet_of_nan.tflite").write_bytes(convert(unet_of_nan, inputs))
    inputs = {**inputs, "context": ([1, T, 12], "float32")}
    (root / "unet_of_wider_context.tflite").write_bytes(convert(unet_of_wider_context, inputs))
    (folder / "tokenizer/merges.txt.gz").write_bytes(merges())
    save_file(goldens(folder), folder / "goldens.safetensors")
    (folder / "manifest.json").write_text(json.dumps(manifest(folder), indent=1))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
