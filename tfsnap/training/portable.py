"""Training steps that leave TensorFlow: lowered to StableHLO, which any PJRT device can run.

The module that comes out is the very step of the trainer: draws, gradients, AdamW and the average
of the weights. `tfsnap.training.portable_runner` trains with it.
"""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow.compiler.mlir.stablehlo import stablehlo

from tfsnap.data.source import BatchSource
from tfsnap.training.portable_format import (
    MODULE,
    Argument,
    Manifest,
    save_state,
    save_tables,
)
from tfsnap.training.trainer import Job, Trainer, TrainingError
from tfsnap.weights.store import address

_ALIAS = re.compile(
    r"alias = \{[^{}]*parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>"
)


class TableJob(Job, Protocol):
    """A job whose examples are in memory, so that its data can leave TensorFlow with the step."""

    def source(self) -> BatchSource:
        """The training examples and how they are drawn."""
        ...


class LoweredStep:
    """The step of a trainer, as a function of everything that it reads.

    Args:
      trainer: whose step; its job is a `TableJob`.
      source: the job's examples.

    Attributes:
      arguments: the module's arguments, in order.
      results: names of its results, see `Manifest`.
      values: what its variables and constants hold now, by argument.

    Raises:
      ValueError: the data is augmented, which XLA cannot do.
      TrainingError: the step has operations that StableHLO does not know.
    """

    def __init__(self, trainer: Trainer, source: BatchSource):
        names = list(source.tables)

        def step(rows: tf.Tensor, step: tf.Tensor, *tables: tf.Tensor) -> dict[str, tf.Tensor]:
            tables = dict(zip(names, tables, strict=True))
            return trainer.global_step(source.batch(tables=tables, rows=rows, step=step), step)

        specs = [
            tf.TensorSpec([source.batch_size], tf.int32, "rows"),
            tf.TensorSpec([], tf.int32, "step"),
            *(tf.TensorSpec(t.shape, t.dtype, f"tables/{n}") for n, t in source.tables.items()),
        ]
        function = tf.function(step, jit_compile=True, autograph=False)
        concrete = function.get_concrete_function(*specs)
        # The serialized stage holds operations of a dialect that others do not read, so take text.
        self._text = function.experimental_get_compiler_ir(*specs)(stage="stablehlo")
        aliases = {int(result): int(number) for number, result in _ALIAS.findall(self._text)}
        written = set(aliases.values())
        self.arguments = [Argument(s.name, s.dtype.name, tuple(s.shape)) for s in specs]
        self.values = {}
        for number, (name, value) in enumerate(_captured(trainer, concrete), start=len(specs)):
            if name.startswith("frozen/") and number in written:
                name = name.replace("frozen/", "scratch/", 1)
            self.values[name] = value
            self.arguments.append(Argument(name, str(value.dtype), value.shape))
        figures = sorted(concrete.structured_outputs)
        replacing = [self.arguments[aliases[result]].name for result in sorted(aliases)]
        if sorted(aliases) != list(range(len(figures), len(figures) + len(aliases))):
            raise TrainingError("XLA does not say which results of the step replace its arguments")
        self.results = [*figures, *replacing]

    def serialize(self) -> bytes:
        """The module as a portable artifact of the oldest format that readers must support."""
        text = _plain_stablehlo(self._text)
        return stablehlo.serialize_portable_artifact_str(text, stablehlo.get_minimum_version())


