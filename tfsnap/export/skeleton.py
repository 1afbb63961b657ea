"""A graph whose weights are arguments: small, whatever the network weighs."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from tfsnap.export.graphs import Graph
from tfsnap.weights.lazy import LazyTensor
from tfsnap.weights.store import address


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """A traced graph without its weights.

    Attributes:
      name: of the graph.
      function: takes the graph's inputs and `weights` by name, returns its named outputs.
      inputs: shape and type of each argument, weights included.
      weights: the values of those arguments that are weights; none is in memory.
    """

    name: str
    function: tf.types.experimental.PolymorphicFunction
    inputs: dict[str, tf.TensorSpec]
    weights: dict[str, LazyTensor]

    def concrete(self) -> tf.types.experimental.ConcreteFunction:
        """Traces the function."""
        return self.function.get_concrete_function(**self.inputs)

    def loaded(self) -> Callable[..., dict[str, np.ndarray]]:
        """Reads the weights and returns the network on named arrays, in float32.

        They are in memory as long as what is returned.
        """
        # An array that a constant was made of stays until TensorFlow runs something: without the
        # identity all weights are in memory twice.
        weights = {name: tf.identity(value.read()) for name, value in self.weights.items()}
        concrete = self.concrete()

        def run(**arrays: np.ndarray) -> dict[str, np.ndarray]:
            inputs = {name: tf.constant(array) for name, array in arrays.items()}
            return {name: out.numpy() for name, out in concrete(**inputs, **weights).items()}

        return run


def skeleton_of(graph: Graph) -> Skeleton:
    """Traces a graph and makes its weights arguments.

    Args:
      graph: the graph.

    Raises:
      ValueError: the graph uses a variable otherwise than by reading it.
    """
    concrete = graph.concrete()
    places = _captured(concrete, graph)
    body = _body(concrete.graph.as_graph_def(), places)
    outputs = {name: tensor.name for name, tensor in concrete.structured_outputs.items()}
    names = {variable.ref(): f"weight_{i}" for i, variable in enumerate(places.values())}
    arguments = {f"{place}:0": names[variable.ref()] for place, variable in places.items()}
    arguments |= {f"{name}:0": name for name in graph.inputs}

    def function(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        results = tf.graph_util.import_graph_def(
            body,
            input_map={place: tensors[name] for place, name in arguments.items()},
            return_elements=list(outputs.values()),
            name="",
        )
        return dict(zip(outputs, results, strict=True))

    weights, specs = {}, dict(graph.inputs)
    for variable in places.values():
        name = names[variable.ref()]
        weights[name] = graph.values[address(variable)].cast("float32", address(variable))
        specs[name] = tf.TensorSpec(variable.shape, tf.float32, name=name)
    return Skeleton(graph.name, tf.function(function), specs, weights)


def _captured(
    concrete: tf.types.experimental.ConcreteFunction, graph: Graph
) -> Mapping[str, tf.Variable]:
    """The variables that a traced function reads, by the name of the placeholder of each."""
    handles = {id(variable.handle): variable for variable in graph.variables}
    return {
        inner.op.name: handles[id(outer)]
        for outer, inner in concrete.graph.captures
        if id(outer) in handles
    }


def _body(
    definition: tf.compat.v1.GraphDef, places: Mapping[str, tf.Variable]
) -> tf.compat.v1.GraphDef:
    """The operations between arguments and results: placeholders of variables are their values."""
    result = tf.compat.v1.GraphDef(versions=definition.versions, library=definition.library)
    for node in definition.node:
        reads = [name for name in node.input if name.split(":")[0] in places]
        if reads and node.op != "ReadVariableOp":
            variable = places[reads[0].split(":")[0]]
            raise ValueError(
                f"{node.name}: {node.op} takes the variable {address(variable)} itself, and only "
                "its value can be exported; use tf.identity of it"
            )
        if node.op == "Placeholder":
            continue  # Its readers are given the argument.
        copy = result.node.add()
        copy.CopyFrom(node)
        copy.attr.pop("_gradient_op_type", None)  # Custom gradients capture variables.
        if reads:
            copy.op = "Identity"
            copy.attr.clear()
            copy.attr["T"].type = places[reads[0].split(":")[0]].dtype.as_datatype_enum
    return result
