import pytest

from tfsnap.data.captions import canonical_caption, caption_variants, tone_phrase

THUMB = {"label": "thumbs up", "tags": ("+1", "yes"), "tone": "dark", "style": "noto"}


def variants(count=200, seed=0, **changes):
    return caption_variants(**{**THUMB, **changes}, count=count, seed=seed)


@pytest.mark.parametrize(
    ("label", "tone", "style", "caption"),
    [
        ("thumbs up", "dark", "noto", "thumbs up, dark skin tone, noto style"),
        ("purple heart", "", "fluent 3d", "purple heart, fluent 3d style"),
        ("kiss", "light+dark", "twemoji", "kiss, light and dark skin tones, twemoji style"),
    ],
)
def test_canonical_captions(label, tone, style, caption):
    assert canonical_caption(label=label, tone=tone, style=style) == caption


def test_the_canonical_caption_comes_first():
    assert variants(count=1) == (canonical_caption(label="thumbs up", tone="dark", style="noto"),)
    assert variants()[:1] == variants(count=1)


def test_the_seed_and_the_picture_choose_the_variants():
    assert variants() == variants()
    assert variants(count=20) == variants()[:20]
    assert variants(seed=1) != variants()
    assert variants(style="twemoji") != tuple(v.replace("noto", "twemoji") for v in variants())


@pytest.mark.parametrize("tone", ["", "dark", "light+medium"])
def test_every_variant_tells_style_and_tone(tone):
    for caption in variants(tone=tone):
        assert "noto style" in caption
        assert "thumbs up" in caption or "+1" in caption or "yes" in caption
        assert (tone_phrase(tone) in caption) if tone else ("skin tone" not in caption)


def test_variants_vary_words_and_their_order():
    captions = variants()
    assert len(set(captions)) > 40
    assert any(c.startswith("noto style") for c in captions)
    assert any(c.endswith("noto style") for c in captions)
    assert any(c.startswith("dark skin tone") for c in captions)
    assert any("thumbs up" not in c for c in captions)  # A tag alone names it.
    named = sum("thumbs up" in c for c in captions) / len(captions)
    assert 0.65 < named < 0.95  # By the weights: 0.8.


def test_without_tags_the_label_names_it():
    assert all("thumbs up" in caption for caption in variants(tags=()))


def test_no_variants_is_an_error():
    with pytest.raises(ValueError, match="count of caption variants is 0"):
        variants(count=0)
