"""Small stand-ins for the five npm packages, with every kind of entry that the rules speak of."""

import io
import json
import tarfile

from PIL import Image

from tfsnap.data import fetch

TONED = tuple(f"1f44{digit}" for digit in range(6, 10))  # Four gestures, each in six tones.
PLAIN = tuple(f"1f34{digit}" for digit in range(10))
COUPLE = "1f46d-1f3fb-1f3ff"
HEART, QUALIFIED_HEART = "2764", "2764-fe0f"  # Drawn in black and in colour.
KEYCAP, REGIONAL, PRIVATE, FLAG = "0031-fe0f-20e3", "1f1e6", "e50a", "1f1eb-1f1f7"
TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")

# What the rules leave of a package; the flag is left where it is not cut by a rule of its own.
KEPT = {HEART, COUPLE, *PLAIN, *TONED, *(f"{code}-{tone}" for code in TONED for tone in TONES)}

_DRAWN = (*sorted(KEPT), QUALIFIED_HEART, KEYCAP, REGIONAL, PRIVATE)
_SIDE = 16


def make_packages(folder, *, backwards=False):
    """Writes the tarballs, their entries in one order or the other.

    Returns:
      The path of each of `fetch.EMOJI_TARBALLS`.
    """
    files = {
        fetch.NOTO: _drawings("#ff0000", (*_DRAWN, FLAG), backwards),
        fetch.TWEMOJI: _drawings("#00ff00", (*_DRAWN, FLAG), backwards),
        fetch.FLUENT_FLAT: _drawings("#0000ff", _DRAWN, backwards),
        fetch.FLUENT_3D: _bitmaps("#ffff00", (*_DRAWN, FLAG)),
        fetch.EMOJIBASE: {"package/en/data.json": _labels()},
    }
    paths = {tarball: folder / tarball.file for tarball in files}
    for tarball, members in files.items():
        write_tarball(paths[tarball], ordered(members, backwards))
    return paths


def write_tarball(path, members):
    """Writes a gzipped tarball of {name: bytes}."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def ordered(entries, backwards):
    return dict(reversed(entries.items())) if backwards else entries


def _drawings(colour, codes, backwards):
    bodies = {
        f"name-of-{code}": {"body": f'<rect width="{width}" height="{height}" fill="{fill}"/>'}
        for code, width, height, fill in _shapes(colour, codes)
    }
    # A name without a drawing, as aliases have none.
    chars = {**{code: f"name-of-{code}" for code in codes}, "1f600": "alias"}
    icons = {"width": _SIDE, "height": _SIDE, "icons": ordered(bodies, backwards)}
    return {
        "package/icons.json": json.dumps(icons).encode(),
        "package/chars.json": json.dumps(ordered(chars, backwards)).encode(),
    }


def _bitmaps(colour, codes):
    members = {}
    for code, width, height, fill in _shapes(colour, codes):
        image = Image.new("RGBA", (_SIDE, _SIDE))
        image.paste(fill, (0, 0, width, height))
        file = io.BytesIO()
        image.save(file, "WEBP", lossless=True)
        members[f"package/assets/{code}.webp"] = file.getvalue()
    return members


def _shapes(colour, codes):
    """Rectangles whose sides tell them apart."""
    for number, code in enumerate(codes):
        narrower, height = divmod(number, _SIDE)
        yield code, _SIDE - narrower, 1 + height, "#000000" if code == HEART else colour


def _labels():
    def entry(code, label, **more):
        return {"hexcode": code.upper(), "label": label, "tags": [f"tag of {label}"], **more}

    def skins(code):
        return [
            {"hexcode": f"{code}-{tone}".upper(), "tone": number}
            for number, tone in enumerate(TONES, 1)
        ]

    couple = [{"hexcode": COUPLE.upper(), "tone": [1, 5]}]
    entries = [
        *(entry(code, f"gesture {code}", group=1, skins=skins(code)) for code in TONED),
        *(entry(code, f"food {code}", group=4) for code in PLAIN),
        entry("1f46d", "two women", group=1, skins=couple),
        entry(HEART, "red heart", group=0),
        entry(KEYCAP, "keycap: 1", group=8),
        entry(REGIONAL, "regional indicator A"),
        entry(FLAG, "flag: France", group=9),
        entry("1f600", "grinning face", group=0),
    ]
    return json.dumps(entries).encode()
