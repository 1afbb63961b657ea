"""TensorFlow's own conversion, weights as constants: what tfsnap's is compared with."""

import collections

import numpy as np
import tensorflow as tf

from tfsnap.export.schema import operator_name, schema


def stock_convert(graph, precision):
    """Converts with the options that give what `tfsnap.export.converter.convert` gives."""
    module = tf.Module()
    module.variables_of_graph = graph.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.concrete()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return converter.convert()


def stock_quantise(graph, calls, *, wide=False):
    """Converts to int8 weights and integer activations, int16 if `wide`, calibrated on calls."""
    module = tf.Module()
    module.variables_of_graph = graph.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph.concrete()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (inputs for inputs, _ in calls)
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    kinds = tf.lite.OpsSet
    if wide:
        sixteen = kinds.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [sixteen, kinds.TFLITE_BUILTINS]
    return converter.convert()


class Parsed:
    """What is in a flatbuffer."""

    def __init__(self, content):
        self._model = schema.ModelT.InitFromPackedBuf(content, 0)
        (self._graph,) = self._model.subgraphs

    def operators(self):
        """Numbers of operators by name."""
        return collections.Counter(self._name(op) for op in self._graph.operators)

    def _name(self, op):
        code = self._model.operatorCodes[op.opcodeIndex]
        return operator_name(max(code.builtinCode, code.deprecatedBuiltinCode))

    def activations(self):
        """Numbers of fused activations by operator and kind."""
        found = collections.Counter()
        for op in self._graph.operators:
            kind = getattr(op.builtinOptions, "fusedActivationFunction", 0)
            if kind:
                found[self._name(op), kind] += 1
        return found

    def scales(self):
        """Scale and zero point of every tensor of integer activations, in the order of the file."""
        made = {index for op in self._graph.operators for index in op.outputs}
        return [
            (tensor.quantization.scale[0], tensor.quantization.zeroPoint[0])
            for index, tensor in enumerate(self._graph.tensors)
            if index in made and tensor.type in (schema.TensorType.INT8, schema.TensorType.INT16)
        ]

    def quantised(self):
        """Shape, integers, scales and axis of every int8 constant, in an order of their content."""
        found = []
        for tensor in self._graph.tensors:
            data = self._model.buffers[tensor.buffer].data
            if tensor.type == schema.TensorType.INT8 and data is not None:
                q = tensor.quantization
                integers = np.asarray(data).view(np.int8)
                scales = np.asarray(q.scale)
                axis = q.quantizedDimension if len(scales) > 1 else 0
                found.append((tuple(tensor.shape), axis, scales, integers))
        return sorted(found, key=lambda one: (one[0], one[1], one[2].tolist(), one[3].tobytes()))
