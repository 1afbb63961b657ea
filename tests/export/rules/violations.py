"""Tiny models, each of which breaks one rule of one target."""

import dataclasses
import functools
from collections.abc import Callable

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tests.export.models import attention, normal


def converter(function, shapes):
    specs = [tf.TensorSpec(shape, name=name) for name, shape in zip("ab", shapes, strict=False)]
    concrete = tf.function(function, input_signature=specs).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())


def fp16(function, *shapes):
    made = converter(function, shapes)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.target_spec.supported_types = [tf.float16]
    return made.convert()


def custom(function, *shapes):
    made = converter(function, shapes)
    made.allow_custom_ops = True
    return made.convert()


def dynamic_range(function, *shapes):
    made = converter(function, shapes)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    return made.convert()


def int8(function, *shapes):
    made = converter(function, shapes)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.representative_dataset = lambda: ([normal(*shape) for shape in shapes] for _ in range(2))
    return made.convert()


def uint8(function, *shapes):
    """As quantised models were before int8."""

    def edit(model):
        for tensor in model.subgraphs[0].tensors:
            if tensor.type == schema.TensorType.INT8:
                tensor.type = schema.TensorType.UINT8
                tensor.quantization.zeroPoint = [
                    zero + 128 for zero in tensor.quantization.zeroPoint
                ]

    return edited(int8(function, *shapes), edit)


def int16(function, *shapes):
    made = converter(function, shapes)
    made.optimizations = [tf.lite.Optimize.DEFAULT]
    made.target_spec.supported_ops = [
        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    ]
    made.representative_dataset = lambda: ([normal(*shape) for shape in shapes] for _ in range(2))
    return made.convert()


