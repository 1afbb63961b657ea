"""Networks compared on a machine that others use too: measured in turn, ratios taken in pairs."""

import dataclasses
import statistics
from collections.abc import Mapping

from tfsnap.bench.device import describe_device
from tfsnap.bench.timing import require_counts, time_network
from tfsnap.runtime.interpreter import find_backend, load


@dataclasses.dataclass(frozen=True)
class Turns:
    """How long a network takes, and how that compares with another that was measured beside it.

    Attributes:
      ms: median over the rounds of the medians of their warm runs.
      ratio: median over the rounds of its time divided by the reference's in the same round.
      lowest: the lowest of these ratios.
      highest: the highest of them.
    """

    ms: float
    ratio: float
    lowest: float
    highest: float


@dataclasses.dataclass(frozen=True)
class TurnsReport:
    """What `time_in_turn` measures, and how.

    Attributes:
      device: as `tfsnap.bench.device.describe_device` has it.
      delegate: what ran the networks: "XNNPACK", or "none" for the interpreter's own kernels.
      interpreter: package of the interpreter, and its version.
      threads: threads that each network could use.
      warmup: runs in each round before the measured ones.
      runs: measured runs in each round.
      rounds: how often each network had its turn.
      networks: the times by name; the first is the reference.
    """

    device: str
    delegate: str
    interpreter: str
    threads: int
    warmup: int
    runs: int
    rounds: int
    networks: dict[str, Turns]


def time_in_turn(
    models: Mapping[str, bytes], *, threads: int = 2, warmup: int = 3, runs: int = 20, rounds: int
) -> TurnsReport:
    """Measures networks one after the other, round by round, forwards and backwards.

    What slows the machine down for longer than a round slows all of them, and leaves the ratios.

    Args:
      models: TFLite flatbuffers by name; the first is the reference.
      threads: threads that each may use.
      warmup: runs of each in every round before the measured ones.
      runs: measured runs of each in every round.
      rounds: how often each has its turn.

    Raises:
      TfsnapError: as `tfsnap.bench.timing.time_network`, or there is no round.
    """
    require_counts(rounds=rounds, least=1)
    order, ms = list(models), {name: [] for name in models}
    for number in range(rounds):
        for name in order if number % 2 == 0 else reversed(order):
            timing = time_network(
                models[name], name=name, threads=threads, warmup=warmup, runs=runs
            )
            ms[name].append(timing.warm_p50_ms)
    backend = find_backend(None)
    delegates = {load(model, name=name).delegate() for name, model in models.items()}
    return TurnsReport(
        device=describe_device(),
        delegate=", ".join(sorted(delegates)),
        interpreter=f"{backend.name} {backend.version}",
        threads=threads,
        warmup=warmup,
        runs=runs,
        rounds=rounds,
        networks={name: _turns(times, ms[order[0]]) for name, times in ms.items()},
    )


def _turns(times: list[float], reference: list[float]) -> Turns:
    ratios = [own / other for own, other in zip(times, reference, strict=True)]
    return Turns(
        ms=statistics.median(times),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
    )
