"""Low-rank adaptations (LoRA), merged into the weights as these are converted.

A module's weight W becomes W + scale * alpha / r * B A, A of rank r. Files name modules as kohya's
scripts do (`lora_unet_down_blocks_0_..._to_q.lora_down.weight`) or as diffusers and PEFT do
(`unet.down_blocks.0...to_q.lora_A.weight`, and older forms). No name is taken apart: all names that
a module can have are made from the network's own table.

Reference: Hu et al. 2021 (arXiv 2106.09685).
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from tfsnap.weights.component import TEXT_ENCODER, UNET, Component, Report
from tfsnap.weights.lazy import LazyTensor, narrowed, open_safetensors
from tfsnap.weights.names.table import Row
from tfsnap.weights.names.text_encoder import PREFIX
from tfsnap.weights.peft_config import PEFT, PeftConfigs
from tfsnap.weights.tensors import WeightMismatchError

# Endings of a module's two matrices, the first factor A and the second B, and of its alpha.
_KINDS = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "alpha": "alpha",
}
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora\.(down|up)\.weight$")


@dataclasses.dataclass(frozen=True)
class Change:
    """What a LoRA adds to one weight.

    Attributes:
      down: A, [r, in] or [r, in, h, w].
      up: B, [out, r] or [out, r, 1, 1].
      scale: of the product, alpha / r included.
    """

    down: LazyTensor
    up: LazyTensor
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the product, in PyTorch's order of axes."""
        return (self.up.shape[0], *self.down.shape[1:])

    def problem(self, row: Row) -> str | None:
        """Why the change does not fit a weight, or None."""
        ranks_fit = self.up.shape[1] == self.down.shape[0]
        one_by_one = all(side == 1 for side in self.up.shape[2:])
        if ranks_fit and one_by_one and row.accepts(self.shape):
            return None
        return f"{list(self.up.shape)} x {list(self.down.shape)} for {list(row.torch_shape)}"

    def add_to(self, weight: np.ndarray, row: Row) -> np.ndarray:
        """Returns the changed weight, in the layout and type of `weight`.

        Raises:
          WeightMismatchError: that type cannot hold it, or what is added is not finite.
        """
        down = self.down.read().astype(np.float32)
        up = self.up.read().astype(np.float32).reshape(self.up.shape[:2])
        with np.errstate(invalid="ignore", over="ignore"):
            product = (up @ down.reshape(down.shape[0], -1)).reshape(self.shape)
            added = self.scale * row.from_torch(product)
        if not np.isfinite(added).all():
            raise WeightMismatchError(
                f"what the LoRA adds to {row.diffusers} is not finite: its matrices hold NaN, inf "
                "or too large numbers; fetch it again, or leave it out"
            )
        changed = weight.astype(np.float32) + added
        return narrowed(changed, weight.dtype, row.diffusers, "a smaller scale of the LoRA")


def merge_lora(
    components: Sequence[Component], path: str | os.PathLike, scale: float = 1.0
) -> list[Component]:
    """Adds a LoRA to the networks that it changes.

    Args:
      components: networks, of which those in the file are changed. What the file holds for a
        network that is not among them is left out.
      path: the LoRA's safetensors file; PEFT's own has its `adapter_config.json` beside it.
      scale: multiplies what is added.

    Returns:
      The networks, whose tensors are changed when they are read.

    Raises:
      WeightFileError: the file is missing or damaged.
      WeightMismatchError: the file changes something that the networks do not have, or in another
        shape, or in another way than LoRA's; lists everything.
    """
    tensors, metadata = open_safetensors(path)
    modules, strange = _modules(tensors)
    report = Report()
    report.add("LoRA", strange)
    unsaid = [name for name, values in modules.items() if "alpha" not in values]
    configs = PeftConfigs(path, metadata, unsaid)
    merged = []
    for part in components:
        known = _known_modules(part)
        changes = {
            known[name].address: (known[name], _change(name, values, configs, scale, report))
            for name, values in modules.items()
            if name in known
        }
        for row, change in changes.values():
            problem = change.problem(row) if change else None
            if problem:
                report.add("LoRA", [f"mis-shaped: {row.diffusers} ({problem})"])
        modules = {name: values for name, values in modules.items() if name not in known}
        fitting = {key: pair for key, pair in changes.items() if pair[1]}
        merged.append(_changed(part, fitting))
    absent = {UNET, TEXT_ENCODER} - {part.network for part in components}
    left = [name for name in sorted(modules) if _network_of(name) not in absent]
    report.add("LoRA", [f"no weight is called {name}" for name in left])
    if not left and all(
        new.tensors == old.tensors for new, old in zip(merged, components, strict=True)
    ):
        report.add("LoRA", ["it changes none of the networks that are converted"])
    report.check(path)
    return merged