def compile_step(
    job: TableJob,
    *,
    output: str | os.PathLike,
    data: str | os.PathLike | None = None,
    workdir: pathlib.Path,
    half: Sequence[str] = (),
) -> Manifest:
    """Writes everything that training needs outside TensorFlow into a folder.

    Args:
      job: what to train.
      output: the folder; see `tfsnap.training.portable_format` for what it gets.
      data: the folder for the training data, which steps of other configs may share; None is
        `output`.
      workdir: the job's run, whose newest checkpoint is the start; without one training starts at
        step 0.
      half: which values are rounded to float16 for the journey: "frozen" for the networks that are
        only read, "state" for the weights and the optimizer's state.

    Returns:
      The manifest.

    Raises:
      ValueError: the job cannot be compiled.
      WeightMismatchError: the run in `workdir` trains another network.

    Example:
      >>> compile_step(job, output="step", workdir=pathlib.Path("runs/clip"))
    """
    source = job.source()
    if not isinstance(source, BatchSource):
        raise ValueError("the pictures have several shapes; a portable step is compiled for one")
    source = source.in_memory()
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    trainer = Trainer(job, workdir=workdir, strategy=strategy)
    first_step = trainer.restore()
    lowered = LoweredStep(trainer, source)
    folder = pathlib.Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODULE).write_bytes(lowered.serialize())
    tables = folder if data is None else pathlib.Path(data)
    tables.mkdir(parents=True, exist_ok=True)
    save_tables(tables, source.tables, source.index)
    state = {name: variable.numpy() for name, variable in trainer.state.items()}
    parts = {"frozen": ("frozen",), "state": ("model", "ema", "optimizer")}
    c = job.training
    manifest = Manifest(
        label=job.label,
        steps=c.steps,
        first_step=first_step,
        batch_size=c.batch_size,
        seed=source.seed,
        log_every=c.log_every,
        checkpoint_every=c.checkpoint_every,
        keep_checkpoints=c.keep_checkpoints,
        arguments=tuple(lowered.arguments),
        results=tuple(lowered.results),
        checkpoint=tuple(Argument(n, str(a.dtype), a.shape) for n, a in state.items()),
        derived=save_state(
            folder, {**lowered.values, **state}, half=tuple(p for h in half for p in parts[h])
        ),
        description=_description(job, trainer.model),
        keep_every=c.keep_every,
    )
    manifest.save(folder)
    return manifest


def _captured(
    trainer: Trainer, concrete: tf.types.experimental.ConcreteFunction
) -> list[tuple[str, np.ndarray]]:
    """Name and value of what a traced function reads besides its arguments, in order."""
    handles = {id(variable.handle): variable for variable in concrete.graph.variables}
    names = {id(v.handle): name for name, v in trainer.state.items()}
    captured = []
    taken = set(names.values())
    for number, tensor in enumerate(concrete.captured_inputs):
        variable = handles.get(id(tensor))
        name = names.get(id(tensor))
        if name is None:
            name = f"frozen/{address(variable)}" if variable is not None else "frozen/constant"
            name = name if name not in taken else f"{name}.{number}"
            taken.add(name)
        captured.append((name, (tensor if variable is None else variable).numpy()))
    return captured


def _plain_stablehlo(text: str) -> str:
    """Rewrites a module in StableHLO alone, without most source locations.

    Raises:
      TrainingError: it has other operations.
    """
    # Locations make up half of the file. Lines that begin with one define it, for others to use.
    located = re.compile(r"(?<!=) loc\((#loc\d*|\"[^\"]*\")\)")
    text = located.sub("", text)
    text = re.sub(r"module @\S+ attributes \{.*\} \{\n", "module @step {\n", text, count=1)
    text = re.sub(r" \{mhlo\.frontend_attributes = \{[^{}]*\}\}", "", text)
    copy = r"mhlo\.copy (%\S+) : (tensor<[^>]*>)"
    text = re.sub(copy, r"stablehlo.reshape \1 : (\2) -> \2", text)
    foreign = sorted(set(re.findall(r"\bmhlo\.\w+", text)))
    if foreign:
        raise TrainingError(
            f"the step needs {', '.join(foreign)}, which StableHLO does not have; train with "
            "tools/train.py"
        )
    return text


def _description(job: Job, model: keras.Model) -> dict[str, Any] | None:
    """Metadata of the finished weights, unless it is measured on them."""
    return None if getattr(job, "measured", False) else job.describe(model)
