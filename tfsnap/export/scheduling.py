"""The order in which a graph's operators run, so that few numbers are alive at a time."""

from collections.abc import Iterable

from tfsnap.export.tflite_graph import Operator, TFLiteGraph, size

_MORE = 1.05  # Times the numbers alive in the converter's order.


def schedule(graph: TFLiteGraph) -> None:
    """Reorders operators depth first, unless that needs notably more memory.

    The converter puts operators that wait for the same inputs beside each other, and runtimes keep
    its order: parts of an attention would all have their scores before the first of them is used,
    and every ResNet's view of the time would be there, and pass from chunk to chunk, from the
    start.

    Args:
      graph: is changed.
    """
    order = _depth_first(graph)
    if most_alive(graph, order) <= _MORE * most_alive(graph, graph.operators):
        graph.operators = order


def most_alive(graph: TFLiteGraph, order: Iterable[Operator]) -> int:
    """The most numbers of tensors made at run time that are needed at one time.

    Args:
      graph: the graph.
      order: its operators in an order that they can run in.
    """
    order = list(order)
    last = {index: place for place, op in enumerate(order) for index in op.inputs}
    last.update(dict.fromkeys(graph.outputs, len(order)))
    alive, most = 0, 0
    for place, op in enumerate(order):
        alive += sum(size(graph.shape(index)) for index in op.outputs)
        most = max(most, alive)
        done = {i for i in (*op.inputs, *op.outputs) if last.get(i, place) == place}
        alive -= sum(size(graph.shape(index)) for index in done if graph.maker(index))
    return most


def _depth_first(graph: TFLiteGraph) -> list[Operator]:
    """Every operator right behind what it needs, the first input's first."""
    order: dict[int, Operator] = {}
    waiting = [graph.maker(index) for index in reversed(graph.outputs)]
    while waiting:
        op = waiting[-1]
        if op is None or id(op) in order:
            waiting.pop()
            continue
        before = [maker for maker in map(graph.maker, op.inputs) if maker]
        missing = [maker for maker in before if id(maker) not in order]
        if missing:
            waiting.append(missing[0])
        else:
            order[id(op)] = waiting.pop()
    return list(order.values())
