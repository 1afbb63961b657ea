"""How every program here starts and ends."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator

from absl import app, logging

from tfsnap.errors import TfsnapError


def run_main(main: Callable[[], None]) -> None:
    """Runs a program that takes flags alone.

    Args:
      main: what it does. What goes wrong in it is told as by `told`.
    """

    def checked(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected argument {argv[1]!r}")
        logging.set_verbosity(logging.WARNING)  # TFDS and the converter report every file.
        with told():
            main()

    app.run(checked)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Ends the program in one line with its name, and exit code 1, where something goes wrong.

    That is what its user can mend, and Ctrl-C. A traceback is left for mistakes of the program.
    """
    name = pathlib.Path(sys.argv[0]).stem
    try:
        yield
    except (OSError, TfsnapError, ValueError) as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")
