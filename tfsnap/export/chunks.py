"""Splits a converted network in chunks that run one after another, for phones with small memory.

The operators of a TFLite file are listed in the order in which they run, so that a cut of the list
is a cut in time. What is made before it and read behind it passes from chunk to chunk, by name.
"""

import copy
from collections.abc import Iterable, Sequence

from tfsnap.export.flatbuffer import ConvertedModel
from tfsnap.export.schema import schema
from tfsnap.export.tflite_graph import ABSENT

MOST_CHUNKS = 100  # That a program takes: a slip is told before minutes of work.
_SLACK = (
    0.1  # Of a chunk's share of the weights: how far a cut may move to have fewer tensors pass.
)


def split(model: ConvertedModel, count: int) -> list[ConvertedModel]:
    """Splits a network in chunks with about equal bytes of weights.

    Args:
      model: a network of one subgraph and one signature; it stays as it is.
      count: number of chunks.

    Returns:
      The chunks in the order in which they run, each a network of its own with a signature of the
      same name. Inputs and outputs of the whole keep their names; the others are "passed_" and a
      number.

    Raises:
      ValueError: there are fewer operators than chunks.
    """
    graph = _Graph(model)
    if not 1 <= count <= len(graph.steps):
        most = len(graph.steps)
        raise ValueError(f"--chunks is {count}; this network can be split in 1 to {most}")
    bounds = [0, *_cuts(graph, count), len(graph.steps)]
    return [graph.chunk(*bounds[i : i + 2]) for i in range(count)]


