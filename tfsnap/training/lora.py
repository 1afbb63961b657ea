"""Fine-tuning by low-rank adaptation: a few new weights learn, the network's own stay."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfsnap.config import Config
from tfsnap.models.unet import UNet
from tfsnap.training.named_layers import named_layers
from tfsnap.weights.names.unet import unet_rows
from tfsnap.weights.store import assign

METADATA = "lora_adapter_metadata"  # The header field that diffusers and PEFT read.


@dataclasses.dataclass(frozen=True)
class LoraConfig(Config):
    """What is adapted, and by how much.

    Attributes:
      rank: r, columns of the factors; 0 trains the network itself.
      alpha: the product of the factors is multiplied by alpha / r.
      base: weight file of the network that is adapted.
      layers: names or patterns of its linear layers; by default all of attention.
    """

    rank: int = 0
    alpha: float = 1.0
    base: str = ""
    layers: tuple[str, ...] = (
        "*attention.query",
        "*attention.key",
        "*attention.value",
        "*attention.out",
    )

    def __post_init__(self) -> None:
        self._require(self.rank >= 0, "rank", "at least 0")
        self._require(self.alpha > 0, "alpha", "above 0")


class _Factors(keras.layers.Layer):
    """A [r, in] and B [out, r] of one layer, axes as in PyTorch; A is random, B starts at zero."""

    def __init__(self, name: str, *, inputs: int, outputs: int, config: LoraConfig):
        super().__init__(name=name)
        self._scale = config.alpha / config.rank
        # As PyTorch starts a linear layer, of which diffusers' and PEFT's A is one.
        start = keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")
        with tf.name_scope(name):  # Which Keras leaves out outside of a call.
            self.a = self.add_weight("lora_A.weight", [config.rank, inputs], initializer=start)
            self.b = self.add_weight("lora_B.weight", [outputs, config.rank], initializer="zeros")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """alpha / r B A x, float [..., out] of float [..., in]."""
        low = tf.tensordot(x, self.a, axes=[[-1], [1]])  # [..., r]
        return self._scale * tf.tensordot(low, self.b, axes=[[-1], [1]])

    def product(self) -> np.ndarray:
        """What is added to a kernel, float32 [in, out]."""
        return self._scale * (self.b.numpy() @ self.a.numpy()).T


class LoraUNet(keras.Model):
    """A UNet with low-rank adaptations, which are all of its variables.

    They are named as diffusers and PEFT name them, so that a weight file of them is a LoRA file.

    Args:
      unet: the network, whose weights stay what they are.
      config: what is adapted.

    Raises:
      ValueError: a pattern names no linear layer.

    Reference: Hu et al. 2021 (arXiv 2106.09685).
    """

    def __init__(self, unet: UNet, config: LoraConfig):
        super().__init__(name="lora")
        layers = named_layers(
            unet,
            config.layers,
            field="lora.layers",
            kind=keras.layers.Dense,
            called="linear layer",
        )
        # Behind functions, as Keras would track the network itself and its layers.
        self._base: Callable[[], UNet] = lambda: unet
        self._layers: Callable[[], dict[str, keras.layers.Dense]] = lambda: layers
        self.config = unet.config
        self.lora = config
        modules = {row.address: row.diffusers for row in unet_rows(unet.config)}
        self.factors = {}
        for name, layer in layers.items():
            module = modules[f"{name}.kernel"].removesuffix(".weight")
            inputs, outputs = layer.kernel.shape
            factors = _Factors(f"unet.{module}", inputs=inputs, outputs=outputs, config=config)
            layer.call = _adapted(layer.call, factors)
            self.factors[name] = factors
        self.built = True  # All variables are there.

    @property
    def submodules(self) -> tuple[tf.Module, ...]:
        """Those of the network, so that names of layers are its own."""
        return self._base().submodules

    def call(self, latent: tf.Tensor, **inputs: Any) -> tf.Tensor:
        """See `UNet.call`."""
        return self._base()(latent, **inputs)

    def fold(self) -> UNet:
        """Adds the products to the network's own weights, and gives it back without adaptations."""
        for name, layer in self._layers().items():
            layer.kernel.assign_add(self.factors[name].product())
            del layer.call  # The class's own again.
        return self._base()

    def about(self) -> dict[str, Any]:
        """The description that diffusers and PEFT read from a file's header.

        They make PEFT's own config of it, which is refused without the names of the modules.
        """
        named = sorted(factors.name.removeprefix("unet.") for factors in self.factors.values())
        values = {"r": self.lora.rank, "lora_alpha": self.lora.alpha, "target_modules": named}
        return {METADATA: {f"unet.{name}": value for name, value in values.items()}}


def merge(unet: UNet, tensors: Mapping[str, np.ndarray], config: LoraConfig) -> UNet:
    """Adds adaptations to a network's weights.

    Args:
      unet: the network that was adapted; it is changed.
      tensors: the weight file of a `LoraUNet`, by address.
      config: of the adaptation.

    Returns:
      `unet`.

    Raises:
      WeightMismatchError: the tensors are of another adaptation.
    """
    model = LoraUNet(unet, config)
    assign(tensors, model.variables)
    return model.fold()


def _adapted(call: Callable[..., tf.Tensor], factors: _Factors) -> Callable[..., tf.Tensor]:
    def wrapped(x: tf.Tensor) -> tf.Tensor:
        y = call(x)
        return y + tf.cast(factors(x), y.dtype)

    return wrapped
