"""Edits of a UNet, one block at a time, and where the weights of the edited network come from.

A skip connection leaves every ResNet of the way down and enters one of the way up, so a ResNet of
the way down and one of the way up come and go together. The first ResNet of a stage changes the
number of channels, the first and the last of the way up take skip connections of other widths:
these stay.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from tfsnap.config import StageConfig, UNetConfig

REMOVE, ADD = "remove", "add"
RESNET, ATTENTION = "resnet", "attention"
_TEXT = re.compile(
    r"(remove|add) (mid|(?:down|up)\.\d+)\.(?:resnets\.(\d+)|attentions\.(\d+)\.(\d+))"
)


@dataclasses.dataclass(frozen=True, order=True)
class Action:
    """One edit.

    Attributes:
      verb: "remove" or "add".
      block: "resnet" or "attention".
      stage: "down.1", "mid", "up.0". ResNets of "down.1" stand for those of its counterpart on the
        way up, too.
      resnet: number of the ResNet in its stage, or of that which the attention follows. A ResNet
        that is added comes after this one, as a copy of it.
      attention: number of the attention among those after this ResNet. One that is added has this
        number then, and is a copy of the one before.

    Reference: SnapFusion, section 3.1: A = {A_cross-attention[i, j], A_ResNet[i, j]}.
    """

    verb: str
    block: str
    stage: str
    resnet: int
    attention: int = 0

    def __str__(self) -> str:
        at = f"{self.stage}.{self.block}s.{self.resnet}"
        return f"{self.verb} {at}" + (f".{self.attention}" if self.block == ATTENTION else "")

    @classmethod
    def parse(cls, text: str) -> "Action":
        """From the text of an action.

        Raises:
          ValueError: it is none.

        Example:
          >>> Action.parse("remove up.0.attentions.2.1")
          Action(verb='remove', block='attention', stage='up.0', resnet=2, attention=1)
        """
        match = _TEXT.fullmatch(text.strip())
        if not match:
            raise ValueError(
                f"{text.strip()!r} is no edit; it must be like 'remove down.1.resnets.1' or "
                "'add up.0.attentions.2.1'"
            )
        verb, stage, resnet, slot, attention = match.groups()
        if resnet is not None:
            return cls(verb, RESNET, stage, int(resnet))
        return cls(verb, ATTENTION, stage, int(slot), int(attention))


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where the weights of a block come from.

    Attributes:
      name: the block of the earlier network; None for fresh weights.
      added: whether the block is new: it starts as the identity, with the rest of its weights
        copied from `name`.
    """

    name: str | None
    added: bool = False


@dataclasses.dataclass(frozen=True)
class Edited:
    """A network after an edit.

    Attributes:
      config: its shape.
      origins: where the weights of each of its ResNets and attentions come from, by name. All
        other weights keep their names.
    """

    config: UNetConfig
    origins: dict[str, Origin]


@dataclasses.dataclass
class _Slot:
    """A ResNet and the attentions after it."""

    resnet: Origin
    attentions: list[Origin]


