"""Rules about operators that a delegate does not have."""

from tfsnap.export.rules.graph import Operator
from tfsnap.export.rules.rule import Effect, Rule, each
from tfsnap.export.rules.targets import Target

_MOVES = ("RESHAPE", "TRANSPOSE")


def missing_operators(target: Target) -> tuple[Rule, ...]:
    """Returns the rules about operators that `target` does not have."""
    known = target.builtins | target.copies | {"CUSTOM"}

    def absent(operator: Operator) -> str | None:
        # Every delegate takes the weights from behind a DEQUANTIZE, be it float16 or int8.
        folded = operator.builtin == "DEQUANTIZE" and operator.outputs[0].constant
        return None if operator.builtin in known or folded else operator.shapes()

    def custom(operator: Operator) -> str | None:
        if operator.builtin != "CUSTOM" or operator.custom in target.customs:
            return None
        return f"{operator.custom}: {operator.shapes()}"

    def copy(operator: Operator) -> str | None:
        moved = operator.builtin in _MOVES and _integers(operator)
        return operator.shapes() if operator.builtin in target.copies or moved else None

    rules = (
        ("operator", f"Not in the list of {target.source}.", Effect.REJECTED, absent),
        (
            "custom",
            "Delegates have no kernels for custom operators, TensorFlow's own (Flex) included.",
            Effect.REJECTED,
            custom,
        ),
        (
            "copy",
            "The delegate leaves it to the interpreter's kernel, which copies on the same "
            "processor and computes nothing.",
            Effect.NOTE,
            copy if target.copies else lambda operator: None,
        ),
    )
    return tuple(
        Rule(name, reason, (target.name,), effect, each(check))
        for name, reason, effect, check in rules
    )


def _integers(operator: Operator) -> bool:
    return any(t.type.startswith("INT") and not t.quantized for t in operator.outputs)
