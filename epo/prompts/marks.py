"""Marks: the tokens that stand for memories, clips and emotions in a prompt, which nobody's words may spell out."""

from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from compressor.placeholders import MEMORY_TOKEN
from epo.data.findings import DataError

AUDIO_TOKEN, VIDEO_TOKEN, EMOTION_TOKEN = "<|audio|>", "<|video|>", "<|emotion|>"
PLACEHOLDERS = (AUDIO_TOKEN, VIDEO_TOKEN, EMOTION_TOKEN, MEMORY_TOKEN)


def add_placeholders(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Teach a tokenizer the placeholder tokens and return their ids under the names `EpoConfig` gives them."""
    tokenizer.add_special_tokens({"extra_special_tokens": list(PLACEHOLDERS)}, replace_extra_special_tokens=False)
    names = ("audio_token_id", "video_token_id", "emotion_token_id", "memory_token_id")
    return dict(zip(names, tokenizer.convert_tokens_to_ids(list(PLACEHOLDERS)), strict=True))


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the placeholders and whatever else a tokenizer takes for a mark, not for words, wherever it is written."""
    marks = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys([*PLACEHOLDERS, *marks]))


def refuse_tokens(text: str, tokens: Sequence[str]) -> None:
    """Refuse words in which a special token is written out: it would be taken for a clip or for the end of a turn.

    Raises:
        DataError: quotes the text and the token.
    """
    for token in tokens:
        if token in text:
            raise DataError(
                f"the text {text[:60]!r} contains {token!r}, which the model takes for a mark, not for words; remove it"
            )


def refuse_marks(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer's special tokens in texts: all are searched at once, one by one only where one may stand.

    Raises:
        DataError: quotes the text and the token.
    """
    tokens = _known_tokens(tokenizer, len(tokenizer))
    joined = "\n".join(texts)
    if any(begin in joined for begin in {token[:2] for token in tokens}):
        for text in texts:
            refuse_tokens(text, tokens)


@lru_cache(maxsize=4)
def _known_tokens(tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> tuple[str, ...]:
    """Return `special_tokens` of a tokenizer as large as it is, found once."""
    return special_tokens(tokenizer)


__all__ = [
    "AUDIO_TOKEN",
    "EMOTION_TOKEN",
    "PLACEHOLDERS",
    "VIDEO_TOKEN",
    "add_placeholders",
    "refuse_marks",
    "refuse_tokens",
    "special_tokens",
]
