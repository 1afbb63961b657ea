"""What a network costs, counted on its graph: parameters, multiplications, live activations.

The graph is traced without making a weight, so that networks of any size can be counted.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable

import tensorflow as tf
import tf_keras as keras

from tfsnap.config import AutoencoderConfig, UNetConfig
from tfsnap.models.autoencoder import Encoder, make_decoder
from tfsnap.models.unet import UNet
from tfsnap.models.weightless import build_weightless

# Operations that give a new name to what is in memory already.
_ALIASES = ("Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient")


@dataclasses.dataclass(frozen=True)
class BlockCost:
    """What one block of a network costs for one example.

    Attributes:
      name: its address; "conv_in", "down.0.resnets.1".
      parameters: number of weights.
      macs: multiply-accumulates of convolutions and matrix products.
      attention_macs: those of them that multiply activations with each other.
      live: the most activations that are in memory at once while it runs, the rest of the network's
        included: skip connections wait.
    """

    name: str
    parameters: int
    macs: int
    attention_macs: int
    live: int


@dataclasses.dataclass(frozen=True)
class NetworkCost:
    """What a network costs for one example: the sums over its blocks, and the highest peak."""

    blocks: tuple[BlockCost, ...]

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(block.parameters for block in self.blocks)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return sum(block.macs for block in self.blocks)

    @property
    def attention_macs(self) -> int:
        """Those of them that multiply activations with each other."""
        return sum(block.attention_macs for block in self.blocks)

    @property
    def live(self) -> int:
        """The most activations that are in memory at once."""
        return max(block.live for block in self.blocks)


def profile_unet(config: UNetConfig, *, latent: tuple[int, int], tokens: int = 77) -> NetworkCost:
    """Counts what one evaluation of a UNet costs.

    Args:
      config: the network.
      latent: height and width of the latent.
      tokens: length of the text embedding.

    Raises:
      ValueError: the latent does not fit the network.

    Example:
      >>> profile_unet(UNetConfig(), latent=(64, 64)).macs / 1e9
      401.6
    """
    config.check_latent(latent)
    return profile(
        lambda: UNet(config),
        lambda unet: unet(
            tf.zeros([1, *latent, config.in_channels]),
            timesteps=tf.zeros([1], tf.int32),
            context=tf.zeros([1, tokens, config.context_width]),
        ),
        depth=2,
    )


def profile_decoder(config: AutoencoderConfig, *, latent: tuple[int, int]) -> NetworkCost:
    """Counts what decoding a latent costs; the first convolution, of latents, is included.

    Args:
      config: the autoencoder.
      latent: height and width of the latent.
    """
    shape = [1, *latent, config.latent_channels]
    return profile(lambda: make_decoder(config), lambda decode: decode(tf.zeros(shape)), depth=1)


def profile_encoder(config: AutoencoderConfig, *, size: tuple[int, int]) -> NetworkCost:
    """Counts what encoding a picture costs; the last convolution, to moments, is included.

    Args:
      config: the autoencoder.
      size: height and width of the picture.
    """
    return profile(
        lambda: Encoder(config, name="encoder"),
        lambda encode: encode(tf.zeros([1, *size, 3]))[0],
        depth=1,
    )


def profile(
    build: Callable[[], keras.layers.Layer],
    evaluate: Callable[[keras.layers.Layer], tf.Tensor],
    *,
    depth: int,
) -> NetworkCost:
    """Counts what a network costs.

    Args:
      build: makes the network; its variables take no memory.
      evaluate: evaluates it on one example of zeros.
      depth: levels of layers within the network down to what counts as a block.

    Returns:
      The cost, block by block in the order in which they run.
    """

    def traced() -> tuple[keras.layers.Layer, tf.Tensor]:
        model = build()
        return model, evaluate(model)

    model, output = build_weightless(traced)
    layers = {part.name for part in model.submodules if isinstance(part, keras.layers.Layer)}
    blocks: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    live = _live(output.graph, output)
    for op in output.graph.get_operations():
        block = _block_of(op.name, layers, depth)
        if block is None or op not in live:
            continue
        macs, between = _macs(op)
        blocks[block].update(macs=macs, attention_macs=macs if between else 0)
        blocks[block]["live"] = max(blocks[block]["live"], live[op])
    for variable in model.variables:
        block = _block_of(variable.name, layers, depth)
        blocks[block]["parameters"] += math.prod(variable.shape)
    fields = ("parameters", "macs", "attention_macs", "live")
    return NetworkCost(
        tuple(
            BlockCost(name, *(counts[field] for field in fields)) for name, counts in blocks.items()
        )
    )


def _block_of(name: str, layers: set[str], depth: int) -> str | None:
    """The address of the block that an operation belongs to; None for what is in no layer."""
    scopes = [scope for scope in name.split("/") if scope in layers]
    return scopes[min(depth, len(scopes)) - 1] if scopes else None


def _macs(op: tf.Operation) -> tuple[int, bool]:
    """Multiply-accumulates of an operation, and whether both of its inputs are activations."""
    if op.type == "Conv2D":
        kernel = op.inputs[1].shape
        return math.prod(op.outputs[0].shape) * math.prod(kernel[:3]), False
    if op.type == "DepthwiseConv2dNative":
        kernel = op.inputs[1].shape
        return math.prod(op.outputs[0].shape) * math.prod(kernel[:2]), False
    if op.type in ("MatMul", "BatchMatMulV2"):
        transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
        inner = op.inputs[0].shape[-2 if transposed else -1]
        between = not any(_is_weight(tensor) for tensor in op.inputs)
        return math.prod(op.outputs[0].shape) * inner, between
    return 0, False


def _is_weight(tensor: tf.Tensor) -> bool:
    op = tensor.op
    while op.type in (*_ALIASES, "Cast", "Transpose") and op.inputs:
        op = op.inputs[0].op
    return op.type == "ReadVariableOp"


def _live(graph: tf.Graph, output: tf.Tensor) -> dict[tf.Operation, int]:
    """Activations in memory while each operation that the output needs runs, in their order."""
    needed = _needed(output)
    order = [op for op in graph.get_operations() if op in needed]
    sizes = {op: _activations(op) for op in order}
    last = {}
    for number, op in enumerate(order):
        for tensor in op.inputs:
            last[_owner(tensor.op)] = number
    ends = collections.defaultdict(list)
    for op, number in last.items():
        ends[number].append(op)
    live, now = {}, 0
    for number, op in enumerate(order):
        now += sizes[op]
        live[op] = now
        now -= sum(sizes[ended] for ended in ends[number])
    return live


def _needed(output: tf.Tensor) -> set[tf.Operation]:
    found, waiting = set(), [output.op]
    while waiting:
        op = waiting.pop()
        if op not in found:
            found.add(op)
            waiting.extend(tensor.op for tensor in op.inputs)
    return found


def _owner(op: tf.Operation) -> tf.Operation:
    """The operation that made what an alias names."""
    while op.type in _ALIASES and op.inputs:
        op = op.inputs[0].op
    return op


def _activations(op: tf.Operation) -> int:
    """Numbers that an operation adds to memory: not those of weights, constants and aliases."""
    if op.type in (*_ALIASES, "ReadVariableOp", "VarHandleOp", "Const") or not op.inputs:
        return 0
    return sum(_size(tensor) for tensor in op.outputs if not _is_weight(tensor))


def _size(tensor: tf.Tensor) -> int:
    return math.prod(tensor.shape) if tensor.shape.is_fully_defined() else 0


def table(cost: NetworkCost, *, blocks: Iterable[BlockCost] | None = None) -> str:
    """The costs as lines for a terminal."""
    rows = [("block", "parameters", "MMACs", "of attention", "live, millions")]
    whole = BlockCost("all", cost.parameters, cost.macs, cost.attention_macs, cost.live)
    for block in (*(cost.blocks if blocks is None else blocks), whole):
        millions = (block.macs, block.attention_macs, block.live)
        rows.append((block.name, f"{block.parameters:,}", *(f"{x / 1e6:,.1f}" for x in millions)))
    return "\n".join(f"{row[0]:24}" + "".join(f"{cell:>16}" for cell in row[1:]) for row in rows)
