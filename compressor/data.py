"""Histories become right-padded batches: what the compressor reads and what the language model must then say."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compressor.chat import ChatFormat, Message, chat_format
from compressor.fitting import FixedParts, memory_prompt, text_prompt
from compressor.text import IGNORE, PAD, pad_right
from compressor.utterance import Utterance

_MAX_KNOWN_TURNS = 65_536
"""Turns whose ids are kept: about 20 MB. Each turn of a dialogue stands before every later reply."""


@dataclass(frozen=True)
class History:
    """The turns before the current one, the prompt around them, and the reply they lead to.

    Attributes:
        turns: past turns, oldest first.
        fixed: what the language model reads around their memories, the current words included.
        reply: what it should then say.
    """

    turns: tuple[Utterance, ...]
    fixed: FixedParts
    reply: str


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Render messages with a tokenizer's chat template, ready for the assistant's next words.

    Raises:
        ChatTemplateError: the tokenizer has no chat template, or it refuses the messages.
    """
    return chat_format(tokenizer).encode_prompt(messages)


def encode_turn(tokenizer: PreTrainedTokenizerBase, turn: str, vocab_size: int, num_memory_tokens: int) -> list[int]:
    """Return a turn's ids in the compressor's own tokenizer, followed by its memory slots.

    Args:
        tokenizer: the compressor's tokenizer, not the language model's.
        turn: the words.
        vocab_size: `MambaCompressor.vocab_size`; slot j is `vocab_size + j`.
        num_memory_tokens: k.
    """
    return encode_turns(tokenizer, [turn], vocab_size, num_memory_tokens)


def encode_turns(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], vocab_size: int, num_memory_tokens: int
) -> list[int]:
    """Return what `encode_turn` makes of each turn, joined; one call of the tokenizer is much faster than many."""
    known = _known_turns(tokenizer, len(tokenizer))
    unknown = [turn for turn in dict.fromkeys(turns) if turn not in known]
    if len(known) + len(unknown) > _MAX_KNOWN_TURNS:
        known.clear()
        unknown = list(dict.fromkeys(turns))
    if unknown:
        known |= zip(unknown, _encode_batch(tokenizer, unknown), strict=True)
    slots = range(vocab_size, vocab_size + num_memory_tokens)
    return [token for turn in turns for token in (*known[turn], *slots)]


