"""The edits that lead from one UNet to another of the same widths."""

from collections.abc import Iterator

from tfsnap.config import UNetConfig
from tfsnap.evolve.actions import ADD, ATTENTION, REMOVE, RESNET, Action, apply


def path(start: UNetConfig, goal: UNetConfig) -> list[Action]:
    """Finds edits that make one network of another, the last block of a stage first.

    Args:
      start: the network that is edited.
      goal: of the same stages and widths.

    Returns:
      Edits in their order: ResNets, then attentions.

    Raises:
      ValueError: no edits lead there.

    Example:
      >>> path(UNETS["sd15"], UNETS["snapfusion_848m"])[0]
      Action(verb='remove', block='attention', stage='down.0', resnet=0, attention=0)
    """
    widths = [
        {name: stage.channels for name, stage in config.stages.items()} for config in (start, goal)
    ]
    if widths[0] != widths[1]:
        raise ValueError(f"no edits lead from stages of {widths[0]} to {widths[1]} channels")
    found: list[Action] = []
    config = start
    for steps in (_resnets, _attentions):
        for action in steps(config, goal):
            config = apply(config, action).config
            found.append(action)
    if config != goal:
        raise ValueError("the networks differ in more than their blocks")
    return found


def _resnets(config: UNetConfig, goal: UNetConfig) -> Iterator[Action]:
    for name, stage in config.stages.items():
        wanted = goal.stages[name].resnets
        if not name.startswith("up."):  # Those follow.
            for count in range(stage.resnets, wanted, -1):
                yield Action(REMOVE, RESNET, name, count - 1)
            for count in range(stage.resnets, wanted):
                yield Action(ADD, RESNET, name, count - 1)


def _attentions(config: UNetConfig, goal: UNetConfig) -> Iterator[Action]:
    for name, stage in config.stages.items():
        pairs = zip(stage.attentions, goal.stages[name].attentions, strict=True)
        for i, (have, wanted) in enumerate(pairs):
            for count in range(have, wanted, -1):
                yield Action(REMOVE, ATTENTION, name, i, count - 1)
            for count in range(have, wanted):
                yield Action(ADD, ATTENTION, name, i, count)
