import io

import pytest
from PIL import Image

from tests.data.toy_packages import (
    COUPLE,
    FLAG,
    HEART,
    KEPT,
    TONED,
    make_packages,
    write_tarball,
)
from tfsnap.data import fetch
from tfsnap.data.captions import STYLES, TONES
from tfsnap.data.catalogue import (
    Drawing,
    _by_shown_tone,
    concepts,
    normalize,
    read_catalogue,
)


@pytest.fixture(scope="module")
def pictures(toy_packages):
    return read_catalogue(toy_packages)


def test_rules_leave_what_they_say(pictures):
    """No keycap, regional indicator, private character, or alias without a drawing."""
    drawn = {style: {p.words.code_point for p in pictures if p.style == style} for style in STYLES}
    assert drawn == {
        "noto": KEPT | {FLAG},
        "twemoji": KEPT | {FLAG},
        "fluent flat": KEPT,
        "fluent 3d": KEPT,  # It has the flag, which fluent flat lacks.
    }


def test_keys_are_unique_and_sorted(pictures):
    keys = [picture.key for picture in pictures]
    assert keys == sorted(set(keys))
    assert f"{HEART}/fluent-3d" in keys


def test_words_come_from_emojibase(pictures):
    words = {p.words.code_point: p.words for p in pictures}
    toned = words[f"{TONED[0]}-1f3fe"]
    assert (toned.label, toned.tone, toned.group) == (
        f"gesture {TONED[0]}",
        "medium-dark",
        "people-body",
    )
    assert toned.tags == (f"tag of gesture {TONED[0]}",)
    assert words[TONED[0]].tone == ""
    assert words[COUPLE].tone == "light+dark"
    assert words[FLAG].group == "flags"


def test_the_qualified_spelling_is_drawn(pictures):
    """The other spelling of the heart is black, in drawings and bitmaps alike."""
    hearts = {p.style: p.drawing for p in pictures if p.words.code_point == HEART}
    assert 'fill="#ff0000"' in hearts["noto"].svg
    bitmap = Image.open(io.BytesIO(hearts["fluent 3d"].bitmap)).convert("RGB")
    assert bitmap.getpixel((0, 0)) == (255, 255, 0)


def test_the_order_of_entries_changes_nothing(pictures, tmp_path):
    assert read_catalogue(make_packages(tmp_path, backwards=True)) == pictures


def test_concepts_gather_tones_and_styles(pictures):
    gesture = concepts(pictures)[f"gesture {TONED[0]}"]
    assert len(gesture) == 6 * len(STYLES)
    assert {picture.words.tone for picture in gesture} == {"", *TONES}


def test_normalize_drops_only_the_qualifier():
    assert normalize("2764-FE0F-200D-1F525") == "2764-200d-1f525"
    assert normalize("fe0f0") == "fe0f0"


def test_a_damaged_tarball_is_named(toy_packages, tmp_path):
    damaged = tmp_path / "damaged.tgz"
    content = bytearray(toy_packages[fetch.NOTO].read_bytes())
    content[len(content) // 2 :] = b"x" * 40
    damaged.write_bytes(content)
    with pytest.raises(fetch.FetchError, match=r"damaged\.tgz is not a readable.*delete it") as e:
        read_catalogue({**toy_packages, fetch.NOTO: damaged})
    assert "\n" not in str(e.value)


def test_a_tarball_without_its_file_is_named(toy_packages, tmp_path):
    empty = tmp_path / "empty.tgz"
    write_tarball(empty, {"package/readme": b"nothing"})
    with pytest.raises(fetch.FetchError, match=r"empty\.tgz has no .*data\.json.*delete it"):
        read_catalogue({**toy_packages, fetch.EMOJIBASE: empty})


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("1f44d-1f3fc", "1f44d-1f3fd"),
        ("1f44d-1f3fd", "1f44d-1f3fc"),
        ("1f44d-1f3ff", "1f44d-1f3ff"),
        ("1f44d", "1f44d"),
        ("1f469-1f3fc-200d-1f4bb", "1f469-1f3fc-200d-1f4bb"),  # The technologist.
        ("1f6b5-1f3fb", "1f6b5-1f3ff"),  # Person mountain biking.
        ("1f6b5-1f3fc-200d-2642", "1f6b5-1f3fd-200d-2642"),  # Man mountain biking.
    ],
)
def test_pictures_of_fluent_3d_go_by_the_tone_that_they_show(named, shown):
    assert list(_by_shown_tone({named: Drawing(bitmap=b"x")})) == [shown]


def test_pictures_keep_the_key_of_their_packages_name(pictures):
    keys = {(p.key, p.packaged) for p in pictures if p.words.code_point == f"{TONED[0]}-1f3fc"}
    light, medium = (f"{TONED[0]}-1f3f{digit}" for digit in "cd")
    styles = ("noto", "twemoji", "fluent-flat")
    renamed = (f"{light}/fluent-3d", f"{medium}/fluent-3d")
    assert keys == {renamed, *((f"{light}/{style}", f"{light}/{style}") for style in styles)}
