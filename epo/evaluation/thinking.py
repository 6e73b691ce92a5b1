"""Thinking: the thoughts of a batch, written before its replies, and the tokens with which a thought ends."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from epo.prompts.thought import THOUGHT_TOKENS, split_thought, thought_text

Write = Callable[..., list[list[int]]]
"""Continues rows of ids, given the most new tokens and the tokens to stop at: returns the new ids of each row."""


def think_first(processor: Any, rows: Sequence[list[int]], write: Write) -> tuple[list[str | None], list[list[int]]]:
    """Let a model that thinks write its thoughts, each up to its closing bracket and no longer than it may be.

    Args:
        processor: the model's; one that knows no thoughts has none.
        rows: ids of the prompts.
        write: continues them.

    Returns:
        The thoughts, None where there is none, and the rows with them written out as they were in training.
    """
    form = getattr(processor, "think", "none")  # families of other packages need not know of it
    if form == "none":
        return [None for _ in rows], list(rows)
    chat = processor.chat
    stops = [*chat.stop_ids, *_closing_ids(processor.tokenizer, len(processor.tokenizer))]
    written = write(list(rows), THOUGHT_TOKENS[form], stops)
    thoughts = [split_thought(chat.decode(ids))[0] for ids in written]
    return thoughts, [
        row + chat.encode_start(thought_text(thought)) for row, thought in zip(rows, thoughts, strict=True)
    ]


@lru_cache(maxsize=4)
def _closing_ids(tokenizer: Any, num_tokens: int) -> tuple[int, ...]:
    """Return the tokens that hold a closing bracket, of a tokenizer as large as it is."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(num_tokens)))
    return tuple(index for index, token in enumerate(tokens) if token is not None and "]" in token)


__all__ = ["think_first"]