def _modules(
    tensors: Mapping[str, LazyTensor],
) -> tuple[dict[str, dict[str, LazyTensor]], list[str]]:
    """Groups the file's tensors by module; returns what is no LoRA as lines too."""
    modules: dict[str, dict[str, LazyTensor]] = {}
    strange = []
    for key, tensor in sorted(tensors.items()):
        key = _PROCESSOR.sub(_plain_processor, key)
        ending = next((end for end in _KINDS if key.endswith("." + end)), None)
        if ending is None:
            strange.append(f"{key} is none of a LoRA's matrices (other adapters are not read)")
        else:
            name = key.removesuffix("." + ending)
            modules.setdefault(name, {})[_KINDS[ending]] = tensor
    return modules, strange


def _plain_processor(found: re.Match[str]) -> str:
    """`attn1.processor.to_out_lora.up` of early diffusers, in today's words."""
    projection = "to_out.0" if found[1] == "to_out" else found[1]
    return f".{projection}.lora.{found[2]}.weight"


def _known_modules(part: Component) -> dict[str, Row]:
    """Every name that a LoRA can have for a kernel of this network."""
    known = {}
    for row in part.rows:
        if not row.kernel:
            continue
        module = row.diffusers.removesuffix(".weight")
        flat = module.replace(".", "_")
        if part.network == UNET:
            names = (f"lora_unet_{flat}", f"unet.{module}", module)
            names += (f"{PEFT}.{module}",)
        elif part.network == TEXT_ENCODER:
            names = (f"lora_te_{flat}", f"lora_te1_{flat}", f"text_encoder.{module}", module)
            names += (f"text_encoder.{module.removeprefix(PREFIX)}",)
        else:
            names = ()
        known |= dict.fromkeys(names, row)
    return known


def _network_of(name: str) -> str:
    text = name.startswith(("lora_te", "text_encoder.", PREFIX))
    return TEXT_ENCODER if text else UNET


def _change(
    name: str,
    values: Mapping[str, LazyTensor],
    configs: PeftConfigs,
    scale: float,
    report: Report,
) -> Change | None:
    missing = {"down", "up"} - values.keys()
    if missing:
        report.add("LoRA", [f"{name} has no {sorted(missing)[0]} matrix"])
        return None
    down, up = values["down"], values["up"]
    if min(len(down.shape), len(up.shape)) < 2 or not down.shape[0]:
        report.add("LoRA", [f"{name} has no matrices, but {list(up.shape)} and {list(down.shape)}"])
        return None
    rank = down.shape[0]
    told = values.get("alpha")
    problem = configs.problem(name, rank) if told is None else None
    if problem:
        report.add("LoRA", [f"{name}: {problem}"])
        return None
    alpha = (
        configs.alpha_of(name, rank) if told is None else float(np.append(told.read(), np.nan)[0])
    )
    if not math.isfinite(scale * alpha):
        report.add("LoRA", [f"{name}: scale * alpha / r is {scale:g} * {alpha:g} / {rank}"])
        return None
    return Change(down, up, scale * alpha / rank)


def _changed(part: Component, changes: Mapping[str, tuple[Row, Change]]) -> Component:
    tensors = dict(part.tensors)
    for address, (row, change) in changes.items():
        weight = tensors[address]
        tensors[address] = weight.map(
            weight.shape, lambda array, row=row, change=change: change.add_to(array, row)
        )
    return dataclasses.replace(part, tensors=tensors)
