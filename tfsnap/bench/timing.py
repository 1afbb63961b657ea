"""Measures a bundle: load, first run and warm runs, kept apart.

Everything happens in one process, in the order in which a program would meet it: load, a first
picture, more pictures, then each network by itself. So `peak_memory_mb` is that of all networks
together.
"""

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tfsnap.bench.device import describe_device, peak_memory_mb
from tfsnap.bench.report import LatencyReport, Timing
from tfsnap.runtime.bundle import Bundle
from tfsnap.runtime.components import (
    AnyNetwork,
    Components,
    TFLiteComponents,
    load_component,
)
from tfsnap.runtime.contexts import predict_each
from tfsnap.runtime.errors import RequestError
from tfsnap.runtime.guidance_features import guidance_inputs
from tfsnap.runtime.interpreter import find_backend, load
from tfsnap.runtime.manifest import COMPONENTS
from tfsnap.runtime.pipeline import Generated, Pipeline
from tfsnap.runtime.shelf import Shelf
from tfsnap.runtime.time_features import time_features

T = TypeVar("T")


def benchmark(
    path: str | os.PathLike,
    *,
    prompt: str = "a picture",
    size: int | tuple[int, int] | None = None,
    low_memory: bool = False,
    weight_cache: pathlib.Path | None = None,
    threads: int = 2,
    steps: int | None = None,
    guidance: float | None = None,
    warmup: int = 3,
    runs: int = 20,
    picture_warmup: int = 1,
    pictures: int = 5,
    interpreter: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> LatencyReport:
    """Measures the networks of a bundle and whole pictures.

    Args:
      path: the bundle.
      prompt: what the pictures show.
      size: see `TextToImage`, as for the next.
      low_memory: see `TextToImage`, as for the next.
      weight_cache: where XNNPACK's copies of the weights are kept.
      threads: threads that the networks may use.
      steps: steps of a picture; by default the bundle's.
      guidance: guidance scale; by default the bundle's.
      warmup: runs of each network before the measured ones.
      runs: measured runs of each network.
      picture_warmup: pictures after the first and before the measured ones.
      pictures: measured pictures.
      interpreter: see `tfsnap.runtime.interpreter.find_backend`.
      progress: told what is about to be measured.

    Raises:
      TfsnapError: as `tfsnap.runtime.TextToImage` and `Pipeline`, or a number of runs is out of
        range.
    """
    require_counts(warmup=warmup, picture_warmup=picture_warmup, least=0)
    require_counts(runs=runs, pictures=pictures, least=1)
    backend = find_backend(interpreter)  # Importing Python packages is not the bundle's load.

    progress("loading")
    (bundle, networks, network_load, pipeline), load_ms = timed(
        lambda: _load(
            path,
            size=size,
            threads=threads,
            interpreter=backend.name,
            shelf=Shelf() if low_memory else None,
            weight_cache=weight_cache,
        )
    )
    request = {"steps": steps, "guidance": guidance}
    progress("first picture")
    watched = _FirstCalls(pipeline.components, contexts=bundle.manifest.contexts)
    first = Pipeline(watched, tokenizer=pipeline.tokenizer, settings=pipeline.settings)
    (generated,), first_ms = timed(lambda: first.generate([prompt], **request))

    progress(f"{picture_warmup} + {pictures} pictures")
    picture_times = _measure(
        lambda: pipeline(prompt, **request), warmup=picture_warmup, runs=pictures
    )
    components = {}
    for name, run in _single_runs(pipeline, generated).items():
        progress(f"{warmup} + {runs} runs of {name}")
        if low_memory:
            run()  # Loads it, which is no part of a warm run.
        times = _measure(run, warmup=warmup, runs=runs)
        components[name] = Timing.of(network_load[name], watched.first_ms[name], times, warmup)
    return LatencyReport(
        bundle=bundle.manifest.name,
        precision=bundle.manifest.precision,
        device=describe_device(),
        delegate=", ".join(sorted({network.delegate() for network in networks.values()})),
        delegated_share=None,  # The interpreter does not tell which nodes a delegate took.
        threads=threads,
        interpreter=backend.name,
        interpreter_version=backend.version,
        size=tuple(bundle.manifest.image_shape[:2]),
        low_memory=low_memory,
        weight_cache=weight_cache is not None,
        sampler=pipeline.settings.sampler.default,
        steps=steps or pipeline.settings.sampler.steps,
        guidance=pipeline.settings.guidance.default if guidance is None else guidance,
        evaluations=watched.calls["unet"],
        components=components,
        picture=Timing.of(load_ms, first_ms, picture_times, picture_warmup),
        peak_memory_mb=peak_memory_mb(),
    )


def time_network(
    model: bytes, *, name: str, threads: int = 2, warmup: int = 3, runs: int = 20
) -> Timing:
    """Measures one network on random inputs.

    Args:
      model: a TFLite flatbuffer with float inputs.
      name: how to call it in messages.
      threads: threads that it may use.
      warmup: runs between the first and the measured ones.
      runs: measured runs.

    Raises:
      TfsnapError: as `tfsnap.runtime.interpreter.load`, or a number of runs is out of range.
    """
    require_counts(warmup=warmup, least=0)
    require_counts(runs=runs, least=1)
    find_backend(None)  # Importing it is not the network's load.
    network, load_ms = timed(lambda: load(model, name=name, threads=threads))
    rng = np.random.default_rng(0)
    network.set(**{x.name: rng.standard_normal(x.shape).astype(x.dtype) for x in network.inputs})
    _, first_ms = timed(network.invoke)
    return Timing.of(load_ms, first_ms, _measure(network.invoke, warmup=warmup, runs=runs), warmup)


class _FirstCalls:
    """Passes calls on and keeps how long the first of every network took; a `Components`."""

    def __init__(self, components: Components, *, contexts: int):
        self._components = components
        self._contexts = contexts
        self.first_ms: dict[str, float] = {}
        self.calls = dict.fromkeys(COMPONENTS, 0)

    def encode_text(self, tokens: np.ndarray) -> np.ndarray:
        return self._watch("text_encoder", lambda: self._components.encode_text(tokens))

    def predict(self, **inputs: np.ndarray) -> np.ndarray:
        return predict_each(
            lambda **arrays: self._watch("unet", lambda: self._components.predict(**arrays)),
            contexts=self._contexts,
            **inputs,
        )

    def decode(self, latent: np.ndarray) -> np.ndarray:
        return self._watch("decoder", lambda: self._components.decode(latent))

    def _watch(self, name: str, run: Callable[[], np.ndarray]) -> np.ndarray:
        result, ms = timed(run)
        self.first_ms.setdefault(name, ms)
        self.calls[name] += 1
        return result


def _load(
    path: str | os.PathLike, *, size: int | tuple[int, int] | None, **options: Any
) -> tuple[Bundle, dict[str, AnyNetwork], dict[str, float], Pipeline]:
    """As `TextToImage`, but also returns the networks and the milliseconds each took."""
    bundle = Bundle.open(path).sized(size)
    networks, times = {}, {}
    for name in COMPONENTS:
        networks[name], times[name] = timed(
            lambda name=name: load_component(bundle, name, **options)
        )
    pipeline = Pipeline(
        TFLiteComponents(**networks),
        tokenizer=bundle.tokenizer(),
        settings=bundle.manifest.settings,
    )
    return bundle, networks, times, pipeline


def _single_runs(pipeline: Pipeline, generated: Generated) -> dict[str, Callable[[], object]]:
    """One evaluation of every network, on the tensors of a real picture."""
    networks, settings = pipeline.components, pipeline.settings
    features = settings.time_features
    time = time_features(
        settings.schedule.steps - 1, width=features.width, max_period=features.max_period
    )
    told = guidance_inputs(settings.guidance, settings.guidance.default)
    latent = generated.latent / settings.latent.scale
    return {
        "text_encoder": lambda: networks.encode_text(generated.tokens),
        "unet": lambda: networks.predict(
            latent=generated.noise, time_features=time, context=generated.context, **told
        ),
        "decoder": lambda: networks.decode(latent),
    }


def _measure(run: Callable[[], object], *, warmup: int, runs: int) -> list[float]:
    """Returns the milliseconds of each of `runs` runs, after `warmup` others."""
    for _ in range(warmup):
        run()
    return [timed(run)[1] for _ in range(runs)]


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """Returns what something returns, and its milliseconds."""
    start = time.perf_counter_ns()
    result = run()
    return result, (time.perf_counter_ns() - start) / 1e6


def require_counts(*, least: int, **counts: int) -> None:
    """Raises a RequestError if one of the named numbers of runs is less than `least`."""
    for name, count in counts.items():
        if not isinstance(count, int) or count < least:
            raise RequestError(f"{name} is {count!r}; it must be an integer of at least {least}")
