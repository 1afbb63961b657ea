"""Reads JSON that others wrote into dataclasses, and says exactly where it does not fit."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")

_NAMES = {str: "a string", bool: "true or false", int: "an integer", float: "a number"}


def read_fields(kind: type[T], values: Any, *, where: str) -> T:
    """Builds a dataclass from a JSON object.

    Fields that may be None may be missing, all others must be there even where the dataclass has a
    default: a file states everything. Keys that are no field are left to later versions.

    Args:
      kind: the dataclass; its fields are str, int, float, bool, dataclasses, tuples and dicts of
        these, `Any`, or one of them `| None`.
      values: what `json.load` returned.
      where: how to call `values` in messages.

    Raises:
      ValueError: a field is missing, has another type, or its dataclass refuses the value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}; it must be an object")
    hints = typing.get_type_hints(kind)
    arguments = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if field.name in values:
            arguments[field.name] = _read(hint, values[field.name], f"{where}: {field.name}")
        elif type(None) not in typing.get_args(hint):
            raise ValueError(f"{where} lacks {field.name!r}")
    return kind(**arguments)


def _read(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _read(args[0], value, where)
    if dataclasses.is_dataclass(hint):
        return read_fields(hint, value, where=where)
    if origin is tuple:
        _require(isinstance(value, list), value, where, "a list")
        return tuple(_read(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _require(isinstance(value, dict), value, where, "an object")
        return {name: _read(args[1], item, f"{where}.{name}") for name, item in value.items()}
    if hint is Any:
        return value
    if hint is float and type(value) is int:
        return _as_float(value, where)
    _require(type(value) is hint, value, where, _NAMES[hint])
    return value


def _as_float(value: int, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        digits = len(str(value))
        raise ValueError(f"{where} has {digits} digits; it must be a number up to 1e308") from error


def _require(valid: bool, value: Any, where: str, wanted: str) -> None:
    if not valid:
        raise ValueError(f"{where} is {value!r}; it must be {wanted}")
