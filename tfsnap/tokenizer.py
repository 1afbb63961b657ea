"""CLIP's byte-pair tokenizer, with the standard library and numpy only.

Ids equal those of open_clip's `SimpleTokenizer`, which cleans text with ftfy and splits it with the
`regex` package. Neither is needed here: the cleaning is spelled out below and words are split by
Unicode category. One step of ftfy is left out on purpose, the guessing of mojibake ("sÃ³" -> "só"):
it is a statistical repair of text that was decoded wrongly before it got here. Letters added to
Unicode after Python's own tables (14.0 in Python 3.11) are split as if they were symbols.

Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
2021, section 2.4; Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units",
2016.
"""

import gzip
import html
import html.entities
import itertools
import pathlib
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

VOCAB_SIZE = 49408  # Of CLIP: the file of merges lists more than it learned.
START_TOKEN = VOCAB_SIZE - 2
END_TOKEN = VOCAB_SIZE - 1

LEAST_VOCAB_SIZE = 514  # Bytes, bytes that end a word, and the two special tokens: no merges.
_NO_MERGE = VOCAB_SIZE
_END_OF_WORD = "</w>"
_SPECIALS = ("<start_of_text>", "<end_of_text>")

# Tried in this order at every position, as in CLIP, before a run of one category is taken.
_FIXED = re.compile("|".join((*_SPECIALS, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d")), re.I)

_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
_TERMINAL_ESCAPE = re.compile("\x1b\\[[0-9;]*[a-zA-Z]")
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIGATURES = "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ"


def _character_table() -> dict[int, str]:
    """Single characters that are replaced, in ftfy's order of precedence."""
    c1_controls = {code: bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)}
    wide = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFF0)}
    table = {
        code: text for code, text in (c1_controls | wide).items() if text not in ("", chr(code))
    }
    table |= {ord(character): unicodedata.normalize("NFKC", character) for character in _LIGATURES}
    table[ord("ﬅ")] = "ſt"
    table[0x3000] = " "
    table |= dict.fromkeys([0x02BC, *range(0x2018, 0x201C)], "'")
    table |= dict.fromkeys(range(0x201C, 0x2020), '"')
    return table


def _entity_table() -> dict[str, str]:
    """HTML5 entities that end in a semicolon, and upper-case forms of lower-case names."""
    table = {}
    for name, text in html.entities.html5.items():
        if not name.endswith(";"):
            continue
        table[f"&{name}"] = text
        shouted = f"&{name.upper()}"
        if name == name.lower() and html.unescape(shouted) == shouted:
            table[shouted] = text.upper()
    return table


_CHARACTERS = _character_table()
_ENTITIES = _entity_table()
_REMOVED = dict.fromkeys(
    itertools.chain(
        range(0x09),
        [0x0B],
        range(0x0E, 0x20),
        [0x7F],
        range(0x206A, 0x2070),
        [0xFEFF],
        range(0xFFF9, 0xFFFD),
    )
)


def clean(text: str) -> str:
    r"""Normalises text the way CLIP's training captions were.

    HTML entities, curly quotes, Latin ligatures, full-width and half-width forms, surrogate pairs,
    terminal escapes and control characters are resolved, Unicode is composed (NFC), white space is
    collapsed to single blanks and everything is lower-cased.

    Args:
      text: any string.

    Returns:
      The string that is split into tokens.

    Example:
      >>> clean("  Ｃafe\u0301 &amp; “Crème” ")
      'café & "crème"'
    """
    lines = []
    unescape = True  # Until a "<" shows that this is HTML source, where entities stay for now.
    for line in text.split("\n"):
        unescape = unescape and "<" not in line
        lines.append(_repair(line, unescape=unescape))
    cleaned = html.unescape(html.unescape("\n".join(lines)))
    return " ".join(cleaned.split()).lower()


def _repair(line: str, *, unescape: bool) -> str:
    """Applies all replacements again and again until nothing changes, as ftfy does."""
    previous = None
    while line != previous:
        previous = line
        if unescape:
            line = _ENTITY.sub(_resolve_entity, line)
        line = line.translate(_CHARACTERS)
        line = _SURROGATE_PAIR.sub(_join_surrogates, line)
        line = _SURROGATE.sub("\ufffd", line)
        line = _TERMINAL_ESCAPE.sub("", line)
        line = unicodedata.normalize("NFC", line.translate(_REMOVED))
    return line


