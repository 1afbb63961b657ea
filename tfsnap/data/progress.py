"""How far a long job on pictures has come, for people."""

import sys
import time
from collections.abc import Callable

import tqdm

_SECONDS_BETWEEN_LINES = 5.0


def shown_progress(doing: str) -> Callable[[int, int | None], None]:
    """Shows progress: a bar on a terminal, a line every few seconds elsewhere.

    Args:
      doing: "drawing".

    Returns:
      A function that takes the number of pictures that are done and that of all, None where it is
      not known.
    """
    return _bar(doing) if sys.stderr.isatty() else _lines(doing)


def _bar(doing: str) -> Callable[[int, int | None], None]:
    bar = tqdm.tqdm(desc=doing, unit="picture")

    def show(done: int, total: int | None) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show


def _lines(doing: str) -> Callable[[int, int | None], None]:
    printed, out = time.monotonic(), sys.stdout  # Kept: who calls it may silence others' printing.

    def show(done: int, total: int | None) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed > _SECONDS_BETWEEN_LINES or done == total:
            printed = now
            of = "" if total is None else f"/{total}"
            print(f"{doing}: {done}{of} pictures", file=out, flush=True)

    return show
