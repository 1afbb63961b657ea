"""A latency and everything without which it means nothing."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one thing takes.

    Attributes:
      load_ms: until it is ready to run.
      first_run_ms: the first run, which fills caches and allocates; where networks take turns in
        memory, it loads its network too.
      warm_p50_ms: median of the measured runs.
      warm_p90_ms: 90th percentile of the measured runs.
      warmup: runs between the first and the measured ones, not measured.
      runs: measured runs.
    """

    load_ms: float
    first_run_ms: float
    warm_p50_ms: float
    warm_p90_ms: float
    warmup: int
    runs: int

    @classmethod
    def of(cls, load_ms: float, first_ms: float, times: Sequence[float], warmup: int) -> "Timing":
        """Summarises the milliseconds of the measured runs."""
        p50, p90 = np.percentile(times, [50, 90])
        return cls(load_ms, first_ms, float(p50), float(p90), warmup, len(times))


@dataclasses.dataclass(frozen=True)
class LatencyReport:
    """What `tfsnap benchmark` measures.

    Attributes:
      bundle: name of the bundle.
      precision: of its weights.
      device: processor, cores and system; starts with "desktop" where it is no phone.
      delegate: what ran the networks: "XNNPACK", or "none" for the interpreter's own kernels.
      delegated_share: part of the nodes that the delegate ran, 0 .. 1; None if unknown.
      threads: threads that the networks could use.
      interpreter: package of the interpreter.
      interpreter_version: of that package.
      size: height and width of a picture, in pixels.
      low_memory: whether networks took turns in memory. A picture's times then include loading
        each; a network's warm runs do not, but for its chunks, if it has several.
      weight_cache: whether XNNPACK's copies of the weights were kept in files.
      sampler: name of the sampler of a picture.
      steps: steps of a picture.
      guidance: guidance scale of a picture.
      evaluations: evaluations of the UNet in a picture.
      components: one run of every network, by name.
      picture: prompt to picture, the text encoder, all steps and the decoder; its `load_ms` is all
        that comes before: opening the bundle with its checksums, tokenizer, networks.
      peak_memory_mb: most resident memory of the process so far, in 10^6 bytes; None if unknown.
    """

    bundle: str
    precision: str
    device: str
    delegate: str
    delegated_share: float | None
    threads: int
    interpreter: str
    interpreter_version: str
    size: tuple[int, int]
    low_memory: bool
    weight_cache: bool
    sampler: str
    steps: int
    guidance: float
    evaluations: int
    components: dict[str, Timing]
    picture: Timing
    peak_memory_mb: float | None

    def to_json(self) -> str:
        """Returns all fields as a JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    def table(self) -> str:
        """Returns all fields as lines for a terminal."""
        share = "unknown" if self.delegated_share is None else f"{self.delegated_share:.0%}"
        height, width = self.size
        memory = "unknown" if self.peak_memory_mb is None else f"{self.peak_memory_mb:.0f} MB"
        facts = {
            "bundle": f"{self.bundle}, {self.precision}",
            "device": self.device,
            "delegate": f"{self.delegate}, share of nodes {share}",
            "threads": str(self.threads),
            "interpreter": f"{self.interpreter} {self.interpreter_version}",
            "memory": self._memory(),
            "picture": f"{height}x{width} pixels, {self.sampler}, {self.steps} steps, guidance "
            f"{self.guidance:g}, {self.evaluations} UNet evaluations",
            "peak memory": f"{memory}, the whole process",
        }
        head = f"{'ms':14}{'load':>10}{'first':>10}{'p50':>10}{'p90':>10}{'warm-up':>10}{'runs':>6}"
        rows = [_row(name, timing) for name, timing in self.components.items()]
        lines = [f"{name:14}{fact}" for name, fact in facts.items()]
        return "\n".join([*lines, "", head, *rows, _row("picture", self.picture)])

    def _memory(self) -> str:
        held = "one network at a time" if self.low_memory else "all networks"
        return f"{held}, {'with' if self.weight_cache else 'without'} a weight cache"


def _row(name: str, timing: Timing) -> str:
    times = (timing.load_ms, timing.first_run_ms, timing.warm_p50_ms, timing.warm_p90_ms)
    cells = "".join(f"{time:10.3f}" for time in times)
    return f"{name:14}{cells}{timing.warmup:10d}{timing.runs:6d}"
