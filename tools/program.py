"""How every program here starts and ends."""

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator

from tfsnap.errors import TfsnapError
from tfsnap.training.stopping import Stopped

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_main(main: Callable[..., None], *, arguments: bool = False, after: str = "") -> None:
    """Runs a program with absl's flags.

    Args:
      main: what it does. What goes wrong in it is told as by `told`.
      arguments: whether it takes something besides flags; `main` then gets a list of it.
      after: as for `told`.
    """
    from absl import app, flags, logging  # Here: programs without absl are told of errors, too.

    def checked(argv: list[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # TFDS and the converter report every file.
        try:
            if len(argv) > 1 and not arguments:
                raise app.UsageError(f"unexpected argument {argv[1]!r}")
            with told(after):
                main(argv[1:]) if arguments else main()
        except app.UsageError as error:  # absl would print the whole help before it.
            print(f"{_name()}: {error} (--help lists the flags)", file=sys.stderr)
            sys.exit(1)

    app.run(checked)


@contextlib.contextmanager
def told(after: str = "") -> Iterator[None]:
    """Ends the program with its name and the message alone where something goes wrong.

    That is for what its user can mend, with exit code 1, for Ctrl-C, and for a signal that a
    training ended by, which is no error. A mistake of the program keeps its traceback; one that
    looks like the user's shows it with TFSNAP_TRACEBACK=1.

    Args:
      after: what to say after Ctrl-C of what is done by then.
    """
    name = _name()
    try:
        yield
    except (OSError, TfsnapError, ValueError) as error:
        if os.environ.get("TFSNAP_TRACEBACK"):
            raise
        sys.exit(f"{name}: {error}")
    except Stopped as stopped:
        print(f"{name}: stopped by {stopped}; the same command goes on")
    except KeyboardInterrupt:
        print("; ".join(filter(None, (f"{name}: interrupted", after))), file=sys.stderr)
        # Python then ends by the signal, as a shell wants to know of what runs in its loops.
        sys.excepthook = _nothing
        raise


def _name() -> str:
    return pathlib.Path(sys.argv[0]).stem


def _nothing(*_: object) -> None:
    """An exception hook that prints no traceback."""


def call(program: str, *arguments: object, cwd: pathlib.Path | None = None) -> None:
    """Runs another program of the project; what it says is seen.

    Args:
      program: as "tools/train.py".
      arguments: its own.
      cwd: where, by default here.

    Raises:
      ChildProcessError: it failed.
    """
    command = [sys.executable, str(ROOT / program), *map(str, arguments)]
    if subprocess.run(command, cwd=cwd).returncode:
        raise ChildProcessError(f"{program} failed, see above; the same command goes on")
