"""What PEFT says of a LoRA beside its matrices: the alphas, and the ranks that they belong to."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from tfsnap.weights.diffusers_folder import read_json
from tfsnap.weights.tensors import WeightFileError

PEFT = "base_model.model"  # What modules are under in PEFT's own files.
_BESIDE = "adapter_config.json"  # Where those have their config.
_HEADER = "lora_adapter_metadata"  # And diffusers' files theirs.
_NETWORKS = ("unet", "text_encoder", PEFT)

T = TypeVar("T", bound=float)


@dataclasses.dataclass(frozen=True)
class PeftConfig:
    """The fields of PEFT's LoraConfig that say how strong a LoRA is; None is a missing field.

    Attributes:
      lora_alpha: of every module, the rank where there is none.
      alpha_pattern: alphas of single modules, by regular expressions of their names' endings.
      r: rank of every module.
      rank_pattern: ranks of single modules.
      use_rslora: rank-stabilised, alpha is divided by the root of the rank.
    """

    lora_alpha: float | None = None
    alpha_pattern: Mapping[str, float] | None = None
    r: int | None = None
    rank_pattern: Mapping[str, int] | None = None
    use_rslora: bool | None = None

    def __post_init__(self) -> None:
        for field, kind in (("alpha", int | float), ("rank", int)):
            pattern = getattr(self, f"{field}_pattern") or {}
            if not isinstance(pattern, Mapping):
                raise ValueError(f"{field}_pattern is {pattern!r}")
            one = "lora_alpha" if field == "alpha" else "r"
            for name, value in {one: getattr(self, one), **pattern}.items():
                if not isinstance(value, kind | None) or isinstance(value, bool):
                    raise ValueError(f"{name} is {value!r}")
            for name in pattern:
                _pattern(name)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "PeftConfig":
        """From JSON; other fields are left out.

        Raises:
          ValueError: a value is none that the field can have.
        """
        return cls(**{f.name: values.get(f.name) for f in dataclasses.fields(cls)})

    def rank_of(self, module: str) -> int | None:
        """The rank of a module, by its name in its network, with dots."""
        return _found(self.rank_pattern, module, self.r)

    def alpha_of(self, module: str, rank: int) -> float:
        """The numerator of alpha / r of a module whose matrices are of a rank r."""
        alpha = _found(self.alpha_pattern, module, self.lora_alpha)
        alpha = rank if alpha is None else alpha
        return alpha * rank**0.5 if self.use_rslora else alpha


def _pattern(ending: str) -> re.Pattern[str]:
    try:
        return re.compile(rf"(.*\.)?({ending})$")  # As PEFT does.
    except re.error as error:
        raise ValueError(f"{ending!r} is no regular expression ({error})") from error


def _found(pattern: Mapping[str, T] | None, module: str, otherwise: T | None) -> T | None:
    single = (value for end, value in (pattern or {}).items() if _pattern(end).match(module))
    return next(single, otherwise)


class PeftConfigs:
    """The configs of all networks that a LoRA file is for.

    Args:
      path: the file.
      header: its metadata, where diffusers puts them: `{"unet.lora_alpha": 8}`, or without a
        network's name where modules have none.
      modules: names of the modules whose alpha is not in the file. PEFT's own need its config
        beside the file.

    Raises:
      WeightFileError: a config is missing or damaged.
    """

    def __init__(
        self, path: str | os.PathLike, header: Mapping[str, str], modules: Iterable[str]
    ) -> None:
        try:
            fields = dict(json.loads(header.get(_HEADER, "{}")))
            self._configs = _by_network(fields)
        except (TypeError, ValueError) as error:
            raise WeightFileError(f"{path}: its {_HEADER} is damaged ({error})") from error
        if any(_split(name)[0] == PEFT for name in modules):
            self._configs[PEFT] = _beside(pathlib.Path(path))

    def problem(self, name: str, rank: int) -> str | None:
        """Why a module's config is not that of its matrices, whose rank is given; or None."""
        config, module = self._config(name)
        wanted = config.rank_of(module)
        if wanted in (None, rank):
            return None
        return f"its matrices are of rank {rank}, and its config says {wanted}"

    def alpha_of(self, name: str, rank: int) -> float:
        """The alpha of a module that has none in the file; see `PeftConfig.alpha_of`."""
        config, module = self._config(name)
        return config.alpha_of(module, rank)

    def _config(self, name: str) -> tuple[PeftConfig, str]:
        network, module = _split(name)
        return self._configs.get(network, PeftConfig()), module


def _by_network(fields: Mapping[str, Any]) -> dict[str, PeftConfig]:
    networks: dict[str, dict[str, Any]] = {}
    for key, value in fields.items():
        network, field = _split(key)
        networks.setdefault(network, {})[field] = value
    return {network: PeftConfig.of(values) for network, values in networks.items()}


def _split(name: str) -> tuple[str, str]:
    """The network of a module or field, "" where it is not named, and the rest of the name."""
    for network in _NETWORKS:
        if name.startswith(f"{network}."):
            return network, name.removeprefix(f"{network}.")
    return "", name


def _beside(path: pathlib.Path) -> PeftConfig:
    config = path.parent / _BESIDE
    if not config.is_file():
        raise WeightFileError(
            f"{path} is a file of PEFT, which keeps lora_alpha in {_BESIDE}, and there is none "
            "beside it: fetch that too"
        )
    values = read_json(config)
    try:
        found = PeftConfig.of(values)
    except ValueError as error:
        raise WeightFileError(f"{config} is damaged ({error})") from error
    if found.lora_alpha is None:
        raise WeightFileError(f"{config} says no lora_alpha: is it that of another adapter?")
    return found
