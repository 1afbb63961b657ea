"""Which layers of a network stay in float16 so that it is near enough to Keras."""

from collections.abc import Callable, Mapping

from tfsnap.errors import TfsnapError

Psnr = Callable[[set[str]], float]  # Of a network, from the layers that are kept.


class GoalError(TfsnapError, ValueError):
    """A network cannot be as near to Keras as it should be."""


def layers_to_keep(
    name: str, sensitivities: Mapping[str, float], psnr_db: Psnr, *, goal_db: float
) -> set[str]:
    """Returns the fewest of the worst layers with which a network meets a goal.

    Args:
      name: of the network, for the message.
      sensitivities: PSNR of the output when a layer alone is quantised, by layer.
      psnr_db: measures the network with a set of layers kept. It is asked about as often as the
        number of layers has bits, since more layers kept are taken to be no worse.
      goal_db: PSNR to reach.

    Raises:
      GoalError: it is not reached even if all layers are kept.
    """
    worst_first = sorted(sensitivities, key=sensitivities.__getitem__)
    best = psnr_db(set(worst_first))
    if not best >= goal_db:  # NaN meets no goal.
        raise GoalError(
            f"--psnr={goal_db:g} is out of reach for the {name}: it is {best:.1f} dB with every "
            "layer in float16; ask for less, or use --precision=fp16"
        )
    too_few, enough = -1, len(worst_first)
    while enough - too_few > 1:
        count = (too_few + enough) // 2
        if not psnr_db(set(worst_first[:count])) >= goal_db:
            too_few = count
        else:
            enough = count
    return set(worst_first[:enough])
