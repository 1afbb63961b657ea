"""Pictures in a TensorFlow Datasets data set that has images and texts."""

import dataclasses
import difflib
import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from tfsnap.data.readers.entry import Entry, Skipped, found, tidy_captions

_CAPTION_WORDS = ("caption", "text", "description", "sentence")  # The likeliest first.
_DEFAULT_SPLIT = "train"
_UNREADABLE = "records cannot be read"


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A feature that holds no other.

    Attributes:
      path: the names that lead to it.
      feature: what it is.
    """

    path: tuple[str, ...]
    feature: Any

    @property
    def address(self) -> str:
        return "/".join(self.path)

    @property
    def is_image(self) -> bool:
        return isinstance(self.feature, tfds.features.Image)

    @property
    def is_text(self) -> bool:
        return self.feature.shape == () and self.feature.tf_dtype == tf.string


class TfdsReader:
    """Reads a TFDS data set; see `tfsnap.data.readers.entry.Reader`.

    Args:
      path: its name, perhaps with a split, "coco_captions:train+restval"; or a folder that holds
        it. By default the split is "train".
      image_feature: the address of the pictures, "image"; guessed where there is one only.
      caption_feature: that of the captions, "captions/text"; guessed where there is one only, or
        one whose name says it. Of class labels, which are never guessed, the names are taken.
      data_dir: where TFDS keeps its data; by default its own default.
      captioned: whether captions are wanted; without them, no feature needs to hold any.

    Raises:
      ValueError: there is no such data set, split or feature, or several may be meant.
    """

    kind = "tfds"

    def __init__(
        self,
        path: str,
        *,
        image_feature: str | None = None,
        caption_feature: str | None = None,
        data_dir: str | os.PathLike | None = None,
        captioned: bool = True,
    ):
        self.place = path
        name, _, split = path.partition(":")
        self._builder = _builder(name, data_dir)
        leaves = list(_leaves(self._builder.info.features))
        self._image = _image_leaf(leaves, image_feature)
        self._caption = _caption_leaf(leaves, caption_feature) if captioned else None
        _prepare(self._builder)
        self._splits = _splits(self._builder, split or _DEFAULT_SPLIT)

    @functools.cached_property
    def total(self) -> int:
        """How many pictures the splits have."""
        return sum(self._builder.info.splits[split].num_examples for split in self._splits)

    def __iter__(self) -> Iterator[Entry | Skipped]:
        for split in self._splits:
            for shard in range(self._builder.info.splits[split].num_shards):
                yield from self._shard(split, shard)

    def _shard(self, split: str, shard: int) -> Iterator[Entry | Skipped]:
        """One file after another, so that a damaged one costs no other."""
        place = f"{split}/{shard:05d}"
        dataset = self._builder.as_dataset(
            split=f"{split}[{shard}shard]",
            decoders=_nested(self._image.path, tfds.decode.SkipDecoding()),
            read_config=tfds.ReadConfig(try_autocache=False, interleave_cycle_length=1),
        )
        pairs = dataset.map(lambda example: (self._image_of(example), self._texts_of(example)))
        try:
            for number, (image, texts) in enumerate(pairs.as_numpy_iterator()):
                name, read = f"{place}/{number:06d}", functools.partial(bytes, image)
                if self._caption is None:
                    yield Entry(name, (), read)
                else:
                    yield found(name, self._captions(texts), read)
        except (tf.errors.OpError, OSError):
            yield Skipped(place, _UNREADABLE)

    def _image_of(self, example: Any) -> tf.Tensor:
        return functools.reduce(lambda value, key: value[key], self._image.path, example)

    def _texts_of(self, example: Any) -> tf.Tensor:
        if self._caption is None:
            return tf.constant("")
        texts = functools.reduce(lambda value, key: value[key], self._caption.path, example)
        return texts.flat_values if isinstance(texts, tf.RaggedTensor) else texts

    def _captions(self, texts: Any) -> tuple[str, ...]:
        if isinstance(self._caption.feature, tfds.features.ClassLabel):
            texts = self._caption.feature.int2str(texts)
        return tidy_captions(texts if isinstance(texts, bytes | str) else list(texts))


def _builder(name: str, data_dir: str | os.PathLike | None) -> tfds.core.DatasetBuilder:
    if (pathlib.Path(name) / "dataset_info.json").is_file():
        return tfds.builder_from_directory(name)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        near = difflib.get_close_matches(name, tfds.list_builders(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see tensorflow.org/datasets"
        raise ValueError(f"path is {name!r}, which TFDS does not know: {hint}") from None


def _prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Downloads the data set where that was not done before."""
    if builder.is_prepared():
        return
    try:
        builder.download_and_prepare()
    except Exception as error:  # Its download manager raises whatever a data set's code raises.
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"TFDS cannot prepare {builder.name}: {reason}") from error


def _splits(builder: tfds.core.DatasetBuilder, wanted: str) -> list[str]:
    known = builder.info.splits
    for split in wanted.split("+"):
        if split not in list(known):
            raise ValueError(
                f"{builder.name} has no split {split!r}; it has {', '.join(sorted(known))}: "
                f"--path={builder.name}:SPLIT"
            )
    return wanted.split("+")


def _leaves(feature: Any, path: tuple[str, ...] = ()) -> Iterator[_Leaf]:
    if isinstance(feature, tfds.features.FeaturesDict):
        for name, inner in feature.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(feature, tfds.features.Sequence):
        for leaf in _leaves(feature.feature, path):
            # A picture in a list is not one picture.
            if not leaf.is_image:
                yield leaf
    elif not isinstance(feature, tfds.features.Dataset):
        yield _Leaf(path, feature)


def _image_leaf(leaves: list[_Leaf], wanted: str | None) -> _Leaf:
    images = [leaf for leaf in leaves if leaf.is_image]
    if wanted:
        return _named(images, wanted, "image_feature")
    return _only(images, leaves, "image_feature")


def _caption_leaf(leaves: list[_Leaf], wanted: str | None) -> _Leaf:
    texts = [leaf for leaf in leaves if leaf.is_text]
    labels = [leaf for leaf in leaves if isinstance(leaf.feature, tfds.features.ClassLabel)]
    if wanted:
        return _named(texts + labels, wanted, "caption_feature")
    for word in _CAPTION_WORDS:
        likely = [leaf for leaf in texts if word in leaf.address.lower()]
        if likely:
            return _only(likely, leaves, "caption_feature")
    return _only(texts, leaves, "caption_feature")


def _named(leaves: list[_Leaf], wanted: str, flag: str) -> _Leaf:
    for leaf in leaves:
        if leaf.address == wanted:
            return leaf
    raise ValueError(f"{flag} is {wanted!r}; it must be one of {_addresses(leaves)}")


def _only(likely: list[_Leaf], leaves: list[_Leaf], flag: str) -> _Leaf:
    if len(likely) == 1:
        return likely[0]
    if likely:
        raise ValueError(f"--{flag} must say which of {_addresses(likely)} is meant")
    raise ValueError(
        f"no feature of the data set can be the {flag}; its features are {_addresses(leaves)}"
    )


def _addresses(leaves: list[_Leaf]) -> str:
    return ", ".join(leaf.address for leaf in leaves) or "none"


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value
