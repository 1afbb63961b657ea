"""The tokenizer that a text encoder reads."""

from tfsnap.config import ClipTextConfig
from tfsnap.data.fetch import fetch_merges
from tfsnap.tokenizer import Tokenizer


def clip_tokenizer(text: ClipTextConfig, pad_token: int = 0) -> Tokenizer:
    """Makes the tokenizer whose rows the text encoder `text` reads.

    Raises:
      FetchError: CLIP's merges cannot be fetched.
    """
    return Tokenizer(
        fetch_merges(),
        context_length=text.context_length,
        pad_token=pad_token,
        vocab_size=text.vocab_size,
    )
