"""The classes of TFLite's flatbuffer schema, and the names that it has numbers for."""

from tensorflow.lite.python import schema_py_generated as schema

FILE_IDENTIFIER = b"TFL3"


def operator_name(code: int) -> str:
    """The name of a builtin operator, such as "CONV_2D"."""
    return _NAMES[code]


def operator_code(name: str) -> int:
    """The number of a builtin operator."""
    return getattr(schema.BuiltinOperator, name)


_NAMES = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}