class _Layout:
    """The blocks of a UNet as lists that can be edited."""

    def __init__(self, config: UNetConfig):
        self.config = config
        self.stages = {name: _slots(name, stage) for name, stage in config.stages.items()}

    def edited(self) -> Edited:
        """The network that the lists now describe.

        Raises:
          ValueError: no such network can be.
        """
        found = {
            name: StageConfig(
                stage.channels,
                len(self.stages[name]),
                tuple(len(slot.attentions) for slot in self.stages[name]),
            )
            for name, stage in self.config.stages.items()
        }
        count = len(self.config.down)
        config = self.config.replace(
            down=tuple(found[f"down.{i}"] for i in range(count)),
            mid=found.get("mid"),
            up=tuple(found[f"up.{i}"] for i in range(count)),
        )
        return Edited(config, dict(self._origins()))

    def _origins(self) -> Iterator[tuple[str, Origin]]:
        for stage, slots in self.stages.items():
            for i, slot in enumerate(slots):
                yield f"{stage}.resnets.{i}", slot.resnet
                for k, origin in enumerate(slot.attentions):
                    yield f"{stage}.attentions.{i}.{k}", origin

    def remove_attention(self, action: Action) -> None:
        """Takes an attention away."""
        del self.stages[action.stage][action.resnet].attentions[action.attention]

    def add_attention(self, action: Action) -> None:
        """Puts an attention after another, as its copy; the first one copies the nearest."""
        slots = self.stages[action.stage]
        mine = slots[action.resnet].attentions
        before = [origin for slot in slots[: action.resnet] for origin in slot.attentions]
        before += mine[: action.attention]
        after = [origin for slot in slots[action.resnet + 1 :] for origin in slot.attentions]
        near = before[-1:] or after[:1] or [Origin(None)]
        mine.insert(action.attention, Origin(near[0].name, added=True))

    def remove_resnet(self, action: Action) -> None:
        """Takes a ResNet away, and its counterpart; their attentions go to the one before."""
        self._remove(action.stage, action.resnet)
        other = self.config.counterpart(action.stage, action.resnet)
        if other:
            self._remove(*other)

    def _remove(self, stage: str, number: int) -> None:
        slots = self.stages[stage]
        slots[number - 1].attentions += slots.pop(number).attentions

    def add_resnet(self, action: Action) -> None:
        """Puts a ResNet after another and one before its counterpart, each a copy if it fits.

        The new one of the way up gets the skip connection that has come twice now: what the others
        get is what they got before.
        """
        self._add(action.stage, action.resnet, at=action.resnet + 1)
        other = self.config.counterpart(action.stage, action.resnet)
        if other:
            self._add(*other, at=other[1])

    def _add(self, stage: str, number: int, *, at: int) -> None:
        slots = self.stages[stage]
        # The first of a stage, and the last of the way up, are of other widths.
        fits = stage == "mid" or 0 < number < len(slots) - stage.startswith("up.")
        name = slots[number].resnet.name if fits else None
        slots.insert(at, _Slot(Origin(name, added=True), []))


def possible(config: UNetConfig, *, verbs: tuple[str, ...] = (REMOVE, ADD)) -> list[Action]:
    """Every edit of a network that leaves a network.

    Args:
      config: the network.
      verbs: of these kinds.
    """
    found = []
    for name, stage in config.stages.items():
        for i, count in enumerate(stage.attentions):
            found += [Action(REMOVE, ATTENTION, name, i, k) for k in range(count)]
            found += [Action(ADD, ATTENTION, name, i, k + 1) for k in range(count)]
            if not count:
                found.append(Action(ADD, ATTENTION, name, i, 0))
        if not name.startswith("up."):
            found += [Action(REMOVE, RESNET, name, i) for i in range(1, stage.resnets)]
            # Of the first there are copies where it is the only one, or as wide as the others.
            first = 0 if name == "mid" or stage.resnets == 1 else 1
            found += [Action(ADD, RESNET, name, i) for i in range(first, stage.resnets)]
    return [action for action in found if action.verb in verbs]


def apply(config: UNetConfig, action: Action) -> Edited:
    """Edits a network.

    Args:
      config: the network.
      action: one of `possible(config)`.

    Raises:
      ValueError: the network has no such block, or cannot be without it.

    Example:
      >>> edited = apply(UNetConfig(), Action("remove", "attention", "down.0", 1))
      >>> edited.config.down[0].attentions
      (1, 0)
    """
    if action not in possible(config):
        raise ValueError(f"this UNet does not allow: {action}")
    layout = _Layout(config)
    edits = {
        (REMOVE, ATTENTION): layout.remove_attention,
        (ADD, ATTENTION): layout.add_attention,
        (REMOVE, RESNET): layout.remove_resnet,
        (ADD, RESNET): layout.add_resnet,
    }
    edits[action.verb, action.block](action)
    return layout.edited()


def apply_all(config: UNetConfig, actions: Sequence[Action]) -> Edited:
    """Edits a network several times.

    Args:
      config: the network.
      actions: edits in their order, each of the network that those before it leave.

    Returns:
      The last network, with the origins of its blocks in the first one.

    Raises:
      ValueError: an edit is not possible where it comes.
    """
    result = _Layout(config).edited()
    for action in actions:
        edited = apply(result.config, action)
        origins = {name: _through(origin, result) for name, origin in edited.origins.items()}
        result = Edited(edited.config, origins)
    return result


def _through(origin: Origin, before: Edited) -> Origin:
    """Where what comes from an edited network came from before that."""
    if origin.name is None:
        return origin
    earlier = before.origins[origin.name]
    return Origin(earlier.name, origin.added or earlier.added)


def _slots(name: str, stage: StageConfig) -> list[_Slot]:
    return [
        _Slot(
            Origin(f"{name}.resnets.{i}"),
            [Origin(f"{name}.attentions.{i}.{k}") for k in range(count)],
        )
        for i, count in enumerate(stage.attentions)
    ]
