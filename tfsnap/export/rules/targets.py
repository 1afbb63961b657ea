"""The delegates that a model is checked for, and the operators that each of them takes.

The lists are what the delegates' own sources accept in a build without options, all of LiteRT after
2.2.0 (commit f677904, 2026-08-21, of google-ai-edge/LiteRT). An operator in a list may still be
refused for its shapes or types: that is what the rules are for.
"""

import dataclasses

from tfsnap.export.rules import rule


@dataclasses.dataclass(frozen=True)
class Target:
    """A delegate.

    Attributes:
      name: what a user calls it.
      title: the delegate and its version.
      source: where the list of operators is from.
      builtins: operators that it takes.
      customs: custom operators that it takes.
      copies: operators that it leaves to kernels of the same processor, and that only move data.
    """

    name: str
    title: str
    source: str
    builtins: frozenset[str]
    customs: frozenset[str] = frozenset()
    copies: frozenset[str] = frozenset()


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


_CUSTOMS = _set("Convolution2DTransposeBias MaxPoolingWithArgmax2D Resampler")
_GPU = _set(
    """
    ABS ADD ARG_MAX ATAN2 AVERAGE_POOL_2D BATCH_MATMUL BITCAST BITWISE_XOR CAST CEIL
    CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL
    NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ALL REDUCE_ANY REDUCE_MAX
    REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RIGHT_SHIFT ROUND RSQRT SELECT SELECT_V2 SIGN SIN SLICE
    SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CBRT STABLEHLO_CLAMP STABLEHLO_COMPOSITE
    STABLEHLO_REMAINDER STABLEHLO_SHIFT_LEFT STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE
    TRANSPOSE_CONV UNPACK
    """
)
_GPU_CLASSIC = _set(
    """
    ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS CUMSUM DENSIFY
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG
    LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL
    ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6
    RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT
    SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE
    STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE TRANSPOSE_CONV UNPACK
    """
)
_XNNPACK = _set(
    """
    ABS ADD ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL CEIL CONCATENATION CONV_2D COS
    DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EXP EXPAND_DIMS FLOOR FULLY_CONNECTED
    GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL NEG PAD PRELU
    QUANTIZE READ_VARIABLE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    ROUND RSQRT SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQRT SQUARE SQUARED_DIFFERENCE
    STABLEHLO_COMPOSITE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV VAR_HANDLE
    """
)
# Without RESHAPE, which the delegate takes for Core ML 2 only; iOS 13 and later have Core ML 3.
_COREML = _set(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED HARD_SWISH
    LOGISTIC MAX_POOL_2D MEAN MIRROR_PAD MUL PAD PADV2 RELU RELU6 RELU_N1_TO_1
    RESIZE_BILINEAR SOFTMAX TANH TRANSPOSE_CONV
    """
)
_NNAPI = _set(
    """
    ABS ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND
    BIDIRECTIONAL_SEQUENCE_LSTM CAST CONCATENATION CONV_2D COS DENSIFY DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DEQUANTIZE DIV ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR
    FULLY_CONNECTED GATHER GREATER GREATER_EQUAL HARD_SWISH HASHTABLE_LOOKUP L2_NORMALIZATION
    L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND
    LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX LSH_PROJECTION LSTM MAXIMUM MAX_POOL_2D MEAN
    MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_ANY REDUCE_MAX
    REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RNN RSQRT SELECT SIN SLICE SOFTMAX SPACE_TO_BATCH_ND
    SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH
    TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM
    UNIDIRECTIONAL_SEQUENCE_RNN UNPACK
    """
)

TARGETS = {
    target.name: target
    for target in (
        Target(
            rule.GPU,
            "ML Drift, the GPU accelerator of ai-edge-litert 2.3",
            "ml_drift_delegate/tflite/support/support.cc",
            _GPU,
            customs=_CUSTOMS,
        ),
        Target(
            rule.GPU_CLASSIC,
            "the GPU delegate of TensorFlow Lite 2, OpenCL and OpenGL ES",
            "tflite/delegates/gpu/common/model_builder.cc, tflite/tools/versioning/"
            "gpu_compatibility.cc without enhanced broadcasting",
            _GPU_CLASSIC,
            customs=_CUSTOMS | {"MaxUnpooling2D"},
        ),
        Target(
            rule.XNNPACK,
            "XNNPACK, the CPU delegate of ai-edge-litert 2.3",
            "tflite/delegates/xnnpack/xnnpack_delegate.cc",
            _XNNPACK,
            copies=_set("CAST GATHER RESIZE_NEAREST_NEIGHBOR"),
        ),
        Target(
            rule.COREML,
            "the Core ML delegate of TensorFlow Lite 2.4 and later, with Core ML 3",
            "tflite/delegates/coreml/README.md and coreml_delegate.mm",
            _COREML,
        ),
        Target(
            rule.NNAPI,
            "the NNAPI delegate at NNAPI feature level 6 (Android 13); NNAPI is deprecated since "
            "Android 15",
            "tflite/delegates/nnapi/nnapi_delegate.cc",
            _NNAPI,
        ),
    )
}