class _Graph:
    """A subgraph as steps in time.

    Operators that compute from constants alone, such as the DEQUANTIZE of half-precision weights,
    are no steps: each chunk gets those that it reads.

    Attributes:
      steps: the other operators, in the order in which they run.
    """

    def __init__(self, whole: ConvertedModel):
        self._whole = whole
        (self._graph,) = whole.model.subgraphs
        (self._signature,) = whole.model.signatureDefs
        self._sizes = {
            index: whole.data[tensor.buffer].bytes
            for index, tensor in enumerate(self._graph.tensors)
            if tensor.buffer in whole.data
        }
        known = {*self._sizes}
        self._folded: dict[int, schema.OperatorT] = {}  # By what they make.
        self.steps: list[schema.OperatorT] = []
        for op in self._graph.operators:
            if all(index in known for index in _present(op.inputs)):
                known.update(op.outputs)
                self._folded.update(dict.fromkeys(op.outputs, op))
            else:
                self.steps.append(op)
        self._made = {index: i for i, op in enumerate(self.steps) for index in op.outputs}
        self._last_read = {
            index: i for i, op in enumerate(self.steps) for index in _present(op.inputs)
        } | dict.fromkeys(self._graph.outputs, len(self.steps))

    def weights_before(self) -> list[int]:
        """Bytes of the constants that the steps before each cut read, of 0 and of all steps too."""
        sizes, seen = [0], set()
        for op in self.steps:
            added = 0
            for index in self._constants([op]):
                buffer = self._graph.tensors[index].buffer
                added += 0 if buffer in seen else self._sizes[index]
                seen.add(buffer)
            sizes.append(sizes[-1] + added)
        return sizes

    def passing(self, cut: int) -> list[int]:
        """The tensors that are made before a step and read in it or later."""
        return [
            index for index, i in self._made.items() if i < cut <= self._last_read.get(index, -1)
        ]

    def chunk(self, start: int, stop: int) -> ConvertedModel:
        """The network of some of the steps."""
        steps = self.steps[start:stop]
        read = set().union(*(_present(op.inputs) for op in steps))
        # An input that nobody reads is the first chunk's: the whole has it, so some chunk must.
        unread = {*self._graph.inputs} - {*self._last_read} if start == 0 else set()
        given = [index for index in self._graph.inputs if index in read | unread]
        inputs = given + [index for index in self.passing(start) if index in read]
        outputs = [index for index in self.passing(stop) if self._made[index] >= start]
        operators = [*self._makers(steps), *steps]
        used = {i for op in operators for i in (*_present(op.inputs), *op.outputs)} | {*inputs}
        return self._model_of(operators, sorted(used), inputs=inputs, outputs=outputs)

    def _constants(self, steps: Iterable[schema.OperatorT]) -> list[int]:
        """The constants that steps read, through folded operators too."""
        steps = [*steps, *self._makers(steps)]
        read = {index for op in steps for index in _present(op.inputs)}
        return sorted(read & self._sizes.keys())

    def _makers(self, steps: Iterable[schema.OperatorT]) -> list[schema.OperatorT]:
        """The folded operators that steps depend on, in the order in which they run."""
        found, waiting = set(), [index for op in steps for index in _present(op.inputs)]
        while waiting:
            maker = self._folded.get(waiting.pop())
            if maker is not None and id(maker) not in found:
                found.add(id(maker))
                waiting += _present(maker.inputs)
        return [op for op in self._graph.operators if id(op) in found]

    def _model_of(
        self,
        operators: Sequence[schema.OperatorT],
        used: Sequence[int],
        *,
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> ConvertedModel:
        whole = self._whole.model
        model = schema.ModelT(version=whole.version, description=whole.description)
        places = {old: new for new, old in enumerate(used)} | {ABSENT: ABSENT}
        codes = {old: new for new, old in enumerate(sorted({op.opcodeIndex for op in operators}))}
        model.operatorCodes = [whole.operatorCodes[code] for code in codes]
        tensors = [copy.copy(self._graph.tensors[index]) for index in used]
        buffers = {old: new for new, old in enumerate(sorted({0, *(t.buffer for t in tensors)}))}
        for tensor in tensors:
            tensor.buffer = buffers[tensor.buffer]
        packed = [copy.copy(op) for op in operators]
        for op in packed:
            op.opcodeIndex = codes[op.opcodeIndex]
            op.inputs = [places[index] for index in op.inputs]
            op.outputs = [places[index] for index in op.outputs]
        model.subgraphs = [
            schema.SubGraphT(
                tensors=tensors,
                inputs=[places[index] for index in inputs],
                outputs=[places[index] for index in outputs],
                operators=packed,
                name=self._graph.name,
            )
        ]
        model.signatureDefs = [self._signature_of(inputs, outputs, places)]
        data = {new: self._whole.data[old] for old, new in buffers.items() if old}
        return ConvertedModel(f"a chunk of {self._whole.name}", model, data)

    def _signature_of(
        self, inputs: Sequence[int], outputs: Sequence[int], places: dict[int, int]
    ) -> schema.SignatureDefT:
        whole = self._signature
        names = {entry.tensorIndex: entry.name for entry in (*whole.inputs, *whole.outputs)}

        def entries(indices: Sequence[int]) -> list[schema.TensorMapT]:
            return [
                schema.TensorMapT(names.get(index, f"passed_{index}"), places[index])
                for index in indices
            ]

        return schema.SignatureDefT(entries(inputs), entries(outputs), whole.signatureKey, 0)


def _cuts(graph: _Graph, count: int) -> list[int]:
    """Steps at which the chunks but the first begin."""
    weights, cuts = graph.weights_before(), []
    share = weights[-1] / count
    for k in range(1, count):
        # Each chunk has at least one step: some are left for those that follow.
        free = range(cuts[-1] + 1 if cuts else 1, len(graph.steps) - (count - k) + 1)
        distance = {cut: abs(weights[cut] - k * share) for cut in free}
        near = max(_SLACK * share, min(distance.values()))
        candidates = [cut for cut in free if distance[cut] <= near]
        cuts.append(min(candidates, key=lambda cut: (len(graph.passing(cut)), distance[cut])))
    return cuts


def _present(indices: Iterable[int]) -> list[int]:
    return [int(index) for index in indices if index != ABSENT]
