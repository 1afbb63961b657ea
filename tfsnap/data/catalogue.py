"""The catalogue of emoji pictures: which art belongs to which words.

The rule, applied in this order to every entry of the art packages:

1. Code points are compared in lower case and without U+FE0F, which asks for the coloured form.
2. An entry that emojibase (Unicode 17) has no label for is dropped: private-use characters, drafts
   of Unicode 18, and doubles of other entries that a package spells in another way.
3. Keycaps and regional indicators are dropped: they show a letter or digit in a box.
4. Of fluent 3d, what fluent flat lacks is dropped: mostly flags, in another vendor's drawing.
5. Where a package spells one emoji twice, the fully qualified spelling (with U+FE0F) is used.
6. Fluent 3d's pictures go by the tone that they show, which its package names wrongly:
   medium-light and medium are exchanged, but for the three technologists, and all five of person
   mountain biking are in the opposite order.

With the pinned packages this leaves 13,742 pictures of 1,902 concepts: noto 3,670, twemoji 3,932,
fluent flat 3,127, fluent 3d 3,013. A concept is an emoji without its skin tones.
"""

import dataclasses
import json
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tfsnap.data import fetch
from tfsnap.data.captions import STYLES, TONES

EMOJI_VERSION = "3.0.0"  # Of the data set: what is in it, and in which split.
GROUPS = (
    "smileys-emotion",
    "people-body",
    "component",
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "symbols",
    "flags",
)

_SVG_PACKAGES = {"noto": fetch.NOTO, "twemoji": fetch.TWEMOJI, "fluent flat": fetch.FLUENT_FLAT}
_KEYCAP = "20e3"
_TECHNOLOGIST, _MOUNTAIN_BIKING = "1f4bb", "1f6b5"
_SKINS = tuple(f"1f3f{digit}" for digit in "bcdef")  # From light to dark.
_EXCHANGED = dict(zip(_SKINS, (_SKINS[i] for i in (0, 2, 1, 3, 4)), strict=True))
_REVERSED = dict(zip(_SKINS, reversed(_SKINS), strict=True))
_QUALIFIER = "fe0f"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """One picture before it is rendered: a scalable drawing or an encoded bitmap.

    Attributes:
      svg: markup between <svg> and </svg>, or None for a bitmap.
      width: width of the drawing in its own units.
      height: height of the drawing in its own units.
      bitmap: an encoded image with transparency, or None for a scalable drawing.
    """

    svg: str | None = None
    width: float = 0.0
    height: float = 0.0
    bitmap: bytes | None = None


@dataclasses.dataclass(frozen=True)
class Words:
    """What emojibase says about one emoji."""

    code_point: str
    label: str
    tags: tuple[str, ...]
    group: str
    tone: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """One emoji in one style.

    Attributes:
      key: unique, "1f44d-1f3ff/noto".
      words: label, tags, group, tone and code point; pictures with the same label show the same
        concept.
      style: one of `tfsnap.data.captions.STYLES`.
      drawing: what is rendered.
      packaged: the key by the name that its package has for it; another one if rule 6 renames it.
        The holdout goes by it, so that a picture stays in its split when its name is put right.
    """

    key: str
    words: Words
    style: str
    drawing: Drawing
    packaged: str


def read_catalogue(tarballs: Mapping[fetch.Tarball, pathlib.Path]) -> list[Picture]:
    """Reads the art and label packages.

    Args:
      tarballs: the path of each of `fetch.EMOJI_TARBALLS`.

    Returns:
      The pictures, sorted by key.

    Raises:
      FetchError: a tarball cannot be read or lacks a file.
    """
    words = _read_words(tarballs[fetch.EMOJIBASE])
    drawings = {
        style: _read_svg_package(tarballs[package]) for style, package in _SVG_PACKAGES.items()
    }
    bitmaps = _by_shown_tone(_read_bitmaps(tarballs[fetch.FLUENT_3D]))
    flat = drawings["fluent flat"]
    drawings["fluent 3d"] = {code: image for code, image in bitmaps.items() if code in flat}
    pictures = [
        Picture(
            key=_key(code, style),
            words=words[code],
            style=style,
            drawing=drawings[style][code],
            # To exchange twice is to have the first name again.
            packaged=_key(_shown(code) if style == "fluent 3d" else code, style),
        )
        for style in STYLES
        for code in drawings[style].keys() & words.keys()
    ]
    return sorted(pictures, key=lambda picture: picture.key)


