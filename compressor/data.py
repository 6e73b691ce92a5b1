"""Histories become right-padded batches: what the compressor reads and what the language model must then say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compressor.placeholders import MEMORY_TOKEN

IGNORE = -100
"""Label of a position that no loss counts (torch's own convention)."""


class CompressorDataError(ValueError):
    """A text that cannot be trained on; the message says which and what to do."""


class Utterance(NamedTuple):
    """One past turn: who spoke, "user" or "assistant", and the words."""

    speaker: str
    text: str

    @property
    def line(self) -> str:
        """The turn as the compressor reads it: "user: I met Mira."."""
        return f"{self.speaker}: {self.text}"


@dataclass(frozen=True)
class History:
    """The turns before the current one, the current words, and the reply they lead to.

    Attributes:
        turns: past turns, oldest first.
        current: what the language model reads after the memory, apart from placeholders.
        reply: what it should then say.
    """

    turns: tuple[Utterance, ...]
    current: str
    reply: str


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
    if not turns:
        return []
    slots = range(vocab_size, vocab_size + num_memory_tokens)
    encoded = tokenizer(list(turns), add_special_tokens=False, return_attention_mask=False)["input_ids"]
    return [token for ids in encoded for token in (*ids, *slots)]


def pad_right(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Pad rows of ids on the right to the longest; int64 (B, T) with T at least 1."""
    length = max(1, *(len(row) for row in rows)) if rows else 1
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.long)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """Render messages with the tokenizer's chat template, ready for the assistant's next words.

    Raises:
        CompressorDataError: the tokenizer has no chat template.
    """
    if tokenizer.chat_template is None:
        raise CompressorDataError(
            f"tokenizer {tokenizer.name_or_path!r} has no chat template; use an instruction-tuned model, or save one "
            "with `tokenizer.chat_template = ...; tokenizer.save_pretrained(...)`"
        )
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)


def encode_reply(tokenizer: PreTrainedTokenizerBase, reply: str) -> list[int]:
    """Return the ids of a reply and the end-of-turn token that closes it."""
    return [*tokenizer.encode(reply, add_special_tokens=False), tokenizer.eos_token_id]


@dataclass(frozen=True)
class CompressionCollator:
    """Turns histories into the tensors of the two objectives.

    Attributes:
        tokenizer: the compressor's tokenizer.
        llm_tokenizer: the language model's tokenizer, which must know `MEMORY_TOKEN`.
        vocab_size: `MambaCompressor.vocab_size`.
        num_memory_tokens: k.
    """

    tokenizer: PreTrainedTokenizerBase
    llm_tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    num_memory_tokens: int

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build a batch from `{"history": History, "target_turn": int}`.

        Returns:
            `input_ids` (B, T_h): histories with slots. `reply_ids`, `reply_labels` (B, T_r): memory placeholders,
            the current words and the reply; only the reply is labelled. `text_ids`, `text_labels` (B, T_x): the same
            with the history written out, as the teacher reads it. `turn_ids`, `turn_labels` (B, T_t): the
            placeholders of `target_turn` and that turn's words. `target_turn` int64 (B,).
        """
        histories = [example["history"] for example in examples]
        targets = [example["target_turn"] for example in examples]
        replies = [self._reply_rows(history) for history in histories]
        texts = [self._text_rows(history) for history in histories]
        turns = [self._turn_rows(history.turns[t]) for history, t in zip(histories, targets, strict=True)]
        pad = _pad_id(self.llm_tokenizer)
        return {
            "input_ids": pad_right([self._encode(history) for history in histories], 0),
            "reply_ids": pad_right([ids for ids, _ in replies], pad),
            "reply_labels": pad_right([labels for _, labels in replies], IGNORE),
            "text_ids": pad_right([ids for ids, _ in texts], pad),
            "text_labels": pad_right([labels for _, labels in texts], IGNORE),
            "turn_ids": pad_right([ids for ids, _ in turns], pad),
            "turn_labels": pad_right([labels for _, labels in turns], IGNORE),
            "target_turn": torch.tensor(targets),
        }

    def _encode(self, history: History) -> list[int]:
        lines = [turn.line for turn in history.turns]
        return encode_turns(self.tokenizer, lines, self.vocab_size, self.num_memory_tokens)

    def _reply_rows(self, history: History) -> tuple[list[int], list[int]]:
        memory = MEMORY_TOKEN * (self.num_memory_tokens * len(history.turns))
        return self._rows([_message("user", memory + history.current)], history.reply)

    def _text_rows(self, history: History) -> tuple[list[int], list[int]]:
        past = [_message(turn.speaker, turn.text) for turn in history.turns]
        return self._rows([*past, _message("user", history.current)], history.reply)

    def _turn_rows(self, turn: Utterance) -> tuple[list[int], list[int]]:
        return self._rows([_message("user", MEMORY_TOKEN * self.num_memory_tokens)], turn.line)

    def _rows(self, messages: list[dict[str, str]], answer: str) -> tuple[list[int], list[int]]:
        prompt = encode_prompt(self.llm_tokenizer, messages)
        reply = encode_reply(self.llm_tokenizer, answer)
        return prompt + reply, [IGNORE] * len(prompt) + reply


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
