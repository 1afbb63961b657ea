"""The command `tfsnap`: generate pictures from a bundle, and measure it.

    tfsnap generate --bundle=emoji-demo --prompt="purple heart, noto style" --output=heart.png
    tfsnap generate --weights=sd15 --prompt="a lighthouse" --sampler=dpmpp_2m --output=light.png
    tfsnap benchmark --bundle=emoji-demo --threads=2 --json=latency.json

tools/generate.py and tools/benchmark.py are the same commands. Flags are read with argparse because
a runtime-only installation has no absl. Whatever the user can mend ends in one line on stderr and a
non-zero exit.
"""

import argparse
import contextlib
import difflib
import math
import os
import pathlib
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

_INDEX = "{index}"
_CELL = 128  # Pixels that a picture in a grid is enlarged to, so that its caption can be read.


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: arguments without the program's name; by default the process's own.

    Returns:
      The exit status.
    """
    arguments = _parser().parse_args(argv)
    command = f"tfsnap {arguments.command}"
    try:
        from tfsnap.runtime import TfsnapError  # Here, so that --help needs no numpy.
    except ModuleNotFoundError as error:
        return _fail(command, f"{error.name} is not installed: {_install('runtime')}")
    try:
        with _plain_warnings(command):
            arguments.run(arguments)
    except TfsnapError as error:
        return _fail(command, str(error))
    except KeyboardInterrupt:
        return _fail(command, "interrupted")
    return 0


def _generate(arguments: argparse.Namespace) -> None:
    from tfsnap.runtime.output import picture_format, require_writable, write_picture
    from tfsnap.runtime.pictures import to_picture

    prompts = [p for p in arguments.prompt for _ in range(arguments.images_per_prompt)]
    one_file = _INDEX not in arguments.output
    names = [arguments.output.replace(_INDEX, str(i)) for i in range(len(prompts))]
    paths = [pathlib.Path(name) for name in (names[:1] if one_file else names)]
    sources = _sources(arguments)
    for path in paths:
        require_writable(path)
        picture_format(path)
        _require_no_source(path, arguments)
    model = _load(arguments)
    with _Progress(len(prompts)) as progress:
        drawn = model.each(
            arguments.prompt,
            negative_prompt=arguments.negative_prompt,
            images_per_prompt=arguments.images_per_prompt,
            steps=arguments.steps,
            guidance=arguments.guidance,
            sampler=arguments.sampler,
            seed=arguments.seed,
            strength=arguments.strength,
            callback=progress.step,
            **sources,
        )
        pictures = (to_picture(result.image) for result in drawn)
        if one_file and len(prompts) > 1:
            pictures = [_labelled(list(pictures), prompts)]
        # Each as soon as it is there: a later one may fail, or the user has seen enough.
        for path, picture in zip(paths, pictures, strict=True):
            write_picture(path, picture)
            progress.clear()
            _tell(str(path))


def _sources(arguments: argparse.Namespace) -> dict[str, Any]:
    """The pictures that the flags name, to start from."""
    from tfsnap.runtime.output import read_picture

    flags = {name: getattr(arguments, name) for name in ("image", "mask")}
    return {name: read_picture(path) for name, path in flags.items() if path is not None}


def _require_no_source(path: pathlib.Path, arguments: argparse.Namespace) -> None:
    from tfsnap.runtime import RequestError

    for name in ("image", "mask"):
        source = getattr(arguments, name)
        if source is not None and os.path.realpath(source) == os.path.realpath(path):
            raise RequestError(f"--output={path} is the --{name}, which it would replace")


def _load(arguments: argparse.Namespace) -> Any:
    """The pipeline that the flags name."""
    from tfsnap.runtime import RequestError, TextToImage
    from tfsnap.runtime.sizes import parse_size

    size = None if arguments.size is None else parse_size(arguments.size)
    options = _interpreter_options(arguments)
    if arguments.weights is None:
        return TextToImage(arguments.bundle, size=size, **options)
    if options:
        given = " and ".join(f"--{name}" for name in options)
        raise RequestError(
            f"--weights runs the Keras model, without an interpreter: leave out {given}"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Else TensorFlow greets everyone.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        from tfsnap.pretrained import load_pipeline
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{error.name} is not installed, which --weights needs: {_install('train')}"
        ) from error
    height, width = size or (None, None)
    return load_pipeline(arguments.weights, height=height, width=width)


def _interpreter_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """How a bundle's networks are to be held and run, as far as it is given."""
    names = ("threads", "interpreter", "low_memory", "weight_cache")
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _install(extra: str) -> str:
    return f"pip install '.[{extra}]' in a clone of the repository"


def _labelled(pictures: Sequence[Any], prompts: Sequence[str]) -> Any:
    from tfsnap.runtime.grid import grid

    return grid(pictures, prompts, scale=math.ceil(_CELL / pictures[0].width))


def _benchmark(arguments: argparse.Namespace) -> None:
    from tfsnap.bench.timing import benchmark
    from tfsnap.runtime.output import require_report, write
    from tfsnap.runtime.sizes import parse_size

    if arguments.json is not None:
        require_report(arguments.json, of=arguments.bundle)
    report = benchmark(
        arguments.bundle,
        prompt=arguments.prompt,
        size=None if arguments.size is None else parse_size(arguments.size),
        steps=arguments.steps,
        guidance=arguments.guidance,
        warmup=arguments.warmup,
        runs=arguments.runs,
        picture_warmup=arguments.picture_warmup,
        pictures=arguments.pictures,
        **_interpreter_options(arguments),
        progress=lambda text: print(f"measuring: {text}", file=sys.stderr),
    )
    _tell(report.table())
    if arguments.json is not None:
        write(arguments.json, report.to_json().encode())


