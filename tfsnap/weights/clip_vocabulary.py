"""The tokenizer files of a diffusers folder, made from the BPE merges."""

import gzip
import json
import pathlib

_MERGES = 48_894  # The file lists more, of which CLIP learned these.
_END_OF_WORD = "</w>"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def _alphabet() -> list[str]:
    """The characters that stand for bytes: printable Latin-1 first, then U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [*map(chr, printable), *(chr(0x100 + i) for i in range(others))]


def write_tokenizer(
    folder: pathlib.Path, merges_path: pathlib.Path, *, pad: str, length: int
) -> None:
    """Writes `vocab.json`, `merges.txt` and the configs that CLIPTokenizer reads.

    Args:
      folder: where to write.
      merges_path: `bpe_simple_vocab_16e6.txt.gz`.
      pad: the token that fills a row: "<|endoftext|>", or "!" in Stable Diffusion 2.
      length: tokens in a row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = gzip.decompress(merges_path.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : _MERGES + 1]  # Line 0 is a version.
    letters = _alphabet()
    symbols = [*letters, *(letter + _END_OF_WORD for letter in letters)]
    symbols += ["".join(line.split()) for line in merges]
    symbols += [_START, _END]
    vocabulary = {symbol: token for token, symbol in enumerate(symbols)}
    (folder / "vocab.json").write_text(
        json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8"
    )
    special = {"bos_token": _START, "eos_token": _END, "pad_token": pad, "unk_token": _END}
    config = {
        **special,
        "add_prefix_space": False,
        "do_lower_case": True,
        "model_max_length": length,
        "tokenizer_class": "CLIPTokenizer",
    }
    for name, values in (("special_tokens_map", special), ("tokenizer_config", config)):
        text = json.dumps(values, indent=2, sort_keys=True) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
