"""The TFDS builder of the emoji data set."""

import concurrent.futures
import contextlib
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfsnap.data import fetch
from tfsnap.data.captions import STYLES, canonical_caption
from tfsnap.data.catalogue import EMOJI_VERSION, GROUPS, Picture, read_catalogue
from tfsnap.data.render import render
from tfsnap.data.splits import SPLITS, assign_splits
from tfsnap.lock import locked

_THREADS = 2  # Bitmaps are decoded beside the drawing, which itself holds Python's lock.


@dataclasses.dataclass(kw_only=True)
class EmojiConfig(tfds.core.BuilderConfig):
    """The data set at one resolution.

    Args:
      resolution: side length of the pictures in pixels, from 8 to 1024.
    """

    name: str = ""
    resolution: int = 64

    def __post_init__(self):
        if not 8 <= self.resolution <= 1024:
            raise ValueError(f"resolution is {self.resolution}; it must be from 8 to 1024 pixels")
        self.name = f"{self.resolution}px"
        self.description = f"{self.resolution} x {self.resolution} pixels."


class Emoji(tfds.core.GeneratorBasedBuilder):
    """13,742 emoji in four styles, with captions.

    Art and labels come from npm, see `tfsnap.data.fetch`; which of it is used is stated in
    `tfsnap.data.catalogue`, and the splits in `tfsnap.data.splits`. The same versions of packages
    give the same bytes.

    Args:
      data_dir: see `tfsnap.data.fetch.data_root`; TFDS's own default is not used.
      progress: called with the number of pictures drawn so far and the number of all.
      **kwargs: see `tfds.core.GeneratorBasedBuilder`; `config` is an `EmojiConfig` of any
        resolution or the name of one of those listed, "64px".

    Example:
      >>> builder = Emoji(config=EmojiConfig(resolution=48))
      >>> builder.download_and_prepare()
      >>> dataset = builder.as_dataset(split="train")
    """

    VERSION = tfds.core.Version(EMOJI_VERSION)
    BUILDER_CONFIGS = [EmojiConfig(resolution=side) for side in (64, 32, 128, 256)]  # noqa: RUF012

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike | None = None,
        progress: Callable[[int, int], None] | None = None,
        **kwargs: Any,
    ):
        # TFDS would write to a folder called "~".
        super().__init__(data_dir=fetch.data_root(data_dir), **kwargs)
        self._progress = progress

    def _info(self) -> tfds.core.DatasetInfo:
        side = self.builder_config.resolution
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
                "caption": tfds.features.Text(doc="The canonical caption."),
                "label": tfds.features.Text(doc="What is shown, without tone and style."),
                "tags": tfds.features.Sequence(tfds.features.Text()),
                "group": tfds.features.ClassLabel(names=GROUPS),
                "style": tfds.features.ClassLabel(names=STYLES),
                "tone": tfds.features.Text(doc="Skin tone: '', 'dark', 'light+dark'."),
                "code_point": tfds.features.Text(doc="Unicode, '1f44d-1f3ff'."),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="Emoji of four vendors with labels, tags and skin tones.",
            features=features,
            supervised_keys=("image", "caption"),
            homepage="https://emojibase.dev",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # npm does the downloading: it knows the user's registry and proxy.
        root = pathlib.Path(os.fspath(self._data_dir_root))
        tarballs = {t: fetch.fetch_tarball(t, data_dir=root) for t in fetch.EMOJI_TARBALLS}
        pictures = read_catalogue(tarballs)
        splits = assign_splits(pictures)
        drawn = _Counter(len(pictures), self._progress)
        return {
            split: self._generate_examples(
                [picture for picture in pictures if splits[picture.key] == split], drawn
            )
            for split in SPLITS
        }

    def _download_and_prepare(self, dl_manager: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(dl_manager, **kwargs)
        for shard in sorted(pathlib.Path(self.data_path).glob("*.tfrecord*")):
            _sort_features(shard)

    def _generate_examples(
        self, pictures: list[Picture], drawn: "_Counter"
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        side = self.builder_config.resolution
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            images = pool.map(lambda picture: _png(picture, side), pictures)
            for picture, image in zip(pictures, images, strict=True):
                words, style = picture.words, picture.style
                caption = canonical_caption(label=words.label, tone=words.tone, style=style)
                features = {
                    "image": image,
                    "caption": caption,
                    "label": words.label,
                    "tags": list(words.tags),
                    "group": words.group,
                    "style": style,
                    "tone": words.tone,
                    "code_point": words.code_point,
                }
                yield picture.key, features
                drawn.add_one()


def _png(picture: Picture, resolution: int) -> io.BytesIO:
    """Encoded here and not by TFDS, which would do it in the thread that everything waits for."""
    file = io.BytesIO()
    Image.fromarray(render(picture.drawing, resolution=resolution)).save(file, "PNG")
    file.seek(0)
    return file


def _sort_features(shard: pathlib.Path) -> None:
    """Writes the records again, with their features in alphabetical order.

    TFDS leaves that order to protobuf, which changes it from process to process.
    """
    records = [bytes(record) for record in tf.data.TFRecordDataset(shard).as_numpy_iterator()]
    with tf.io.TFRecordWriter(os.fspath(shard)) as writer:
        for record in records:
            example = tf.train.Example.FromString(record)
            writer.write(example.SerializeToString(deterministic=True))


class _Counter:
    """Counts over all splits."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None):
        self._total = total
        self._report = report
        self._done = 0

    def add_one(self) -> None:
        self._done += 1
        if self._report:
            self._report(self._done, self._total)


def prepare(
    *,
    resolution: int,
    data_dir: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Emoji:
    """Builds the data set, unless it is there already.

    Args:
      resolution: side length in pixels.
      data_dir: see `tfsnap.data.fetch.data_root`.
      progress: called with the number of pictures drawn so far and the number of all; without it
        TFDS shows bars of its own. What it prints to `sys.stdout` is lost.

    Returns:
      The builder, ready for `as_dataset`.

    Raises:
      FetchError: see `tfsnap.data.fetch.fetch_tarball`.
      OSError: the disk is full or cannot be written.
      ValueError: the resolution is out of range.
    """
    # TFDS refuses a config made here under the name of one that the class lists.
    config = Emoji.builder_configs.get(f"{resolution}px") or EmojiConfig(resolution=resolution)
    builder = Emoji(config=config, data_dir=data_dir, progress=progress)
    if builder.is_prepared():
        return builder
    with locked(fetch.data_root(data_dir) / f"emoji-{config.name}.lock"):
        # Once more: another process may have built it, and a builder knows what it found at first.
        builder = Emoji(config=config, data_dir=data_dir, progress=progress)
        if not builder.is_prepared():
            download = tfds.download.DownloadConfig(try_download_gcs=False)
            with _quiet_tfds() if progress else contextlib.nullcontext(), _plain_disk_errors():
                builder.download_and_prepare(download_config=download)
    return builder


@contextlib.contextmanager
def _plain_disk_errors() -> Iterator[None]:
    """Raises what the disk did, which TensorFlow and TFDS put into errors of their own."""
    try:
        yield
    except RuntimeError as error:
        cause = error.__cause__
        if not isinstance(cause, tf.errors.OpError):
            raise
        reason = cause.message.strip().splitlines()[0]
        raise OSError(f"Cannot draw the emoji: {reason}; make room and run again") from error


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Silences what TFDS prints and draws, where the caller shows the progress."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
