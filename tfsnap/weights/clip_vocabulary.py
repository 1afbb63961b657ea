"""The tokenizer files of a diffusers folder."""

import json
import pathlib

_START, _END = "<|startoftext|>", "<|endoftext|>"

Vocabulary = tuple[list[str], list[tuple[str, str]]]  # See `tfsnap.tokenizer.read_vocabulary`.


def write_tokenizer(folder: pathlib.Path, vocabulary: Vocabulary, *, pad: str, length: int) -> None:
    """Writes `vocab.json`, `merges.txt` and the configs that CLIPTokenizer reads.

    Args:
      folder: where to write.
      vocabulary: CLIP's symbols and merges.
      pad: the token that fills a row: "<|endoftext|>", or "!" in Stable Diffusion 2.
      length: tokens in a row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    symbols, merges = vocabulary
    ids = {symbol: token for token, symbol in enumerate([*symbols, _START, _END])}
    (folder / "vocab.json").write_text(
        json.dumps(ids, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    (folder / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n", encoding="utf-8"
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