def _key(code_point: str, style: str) -> str:
    return f"{code_point}/{style.replace(' ', '-')}"


def normalize(code_point: str) -> str:
    """Returns a code point sequence in lower case and without U+FE0F.

    Example:
      >>> normalize("2764-FE0F-200D-1F525")
      '2764-200d-1f525'
    """
    return "-".join(part for part in code_point.lower().split("-") if part != _QUALIFIER)


def _read_words(tarball: pathlib.Path) -> dict[str, Words]:
    """Maps normalized code points to their words, without keycaps and regional indicators."""
    (entries,) = _read_json(tarball, ["package/en/data.json"])
    words = {}
    for entry in entries:
        code = normalize(entry["hexcode"])
        if _KEYCAP in code.split("-") or "group" not in entry:  # Regional indicators have none.
            continue
        for drawn in (entry, *entry.get("skins", ())):
            code = normalize(drawn["hexcode"])
            words[code] = Words(
                code_point=code,
                label=entry["label"],
                tags=tuple(entry.get("tags", ())),
                group=GROUPS[entry["group"]],
                tone=_tone(drawn.get("tone")),
            )
    return words


def _tone(numbers: int | list[int] | None) -> str:
    """Names emojibase's tones: none, 1 to 5, or one for each of two people."""
    if numbers is None:
        return ""
    numbers = [numbers] if isinstance(numbers, int) else numbers
    return "+".join(TONES[number - 1] for number in numbers)


def _read_svg_package(tarball: pathlib.Path) -> dict[str, Drawing]:
    """Maps normalized code points to the drawings of an Iconify package."""
    icons, names = _read_json(tarball, ["package/icons.json", "package/chars.json"])
    return {
        normalize(code): Drawing(
            svg=icon["body"],
            width=icon.get("width", icons.get("width", 16)),
            height=icon.get("height", icons.get("height", 16)),
        )
        for code, icon in (
            (code, icons["icons"].get(names[code])) for code in _qualified_last(names)
        )
        if icon
    }


def _read_bitmaps(tarball: pathlib.Path) -> dict[str, Drawing]:
    """Maps normalized code points to the bitmaps of a package of image files."""
    files = _read_files(tarball, lambda name: name.endswith(".webp"))
    return {
        normalize(pathlib.PurePath(name).stem): Drawing(bitmap=files[name])
        for name in _qualified_last(files)
    }


def _by_shown_tone(drawings: Mapping[str, Drawing]) -> dict[str, Drawing]:
    """Fluent 3d's pictures by the code points of what they show; see rule 6."""
    return {_shown(code): drawing for code, drawing in drawings.items()}


def _shown(code: str) -> str:
    parts = code.split("-")
    if _TECHNOLOGIST in parts:
        return code
    alone = parts[0] == _MOUNTAIN_BIKING and len(parts) == 2  # Man and woman are like others.
    shown = _REVERSED if alone else _EXCHANGED
    return "-".join(shown.get(part, part) for part in parts)


def _qualified_last(names: Iterable[str]) -> list[str]:
    """The order in which a fully qualified spelling, the longest, replaces any other."""
    return sorted(names, key=lambda name: (len(name), name))


def _read_json(tarball: pathlib.Path, names: list[str]) -> list[Any]:
    files = _read_files(tarball, lambda name: name in names)
    try:
        return [json.loads(files[name]) for name in names]
    except KeyError as error:
        raise fetch.FetchError(f"{tarball} has no {error}: delete it and run again") from error


def _read_files(tarball: pathlib.Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            return {
                member.name: archive.extractfile(member).read()
                for member in archive
                if member.isfile() and wanted(member.name)
            }
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise fetch.FetchError(
            f"{tarball} is not a readable tarball ({error}): delete it and run again"
        ) from error


def concepts(pictures: Iterable[Picture]) -> dict[str, list[Picture]]:
    """Groups pictures by what they show, in order of first appearance."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.words.label, []).append(picture)
    return groups