def _encode_batch(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[tuple[int, ...]]:
    """Return the ids of texts, all of each; a fast tokenizer is asked itself, for ids alone, a quarter sooner."""
    if tokenizer.is_fast:
        backend: Any = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        return [tuple(found.ids) for found in backend.encode_batch_fast(texts, add_special_tokens=False)]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return [tuple(ids) for ids in encoded]


@lru_cache(maxsize=4)
def _known_turns(tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> dict[str, tuple[int, ...]]:
    """Return the ids of turns that a tokenizer, as large as it is, has read already; filled by `encode_turns`."""
    return {}


@dataclass(frozen=True)
class CompressionCollator:
    """Turns histories into the tensors of the objectives.

    Attributes:
        tokenizer: the compressor's tokenizer.
        llm_tokenizer: the language model's tokenizer, which must know `MEMORY_TOKEN`.
        vocab_size: `MambaCompressor.vocab_size`.
        num_memory_tokens: k.
        max_prompt_tokens: longest prompt; the oldest turns give way, for memory and text reader alike. A turn to be
            rebuilt is learnt up to this length.
        has_text: whether the rows of the text reader are wanted, and so have to fit.
    """

    tokenizer: PreTrainedTokenizerBase
    llm_tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    num_memory_tokens: int
    max_prompt_tokens: int = 4096
    has_text: bool = True

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build a batch from `{"history": History, "target_turn": int}`.

        Returns:
            `input_ids` (B, T_h), histories with slots. `reply_ids`, `reply_labels` (B, T_r), memory placeholders,
            the current words and the reply; only the reply is labelled. `text_ids`, `text_labels` (B, T_x), if
            `has_text`: the same with the history written out, as the teacher reads it. `turn_ids`, `turn_labels`
            (B, T_t): the placeholders of `target_turn` and that turn's words. `target_turn` int64 (B,).

        Raises:
            PromptTooLong: a current turn alone exceeds `max_prompt_tokens`.
        """
        written = [self._write(example["history"]) for example in examples]
        targets = [
            _target(example["target_turn"], len(example["history"].turns), len(prompts.turns))
            for example, prompts in zip(examples, written, strict=True)
        ]
        replies = [self._chat.encode_reply(example["history"].reply) for example in examples]
        lines = [[turn.line for turn in prompts.turns] for prompts in written]
        histories = [encode_turns(self.tokenizer, part, self.vocab_size, self.num_memory_tokens) for part in lines]
        batch = {
            "input_ids": pad_right(histories, PAD),
            **_pad_rows("reply", [prompts.memory for prompts in written], replies),
            **_pad_rows(
                "turn",
                self._turn_prompts([example["history"].fixed.system for example in examples]),
                [self._rebuilt(part, target) for part, target in zip(lines, targets, strict=True)],
            ),
            "target_turn": torch.tensor(targets),
        }
        return batch | _pad_rows("text", [p.text for p in written], replies) if self.has_text else batch

    def num_history_tokens(self, history: History) -> tuple[int, int]:
        """Return the tokens that a history takes up in the prompt as text, and as memories."""
        bare = len(self._memory_prompt((), history.fixed, None)[1])
        as_text, as_memory = (
            len(write(history.turns, history.fixed, None)[1]) for write in (self._text_prompt, self._memory_prompt)
        )
        return as_text - bare, as_memory - bare

    @property
    def _chat(self) -> ChatFormat:
        return chat_format(self.llm_tokenizer)

    def _write(self, history: History) -> "_Prompts":
        """Write the prompts of a history, with as many of its newest turns as fit all of them."""
        turns, limit = history.turns, self.max_prompt_tokens
        kept, memory = self._memory_prompt(turns, history.fixed, limit)
        turns = turns[len(turns) - kept :]
        text: list[int] = []
        if self.has_text:
            kept, text = self._text_prompt(turns, history.fixed, limit)
            if kept < len(turns):
                turns = turns[len(turns) - kept :]
                memory = self._memory_prompt(turns, history.fixed, limit)[1]
        return _Prompts(turns, memory, text)

    def _memory_prompt(self, turns: Sequence[Utterance], fixed: FixedParts, limit: int | None) -> tuple[int, list[int]]:
        return memory_prompt(self._chat, fixed, len(turns), self.num_memory_tokens, limit)

    def _text_prompt(self, turns: Sequence[Utterance], fixed: FixedParts, limit: int | None) -> tuple[int, list[int]]:
        return text_prompt(self._chat, fixed, [turn.message for turn in turns], limit)

    def _turn_prompts(self, systems: Sequence[str]) -> list[list[int]]:
        """Return the prompts from which a turn is rebuilt: its memory, and nothing else in the user's message."""
        written = {
            system: memory_prompt(self._chat, FixedParts(system), 1, self.num_memory_tokens, None)[1]
            for system in set(systems)
        }
        return [written[system] for system in systems]

    def _rebuilt(self, lines: Sequence[str], target: int) -> list[int]:
        """Return the words of a turn to be said from its memory; none where there is no turn."""
        return self._chat.encode_reply(lines[target])[: self.max_prompt_tokens] if lines else []


class _Prompts(NamedTuple):
    """The turns that fit, and the prompts of memory and text reader with them."""

    turns: tuple[Utterance, ...]
    memory: list[int]
    text: list[int]


def _target(turn: int, num_turns: int, num_kept: int) -> int:
    """Return where a turn stands among those kept; of another one in its place if it is not."""
    place = turn - (num_turns - num_kept)
    return place if place >= 0 else turn % max(num_kept, 1)


def _pad_rows(name: str, prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> dict[str, Tensor]:
    rows = list(zip(prompts, answers, strict=True))
    return {
        f"{name}_ids": pad_right([prompt + answer for prompt, answer in rows], PAD),
        f"{name}_labels": pad_right([[IGNORE] * len(prompt) + answer for prompt, answer in rows], IGNORE),
    }
