"""Captions on their way to a text encoder."""

import numpy as np

from tfsnap.config import ClipTextConfig
from tfsnap.data.clip_tokens import clip_tokenizer
from tfsnap.data.examples import Examples
from tfsnap.training.jobs import inputs
from tfsnap.training.jobs.inputs import DataConfig, captioned_shapes

LONG = "a red frog under a blue umbrella"


def told(monkeypatch, capsys, pad_token):
    """What is printed of five captions of which LONG, there twice, has two words too many."""
    captions = ((LONG, "a frog"), ("a red frog under a", LONG), ("", "a frog"))
    images = np.zeros([3, 8, 8, 3], np.uint8)
    examples = Examples(images, captions, np.zeros(3, np.int32), ("x",), ("a", "b", "c"))
    monkeypatch.setattr(inputs, "load_examples", lambda **options: examples)
    text = ClipTextConfig(context_length=7, width=8, layers=1, heads=2)
    assert clip_tokenizer(text, 0).truncated("a red frog under a") is None
    captioned_shapes(DataConfig(resolution=8), "train", text, pad_token)
    return capsys.readouterr().out


def test_captions_that_are_cut_are_counted(monkeypatch, capsys):
    expected = (
        "2 of 6 captions are longer than the 7 tokens that the text encoder reads and lose their "
        f"ends, such as 'blue umbrella' of {LONG!r}\n"
    )
    for pad_token in (0, 49407):
        assert told(monkeypatch, capsys, pad_token) == expected