def _tell(text: str) -> None:
    """Prints to stdout, without which the rest of the work is still worth doing."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # `tfsnap ... | head -1` is no mistake.
            warnings.warn(f"stdout takes no more text: {error.strerror}", stacklevel=2)
        # What is still buffered would fail again, at the exit.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class _Progress:
    """One line on stderr that is written again and again, if stderr is a terminal."""

    def __init__(self, pictures: int):
        self._pictures = pictures
        self._picture = 0
        self._shown = sys.stderr.isatty()
        self._start = time.monotonic()

    def step(self, step: int, steps: int, latent: Any) -> None:
        """Tells that a step of a picture is done; a sampler's callback."""
        del latent
        self._picture += step == 1
        done = (self._picture - 1) * steps + step
        spent = time.monotonic() - self._start
        left = spent / done * (self._pictures * steps - done)
        if self._shown:
            text = f"picture {self._picture} of {self._pictures}: step {step} of {steps}"
            print(f"\r\033[K{text}, {left:.0f} s left", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Takes the line away, for others to be printed."""
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help lists the flags)\n")


class _Command(_Parser):
    """One of a command: it tells of what it does not know, and before what is lacking."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        known = list(self._option_string_actions)
        for word in args or ():
            flag = word.partition("=")[0]
            if flag.startswith("--") and " " not in flag and flag not in known:
                near = difflib.get_close_matches(flag, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.error(f"there is no flag {flag}{hint}")
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tfsnap", description="Text to image from a bundle.", allow_abbrev=False)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Command
    )
    generate = commands.add_parser("generate", help="write pictures", allow_abbrev=False)
    generate.set_defaults(run=_generate)
    source = generate.add_mutually_exclusive_group(required=True)
    source.add_argument("--bundle", help="folder or file of a bundle")
    source.add_argument(
        "--weights",
        help="folder of tools/convert_weights.py, or workdir of a UNet; runs the Keras model",
    )
    _add_common_flags(
        generate, guidance="the bundle's; with --weights 7.5, or the scale distilled into them"
    )
    generate.add_argument("--prompt", action="append", required=True, help="may be repeated")
    generate.add_argument("--negative_prompt", default="", help="what to steer away from")
    generate.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    generate.add_argument(
        "--images_per_prompt", type=_positive, default=1, help="with the seeds that follow"
    )
    generate.add_argument(
        "--sampler", help="ddim, dpmpp_2m, dpmpp_2m_karras, euler, euler_ancestral, lcm or pndm"
    )
    generate.add_argument("--image", help="a picture to start from")
    generate.add_argument("--mask", help="white where the picture is to be repainted, else black")
    generate.add_argument(
        "--strength", type=float, help="how much of it is redone; default: 0.8, with a mask 1"
    )
    generate.add_argument(
        "--output",
        required=True,
        help="a .png, .jpg or .webp; several prompts give a labelled grid, or one file each if the "
        "name contains {index}",
    )
    benchmark = commands.add_parser("benchmark", help="measure latency", allow_abbrev=False)
    benchmark.set_defaults(run=_benchmark)
    benchmark.add_argument("--bundle", required=True, help="folder or file of a bundle")
    _add_common_flags(benchmark, guidance="the bundle's")
    benchmark.add_argument("--prompt", default="a picture", help="default: %(default)s")
    for name, default, meaning in (
        ("runs", 20, "measured runs of each network"),
        ("warmup", 3, "runs of each network before them"),
        ("pictures", 5, "measured pictures"),
        ("picture_warmup", 1, "pictures between the first and the measured ones"),
    ):
        text = f"{meaning}; default: %(default)s"
        benchmark.add_argument(f"--{name}", type=int, default=default, help=text)
    benchmark.add_argument("--json", type=pathlib.Path, help="also write the report to this file")
    return parser


def _add_common_flags(parser: argparse.ArgumentParser, *, guidance: str) -> None:
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--guidance", type=float, help=f"1 is none; default: {guidance}")
    parser.add_argument(
        "--size", help="height x width in pixels, as 512x768; of a bundle, one that it was made for"
    )
    parser.add_argument(
        "--low_memory",
        action="store_true",
        default=None,  # Tells whether it is given, as in those below.
        help="hold one network at a time, and one chunk of one that is stored in several",
    )
    parser.add_argument(
        "--weight_cache",
        type=pathlib.Path,
        metavar="FOLDER",
        help="keep XNNPACK's copies of the weights in files here: less memory, loaded faster",
    )
    parser.add_argument("--threads", type=int, help="of a bundle's networks; default: 2")
    parser.add_argument(
        "--interpreter", help="ai_edge_litert or tflite_runtime; default: what is installed"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


_positive.__name__ = "int"  # For what argparse says of a text that is no number.


@contextlib.contextmanager
def _plain_warnings(command: str) -> Iterator[None]:
    """Shows every warning as one line, without the source line it came from."""

    def show(message: Warning | str, *_: object) -> None:
        print(f"{command}: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _fail(command: str, message: str) -> int:
    print(f"{command}: {' '.join(message.split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
