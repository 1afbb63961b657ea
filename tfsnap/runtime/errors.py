"""What can go wrong for a user of the runtime. Every message is one line with the remedy."""

from tfsnap.errors import TfsnapError

_SHOWN = 80  # Most characters of a value that a message repeats.


class RequestError(TfsnapError, ValueError):
    """What was asked for is out of range: a prompt, a number of steps, an output path."""


class BundleError(TfsnapError, ValueError):
    """A bundle is missing, damaged, foreign, too new or contradicts itself."""


class WeightsError(TfsnapError, ValueError):
    """Weights are missing, damaged or hold another network."""


class InterpreterError(TfsnapError, RuntimeError):
    """No TFLite interpreter is installed, or the one asked for cannot be used."""


class NotFiniteError(TfsnapError, ArithmeticError):
    """A network returned NaN or infinity."""


def one_line(error: Exception) -> str:
    """The message of an error of a library, its lines joined."""
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def shown(value: object) -> str:
    """A value for a message, or its type where it would take more than a line."""
    text = repr(value)
    return text if len(text) <= _SHOWN and text.isprintable() else f"a {type(value).__name__}"


class PromptTruncatedWarning(UserWarning):
    """A prompt was too long for the text encoder and lost its end."""
