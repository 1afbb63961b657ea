"""The tokenizer against goldens from open_clip 3.3.0 itself.

tests/goldens/tokenizer.json lists texts, each with the ids that `SimpleTokenizer.encode` gives and
the row that calling it gives, less its trailing zeros. To make it again, in an environment of its
own:

    pip install numpy ftfy==6.3.1 regex wcwidth
    pip install --no-deps open_clip_torch==3.3.0

and, without PyTorch, which the tokenizer needs for its rows alone:

    sys.modules["torch"] = types.SimpleNamespace(
        LongTensor=np.ndarray, Tensor=np.ndarray, long=np.int64, tensor=np.array,
        zeros=lambda *shape, dtype: np.zeros(shape, dtype))
    path = "<site-packages>/open_clip/tokenizer.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    tokenizer = reference.SimpleTokenizer()
    for case in goldens["texts"]:
        case["ids"] = tokenizer.encode(case["text"])
        case["row"] = np.trim_zeros(tokenizer(case["text"])[0], "b").tolist()
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from tfsnap.data.fetch import fetch_merges
from tfsnap.tokenizer import (
    END_TOKEN,
    START_TOKEN,
    VOCAB_SIZE,
    Tokenizer,
    clean,
    split_words,
    write_merges,
)

GOLDENS = json.loads((Path(__file__).parent / "goldens/tokenizer.json").read_text(encoding="utf-8"))
CASES = GOLDENS["texts"]


@pytest.fixture(scope="session")
def merges():
    return fetch_merges()


@pytest.fixture(scope="session")
def tokenizer(merges):
    return Tokenizer(merges, context_length=GOLDENS["context_length"])


@pytest.mark.parametrize("case", CASES, ids=[ascii(case["text"])[:30] for case in CASES])
def test_ids_equal_open_clips(tokenizer, case):
    assert tokenizer.encode(case["text"]) == case["ids"]


def test_rows_equal_open_clips(tokenizer):
    rows = tokenizer([case["text"] for case in CASES])
    assert rows.dtype == np.int32
    assert rows.shape == (len(CASES), GOLDENS["context_length"])
    assert [np.trim_zeros(row, "b").tolist() for row in rows] == [case["row"] for case in CASES]


def test_goldens_cover_rows_of_every_fill():
    lengths = {len(case["ids"]) for case in CASES}
    assert len(CASES) >= 40
    assert {0, 75, 76} <= lengths and max(lengths) >= 200  # Empty, just full, one too many.


def test_a_short_row_ends_with_the_end_token_and_padding(merges):
    short = Tokenizer(merges, context_length=4, pad_token=END_TOKEN)
    cat, dog = short.encode("cat dog")
    assert short(["", "cat", "cat dog", "cat dog cat"]).tolist() == [
        [START_TOKEN, END_TOKEN, END_TOKEN, END_TOKEN],
        [START_TOKEN, cat, END_TOKEN, END_TOKEN],
        [START_TOKEN, cat, dog, END_TOKEN],
        [START_TOKEN, cat, dog, END_TOKEN],
    ]
    assert short("cat").shape == (1, 4)


def test_truncated_names_what_does_not_fit(merges):
    short = Tokenizer(merges, context_length=4)
    assert short.truncated("cat dog") is None
    assert short.truncated("Cat dog  PURPLE hearts") == "purple hearts"


def test_decode_returns_the_cleaned_text(tokenizer):
    text = "Crème  brûlée 👍🏿 日本"
    assert tokenizer.decode(tokenizer.encode(text)) == clean(text)
    assert tokenizer.decode([START_TOKEN, END_TOKEN]) == "<start_of_text><end_of_text>"


def test_mojibake_is_left_alone():
    """The one difference from open_clip, whose ftfy would guess "só" here."""
    assert clean("sÃ³") == "sã³"


def test_words_split_at_contractions_digits_and_kinds():
    assert split_words("we'll 42?!x") == ["we", "'ll", "4", "2", "?!", "x"]


def test_a_smaller_vocabulary_writes_the_same_text_in_more_tokens(merges, tokenizer, tmp_path):
    small = Tokenizer(merges, vocab_size=2000)
    for case in CASES:
        tokens = small.encode(case["text"])
        assert len(tokens) >= len(case["ids"]) and max(tokens, default=0) < 2000
        assert small.decode(tokens) == tokenizer.decode(case["ids"])
    assert any(len(small.encode(case["text"])) > len(case["ids"]) for case in CASES)
    assert small("")[0, :3].tolist() == [1998, 1999, 0]
    write_merges(tmp_path / "short.txt.gz", merges, 2000)
    assert (tmp_path / "short.txt.gz").stat().st_size < merges.stat().st_size / 50
    again = Tokenizer(tmp_path / "short.txt.gz", vocab_size=2000)
    texts = [case["text"] for case in CASES]
    np.testing.assert_array_equal(again(texts), small(texts))
    with pytest.raises(ValueError, match="does not hold 1487 merges"):
        Tokenizer(tmp_path / "short.txt.gz", vocab_size=2001)


def test_words_of_early_merges_have_clips_ids(merges, tokenizer):
    assert Tokenizer(merges, vocab_size=20_000).encode("a cat on the") == tokenizer.encode(
        "a cat on the"
    )


@pytest.mark.parametrize(
    "settings", [{"context_length": 1}, {"pad_token": VOCAB_SIZE}, {"vocab_size": 513}]
)
def test_settings_out_of_range_are_named(merges, settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} is {settings[name]}"):
        Tokenizer(merges, **settings)


@pytest.mark.parametrize("vocab_size", [100, -1, VOCAB_SIZE + 1])
def test_no_vocabulary_of_another_size_is_written(merges, tmp_path, vocab_size):
    with pytest.raises(ValueError, match=f"vocab_size is {vocab_size}; it must be from 514 to"):
        write_merges(tmp_path / "merges.txt.gz", merges, vocab_size)
    assert list(tmp_path.iterdir()) == []


def test_missing_merges_say_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"prepare_data\.py"):
        Tokenizer(tmp_path / "none.txt.gz")


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"version\na b\n", mtime=0)])
def test_corrupt_merges_are_refused(tmp_path, content):
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="delete it and fetch it again"):
        Tokenizer(path)
    with pytest.raises(ValueError, match="^the file of merges (is not gzip|does not hold)"):
        Tokenizer(content)


def test_merges_may_be_given_as_content(merges, tokenizer):
    assert Tokenizer(merges.read_bytes()).encode("a cat") == tokenizer.encode("a cat")