def edited(model, edit):
    """Changes a model through the flatbuffer's object API."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    edit(parsed)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def hotter_softmax(function, *shapes):
    def edit(model):
        (softmax,) = model.subgraphs[0].operators
        softmax.builtinOptions.beta = 2.0

    return edited(fp16(function, *shapes), edit)


def later_version(function, *shapes):
    def edit(model):
        model.operatorCodes[0].version = 2

    return edited(fp16(function, *shapes), edit)


def int8_right(function, *shapes):
    def edit(model):
        (product,) = model.subgraphs[0].operators
        model.subgraphs[0].tensors[product.inputs[1]].type = schema.TensorType.INT8

    return edited(fp16(function, *shapes), edit)


def int8_stored(function, *shapes, channels=False):
    """Constants in int8 behind a DEQUANTIZE, with one scale or one for each channel."""

    def edit(model):
        graph = model.subgraphs[0]
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if code.builtinCode != schema.BuiltinOperator.DEQUANTIZE:
                continue
            stored = graph.tensors[operator.inputs[0]]
            buffer = model.buffers[stored.buffer]
            values = np.frombuffer(bytes(buffer.data), np.float16) * 30
            buffer.data = np.frombuffer(values.astype(np.int8).tobytes(), np.uint8)
            scales = stored.shape[-1] if channels else 1
            stored.type = schema.TensorType.INT8
            stored.quantization = schema.QuantizationParametersT()
            stored.quantization.scale = [1 / 30] * scales
            stored.quantization.zeroPoint = [0] * scales
            stored.quantization.quantizedDimension = len(stored.shape) - 1 if channels else 0
            code.version = 5 if channels else 2

    return edited(fp16(function, *shapes), edit)


@dataclasses.dataclass(frozen=True)
class Violation:
    """A model, and the rule and operator that are to be found in it."""

    rule: str
    target: str
    builtin: str
    function: Callable
    shapes: tuple[tuple[int | None, ...], ...]
    convert: Callable = fp16

    @functools.cache  # noqa: B019  (the violations live as long as the tests)
    def model(self):
        return self.convert(self.function, *self.shapes)

    def __str__(self):
        return f"{self.target}-{self.rule}"


def indices(*shape):
    return np.random.default_rng(0).integers(0, 8, shape).astype(np.int32)


MAP = (1, 4, 4, 16)
ROWS = (1, 8, 16)
GPU = [
    Violation(
        "rank", "gpu", "TRANSPOSE",
        lambda a: tf.transpose(tf.reshape(a, [1, 4, 4, 2, 8]), [0, 3, 1, 4, 2]), (MAP,),
    ),
    Violation(
        "broadcast-to", "gpu", "BROADCAST_TO",
        lambda a: tf.nn.relu(tf.broadcast_to(a[:, :, :1], MAP)), (MAP,),
    ),
    Violation(
        "gather-rank", "gpu", "GATHER",
        lambda a: tf.gather(a, indices(2, 3), axis=1) * 2.0, (ROWS,),
    ),
    Violation(
        "gather-half", "gpu", "GATHER",
        lambda a: tf.gather(normal(64, 16), tf.cast(tf.reshape(a, [-1]) > 0, tf.int32)) * 2.0,
        ((1, 12),),
    ),
    Violation(
        "gather-nd", "gpu", "GATHER_ND",
        lambda a: tf.gather_nd(a, [[0, 1], [0, 2]]) * 2.0, (ROWS,),
    ),
    Violation(
        "strided-slice-mask", "gpu", "STRIDED_SLICE", lambda a: a[:, 1] * 2.0, (ROWS,),
    ),
    Violation(
        "strided-slice-reverse", "gpu", "STRIDED_SLICE", lambda a: a[:, ::-1] * 2.0, (ROWS,),
    ),
    Violation(
        "wide-split", "gpu", "SPLIT",
        lambda a: tf.multiply(*tf.split(a, 2, axis=-1)), ((1, 16, 5120),),
    ),
    Violation(
        "batch-matmul-broadcast", "gpu", "BATCH_MATMUL",
        tf.matmul, ((1, 4, 8, 8), (1, 1, 8, 8)),
    ),
    Violation(
        "batch-matmul-left", "gpu", "BATCH_MATMUL",
        lambda a: tf.matmul(tf.constant(normal(1, 2, 8, 8)), a), ((1, 2, 8, 8),),
    ),
    Violation(
        "narrow-groups", "gpu", "CONV_2D",
        lambda a: tf.nn.conv2d(a, normal(3, 3, 3, 6), 1, "SAME"), ((1, 8, 8, 6),),
    ),
    Violation(
        "wide-convolution", "gpu", "CONV_2D",
        lambda a: tf.nn.conv2d(a, normal(3, 3, 960, 320), 1, "SAME"), ((1, 32, 32, 960),),
    ),
    Violation(
        "conv-3d", "gpu", "CONV_3D",
        lambda a: tf.nn.conv3d(a, normal(3, 3, 3, 4, 4), [1] * 5, "SAME"), ((1, 4, 4, 4, 4),),
    ),
    Violation(
        "constant-batch", "gpu", "ADD",
        lambda a: tf.nn.relu(a) + normal(12, 16), ((12, 16),),
    ),
    Violation(
        "constant-batch", "gpu", "MUL",
        lambda a: tf.nn.relu(a) * normal(3, 12, 16), ((3, 12, 16),),
    ),
    Violation(
        "int64", "gpu", "CAST",
        lambda a: a * tf.cast(tf.cast(a, tf.int64), tf.float32), (ROWS,),
    ),
    Violation(
        "int16", "gpu", "CONV_2D",
        lambda a: tf.nn.conv2d(a, normal(3, 3, 8, 16), 1, "SAME"), ((1, 8, 8, 8),), int16,
    ),
    Violation(
        "dequantize-channels", "gpu", "DEQUANTIZE",
        lambda a: a * normal(*ROWS), (ROWS,), functools.partial(int8_stored, channels=True),
    ),
    Violation(
        "dequantize-rank", "gpu", "DEQUANTIZE",
        lambda a: tf.matmul(a, normal(16, 64)), (ROWS,), int8_stored,
    ),
    Violation(
        "dequantize-rank", "gpu", "DEQUANTIZE", lambda a: a + normal(16), (ROWS,), int8_stored,
    ),
    Violation("full-int8", "gpu", "BATCH_MATMUL", attention, ((1, 12, 16),), int8),
    Violation("operator", "gpu", "MATRIX_DIAG", lambda a: tf.linalg.diag(a) * 2.0, ((1, 8),)),
]  # fmt: skip
OTHERS = [
    Violation("dynamic-shape", "gpu", "MUL", lambda a: a * 2.0, ((None, 8),)),
    Violation("custom", "gpu", "CUSTOM", tf.math.erf, (ROWS,), custom),
    Violation("softmax-beta", "gpu", "SOFTMAX", tf.nn.softmax, (ROWS,), hotter_softmax),
    Violation(
        "int32", "gpu_classic", "RESHAPE",
        lambda a: tf.gather(a, tf.reshape(tf.cast(a[:, :2, :3], tf.int32), [-1]), axis=1), (ROWS,),
    ),
    Violation("mixed-rank", "gpu_classic", "ADD", tf.add, (ROWS, (8, 16))),
    Violation("mixed-rank", "gpu_classic", "MUL", lambda a: a * normal(8, 16), (ROWS,)),
    Violation("outer-product", "gpu_classic", "MUL", tf.multiply, ((1, 4, 1, 8), (1, 1, 4, 8))),
    Violation(
        "batch-matmul-right", "gpu_classic", "BATCH_MATMUL",
        lambda a: tf.matmul(a, tf.constant(normal(1, 2, 8, 6))), ((1, 2, 8, 8),),
    ),
    Violation("slice-rank", "gpu_classic", "STRIDED_SLICE", lambda a: a[:, 2:5], ((8, 8),)),
    Violation("pad-rank", "gpu_classic", "PAD", lambda a: tf.pad(a, [[0, 1], [0, 1]]), ((8, 8),)),
    Violation(
        "rank-6", "xnnpack", "ABS", lambda a: tf.abs(tf.reshape(a, [2, 2, 2, 2, 2, 2, 4])), (MAP,),
    ),
    Violation("strided-slice-step", "xnnpack", "STRIDED_SLICE", lambda a: a[:, ::2], (ROWS,)),
    Violation(
        "xnnpack-concatenation", "xnnpack", "CONCATENATION",
        lambda a: tf.concat([a * float(i + 2) for i in range(6)], -1), (ROWS,),
    ),
    Violation(
        "xnnpack-split", "xnnpack", "SPLIT",
        lambda a: tf.math.add_n([tf.abs(x) for x in tf.split(a, 8, -1)]), (ROWS,),
    ),
    Violation(
        "operator", "xnnpack", "CUMSUM", lambda a: tf.cumsum(a, 1) * 2.0, (ROWS,),
    ),
    Violation(
        "int8-activations", "coreml", "CONV_2D",
        lambda a: tf.nn.conv2d(a, normal(3, 3, 8, 16), 1, "SAME"), ((1, 8, 8, 8),), int8,
    ),
    Violation(
        "int8-activations", "coreml", "CONV_2D",
        lambda a: tf.nn.conv2d(a, normal(3, 3, 8, 16), 1, "SAME"), ((1, 8, 8, 8),), uint8,
    ),
    Violation("full-int8", "gpu_classic", "MUL", lambda a: a * tf.nn.relu(a), (MAP,), uint8),
    Violation("version", "coreml", "LOGISTIC", tf.sigmoid, (ROWS,), later_version),
    Violation(
        "coreml-rows", "coreml", "FULLY_CONNECTED",
        lambda a: tf.matmul(a, normal(16, 8)), ((4, 16),),
    ),
    Violation("coreml-broadcast", "coreml", "MUL", tf.multiply, ((1, 4, 4, 8), (1, 1, 4, 8))),
    Violation(
        "coreml-concatenation", "coreml", "CONCATENATION",
        lambda a: tf.concat([a, tf.nn.relu(a)], 1), (MAP,),
    ),
    Violation("operator", "coreml", "RSQRT", lambda a: tf.math.rsqrt(a * a + 1.0), (MAP,)),
    Violation(
        "batch-matmul-unequal", "nnapi", "BATCH_MATMUL", tf.matmul, ((4, 8, 8), (1, 8, 8)),
    ),
    Violation("hybrid", "nnapi", "BATCH_MATMUL", tf.matmul, ((4, 8, 8), (4, 8, 8)), int8_right),
    Violation("operator", "nnapi", "GELU", lambda a: tf.nn.gelu(a, approximate=True), (MAP,)),
]  # fmt: skip
CLEAN = [
    lambda a: tf.gather(a, indices(6), axis=1) * 2.0,
    lambda a: a[:, ::2] * 2.0,
    lambda a: a + normal(8, 16),
    lambda a: tf.reshape(a, [2, 2, 2, 16]) + normal(2, 2, 2, 16),
    lambda a: tf.nn.conv2d(a[:, :, tf.newaxis], normal(3, 1, 4, 16), 1, "SAME"),
    lambda a: tf.matmul(a, tf.nn.relu(a), transpose_b=True),
]
