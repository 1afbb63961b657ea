"""Fetches and draws a data set.

    tools/prepare_data.py --dataset=emoji --resolution=64

Nothing is fetched or drawn twice; run the same command again after an interruption. The other tools
do this by themselves when they need it.
"""

import sys
import time
from collections.abc import Callable

import tqdm
from absl import app, flags, logging

from tfsnap.data.examples import DATASETS
from tfsnap.data.fetch import EMOJI_TARBALLS, FetchError, fetch_merges, fetch_tarball

_DATASET = flags.DEFINE_enum("dataset", "emoji", DATASETS, "Which data set.")
_RESOLUTION = flags.DEFINE_integer("resolution", 64, "Side of the square pictures, in pixels.", 1)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Where data lives; by default $TFSNAP_DATA, else ~/.cache/tfsnap."
)
_SECONDS_BETWEEN_LINES = 5.0


def _progress() -> Callable[[int, int], None]:
    """A bar on a terminal, a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        bar = tqdm.tqdm(desc="drawing", unit="picture")

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if done == total:
                bar.close()

        return show
    printed, out = time.monotonic(), sys.stdout  # Kept: the builder silences TFDS's own printing.

    def line(done: int, total: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed > _SECONDS_BETWEEN_LINES or done == total:
            printed = now
            print(f"drawing: {done}/{total} pictures", file=out, flush=True)

    return line


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.ERROR)  # TFDS warns of every folder that it is to create.
    try:
        from tfsnap.data import emoji  # Here, so that --help does not wait for TensorFlow.

        for tarball in EMOJI_TARBALLS:
            print(f"fetched: {fetch_tarball(tarball, data_dir=_DATA_DIR.value)}", flush=True)
        print(f"fetched: {fetch_merges(data_dir=_DATA_DIR.value)}", flush=True)
        builder = emoji.prepare(
            resolution=_RESOLUTION.value, data_dir=_DATA_DIR.value, progress=_progress()
        )
    except (FetchError, OSError, ValueError) as error:
        sys.exit(f"prepare_data: {error}")
    for name, split in builder.info.splits.items():
        print(f"{name:12} {split.num_examples:6} pictures")
    print(f"Data: {builder.data_dir}")


if __name__ == "__main__":
    app.run(main)
