"""What all configs have in common: plain JSON types and back, and checks that name the field."""

import dataclasses
import sys
import typing
from collections.abc import Callable
from typing import Any, Self


@dataclasses.dataclass(frozen=True)
class Config:
    """Dict round-trip shared by all configs."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the config as JSON-compatible types (tuples become lists)."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Builds the config from `to_dict`'s output (nested dicts and lists are converted).

        Raises:
          ValueError: a key is not a field of this config, or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no field {unknown[0]!r}; its fields are {sorted(known)}"
            )
        hints = typing.get_type_hints(cls)
        return cls(**{name: _typed(hints[name], value) for name, value in values.items()})

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with the given fields changed.

        Fields that follow from others, and are not given, follow from what those become.
        """
        following = {f: None for f, value in self._derived().items() if getattr(self, f) == value}
        return dataclasses.replace(self, **{**following, **changes})

    def _derived(self) -> dict[str, Any]:
        """What fields that may be None are then, by name."""
        return {}

    def _derive(self) -> None:
        for field, value in self._derived().items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)

    def _require(self, condition: bool, field: str, wanted: str) -> None:
        if not condition:
            raise ValueError(
                f"{type(self).__name__}.{field} is {getattr(self, field)!r}; it must be {wanted}"
            )

    def _require_whole(self, least: int, *fields: str) -> None:
        """Integers of at least `least`; or None, in fields of which that is the default."""
        for field in fields:
            value = getattr(self, field)
            absent = value is None and getattr(type(self), field, 0) is None
            fits = absent or is_whole(value, least)
            self._require(fits, field, f"a whole number, at least {least}")

    def _require_each(
        self, fits: Callable[[Any], bool], field: str, wanted: str, *, count: int | None = None
    ) -> None:
        """A row of values that fit, `count` or else one or more; a list becomes a tuple."""
        values = getattr(self, field)
        if isinstance(values, list):
            values = tuple(values)
            object.__setattr__(self, field, values)
        row = isinstance(values, tuple) and len(values) > 0 and count in (None, len(values))
        self._require(row and all(map(fits, values)), field, wanted)


def is_whole(value: Any, least: int) -> bool:
    """Whether a value is an integer of at least `least`; True and 2.0 are none."""
    return type(value) is int and value >= least


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, an integer included."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    """Converts plain JSON `value` to the annotated type `hint` of a config field."""
    args = typing.get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Config):
        return hint.from_dict(value) if isinstance(value, dict) else value
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(args[0], item) for item in value)
    if args and isinstance(value, list | dict):  # A union: the member that is a container.
        for member in args:
            if typing.get_origin(member) is tuple or isinstance(member, type(Config)):
                return _typed(member, value)
    return value