def _resolve_entity(match: re.Match[str]) -> str:
    entity = match.group()
    if entity.startswith("&#"):
        resolved = html.unescape(entity)
        return entity if ";" in resolved else resolved
    return _ENTITIES.get(entity, entity)


def _join_surrogates(match: re.Match[str]) -> str:
    return match.group().encode("utf-16", "surrogatepass").decode("utf-16")


def split_words(text: str) -> list[str]:
    """Splits cleaned text into the pieces that are encoded on their own.

    A piece is a special token, a contraction's ending, a run of letters, a single digit, or a run
    of anything else but white space.

    Args:
      text: output of `clean`.

    Returns:
      The pieces in order; white space is in none of them.

    Example:
      >>> split_words("it's 42!")
      ['it', "'s", '4', '2', '!']
    """
    words = []
    start = 0
    while start < len(text):
        end = _word_end(text, start)
        if _kind(text[start]) != "space":
            words.append(text[start:end])
        start = end
    return words


def _word_end(text: str, start: int) -> int:
    fixed = _FIXED.match(text, start)
    if fixed:
        return fixed.end()
    kind = _kind(text[start])
    end = start + 1
    while kind != "number" and end < len(text) and _kind(text[end]) == kind:
        end += 1
    return end


def _kind(character: str) -> str:
    # The lone iota subscript is lost like a blank: CLIP's patterns ignore case, which makes it
    # neither a letter (it is a mark) nor anything but a letter (its capital is one).
    if character.isspace() or character == "\u0345":
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(character)[0], "other")


def _byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte, in the order of the vocabulary.

    Printable Latin-1 stands for itself and comes first; the other bytes follow as U+0100 and on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {byte: chr(0x100 + i) for i, byte in enumerate(others)}
    return {byte: shifted.get(byte, chr(byte)) for byte in printable + others}


class Tokenizer:
    """Turns text into the token ids of OpenAI's CLIP.

    Args:
      merges: `bpe_simple_vocab_16e6.txt.gz`, its path or its content;
        `tfsnap.data.fetch.fetch_merges` downloads it and every bundle holds a copy.
      context_length: tokens in a row, the start and end tokens included.
      pad_token: fills a row behind the end token: 0 as in CLIP, or `END_TOKEN` as Stable Diffusion
        was trained with.
      vocab_size: CLIP's, or fewer: the merges that were learned last are left out, so that rare
        words take more tokens. The start and the end token are the last two of any vocabulary.

    Example:
      >>> tokenizer = Tokenizer("bpe_simple_vocab_16e6.txt.gz", context_length=8)
      >>> tokenizer(["thumbs up", ""])
      array([[49406, 17599,   705, 49407,     0,     0,     0,     0],
             [49406, 49407,     0,     0,     0,     0,     0,     0]], dtype=int32)
    """

    def __init__(
        self,
        merges: str | pathlib.Path | bytes,
        *,
        context_length: int = 77,
        pad_token: int = 0,
        vocab_size: int = VOCAB_SIZE,
    ):
        if context_length < 2:
            raise ValueError(
                f"context_length is {context_length}; start and end tokens need at least 2"
            )
        symbols, pairs = read_vocabulary(merges, vocab_size)
        if not 0 <= pad_token < vocab_size:
            raise ValueError(f"pad_token is {pad_token}; it must be from 0 to {vocab_size - 1}")
        self.context_length = context_length
        self.pad_token = pad_token
        self.vocab_size = vocab_size
        self.start_token, self.end_token = vocab_size - 2, vocab_size - 1
        self._alphabet = _byte_alphabet()
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self._symbols = [*symbols, *_SPECIALS]
        self._ids = {symbol: token for token, symbol in enumerate(self._symbols)}
        self._known = {special: (self._ids[special],) for special in _SPECIALS}

    def __call__(self, texts: str | Sequence[str]) -> np.ndarray:
        """Encodes texts into rows of equal length.

        Args:
          texts: one text or several.

        Returns:
          int32 [N, context_length]: start token, text, end token, padding. A text too long for its
          row loses its end, never the end token; `truncated` tells what was lost.
        """
        texts = [texts] if isinstance(texts, str) else texts
        rows = np.full((len(texts), self.context_length), self.pad_token, np.int32)
        for row, text in zip(rows, texts, strict=True):
            tokens = self.encode(text)[: self.context_length - 2]
            row[: len(tokens) + 2] = [self.start_token, *tokens, self.end_token]
        return rows

    def encode(self, text: str) -> list[int]:
        """Returns the token ids of `text`, without start and end tokens, however many they are."""
        return list(itertools.chain.from_iterable(map(self._encode_word, split_words(clean(text)))))

    def decode(self, tokens: Iterable[int]) -> str:
        """Returns the cleaned text that `tokens` stand for, special tokens included.

        Blanks are put after every word, where the text that was encoded may have had none.
        """
        symbols = "".join(self._symbols[token] for token in tokens).replace(_END_OF_WORD, " ")
        byte_of = {symbol: byte for byte, symbol in self._alphabet.items()} | {" ": ord(" ")}
        return bytes(byte_of[symbol] for symbol in symbols).decode("utf-8", "replace").strip()

    def truncated(self, text: str) -> str | None:
        """Returns the end of `text` that does not fit into a row, or None if all of it fits."""
        lost = self.encode(text)[self.context_length - 2 :]
        return self.decode(lost) if lost else None

    def _encode_word(self, word: str) -> tuple[int, ...]:
        if word not in self._known:
            symbols = [self._alphabet[byte] for byte in word.encode("utf-8")]
            symbols[-1] += _END_OF_WORD
            self._known[word] = tuple(self._ids[symbol] for symbol in self._merge(symbols))
        return self._known[word]

    def _merge(self, symbols: list[str]) -> list[str]:
        """Joins the pair that was learned first, everywhere, until no pair is a learned one."""
        while len(symbols) > 1:
            pair = min(itertools.pairwise(symbols), key=lambda p: self._ranks.get(p, _NO_MERGE))
            if pair not in self._ranks:
                break
            symbols = _join(symbols, pair)
        return symbols


