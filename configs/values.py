"""Jobs as the values that a program's flags can change."""

import contextlib
import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from absl import flags
from ml_collections.config_dict import placeholder

from tfsnap.config import Config


class _UnknownFieldError(flags.IllegalFlagValueError, AttributeError, KeyError):
    """Where flags are read it is told in one line; elsewhere a field is missing as ever."""

    def __str__(self) -> str:
        return self.args[0]  # A KeyError quotes it.


class _Values(ml_collections.ConfigDict):
    """Values of a config: a flag for a field that is not there names those that are."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __getitem__(self, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError as error:
            raise _UnknownFieldError(
                f"flag --config has no field {name!r} there; the fields are {', '.join(self)}"
            ) from error


def config_dict(part: str | None, job: Config) -> ml_collections.ConfigDict:
    """The fields of a job, each of which a flag can override.

    Args:
      part: a name of `tfsnap.training.jobs.JOBS`; None for what is not one of its jobs.
      job: the values.

    Example:
      >>> get_config = lambda: config_dict("unet", UNetJob())
      # --config.data.subset.labels="('red heart', 'blue heart')" --config.training.steps=10
    """
    named = {} if part is None else {"part": part}
    return _Values({**named, **_fields(job)})


def variant_dict(
    part: str | None, variants: Mapping[str, Config], name: str
) -> ml_collections.ConfigDict:
    """As `config_dict`, of the job that a name behind the file's, `unet.py:demo`, stands for.

    Raises:
      IllegalFlagValueError: there is no variant of that name.
    """
    if name not in variants:
        # Not a ValueError, of which config_flags prints the traceback.
        raise flags.IllegalFlagValueError(
            f"flag --config ends in {name!r}; this file has the variants {', '.join(variants)}"
        )
    return config_dict(part, variants[name])


def _fields(config: Config) -> dict[str, Any]:
    hints = typing.get_type_hints(type(config))
    return {
        field.name: _value(_asked(config, field), hints[field.name])
        for field in dataclasses.fields(config)
    }


def _asked(config: Config, field: dataclasses.Field) -> Any:
    """A field's value; None where it follows from others, so that it does when flags change them.

    Example:
      An autoencoder's `decoder_channels` are its `channels` unless they are given.
    """
    value = getattr(config, field.name)
    if field.default is None and value is not None:
        with contextlib.suppress(ValueError):  # It must be given.
            if config.replace(**{field.name: None}) == config:
                return None
    return value


def _value(value: Any, hint: Any) -> Any:
    """Tuples stay tuples, because flags cannot change lists; None gets a type for the flag."""
    if isinstance(value, Config):
        return _Values(_fields(value))
    if isinstance(value, tuple):
        return tuple(_fields(v) if isinstance(v, Config) else _value(v, None) for v in value)
    if value is None:
        kind = next(member for member in typing.get_args(hint) if member is not type(None))
        return placeholder(typing.get_origin(kind) or kind)
    return value