def _join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Replaces every occurrence of `pair`, from left to right, by its concatenation."""
    joined: list[str] = []
    i = 0
    while i < len(symbols):
        found = tuple(symbols[i : i + 2]) == pair
        joined.append("".join(pair) if found else symbols[i])
        i += 2 if found else 1
    return joined


def read_vocabulary(
    merges: str | pathlib.Path | bytes, vocab_size: int = VOCAB_SIZE
) -> tuple[list[str], list[tuple[str, str]]]:
    """Reads CLIP's vocabulary.

    Args:
      merges: `bpe_simple_vocab_16e6.txt.gz`, or what `write_merges` made of it: its path or its
        content.
      vocab_size: as in `Tokenizer`.

    Returns:
      The symbols in the order of their ids, without the start and the end token, which follow; and
      the pairs that are merged, the first learned first.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, or has too few merges; or no vocabulary has such a size.
    """
    pairs = _read_merges(merges, vocab_size)
    letters = list(_byte_alphabet().values())
    ends = (letter + _END_OF_WORD for letter in letters)
    return [*letters, *ends, *("".join(pair) for pair in pairs)], pairs


def write_merges(
    path: str | pathlib.Path, merges_path: str | pathlib.Path, vocab_size: int
) -> None:
    """Writes as many of the merges as `vocab_size` needs: the same bytes from the same merges.

    Raises:
      FileNotFoundError: there is no file of merges.
      ValueError: it is damaged, or has too few of them; no vocabulary has such a size.
    """
    merges = _read_merges(merges_path, vocab_size)
    text = "\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n"
    pathlib.Path(path).write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def _read_merges(source: str | pathlib.Path | bytes, vocab_size: int) -> list[tuple[str, str]]:
    if not LEAST_VOCAB_SIZE <= vocab_size <= VOCAB_SIZE:
        raise ValueError(
            f"vocab_size is {vocab_size}; it must be from {LEAST_VOCAB_SIZE} to {VOCAB_SIZE}"
        )
    count = vocab_size - LEAST_VOCAB_SIZE
    called, remedy = source, ": delete it and fetch it again"
    if isinstance(source, bytes):
        called, remedy = "the file of merges", ""
    try:
        lines = gzip.decompress(_content(source)).decode("utf-8").split("\n")
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{called} is not gzipped text ({error}){remedy}") from error
    merges = [tuple(line.split()) for line in lines[1 : count + 1]]  # Line 0 is a version.
    if len(merges) < count or any(len(pair) != 2 for pair in merges):
        raise ValueError(f"{called} does not hold {count} merges{remedy}")
    return merges


def _content(source: str | pathlib.Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    path = pathlib.Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"No BPE merges at {path}: fetch them with tools/prepare_data.py")
    return path.read_bytes()
