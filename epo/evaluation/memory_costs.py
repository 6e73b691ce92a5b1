"""What memories cost and save: tokens, seconds and bytes of reading a history of n turns, beside reading it as text."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compressor.chat import chat_format
from compressor.data import encode_turns
from compressor.fitting import FixedParts, memory_prompt, text_prompt
from compressor.modeling import MambaCompressor
from compressor.placeholders import embed_tokens, fill_placeholders
from compressor.streaming import MemoryStream, can_stream
from compressor.text import PAD, pad_right
from compressor.utterance import Utterance
from epo.model.live_memory import LiveBytes


@dataclass(frozen=True)
class Readers:
    """A language model and the compressor that was made for it.

    Attributes:
        llm: the language model.
        llm_tokenizer: its own, which knows the placeholders.
        memory_id: of the memory placeholder.
        compressor: of any kind.
        tokenizer: the compressor's.
        fixed: what stands around the history in each prompt.
    """

    llm: PreTrainedModel
    llm_tokenizer: Any
    memory_id: int
    compressor: MambaCompressor
    tokenizer: Any
    fixed: FixedParts

    def text_ids(self, turns: Sequence[Utterance]) -> list[int]:
        """Return the prompt with the history as text."""
        return text_prompt(chat_format(self.llm_tokenizer), self.fixed, [turn.message for turn in turns], None)[1]

    def memory_ids(self, turns: Sequence[Utterance]) -> list[int]:
        """Return the prompt with the history as memories."""
        k = self.compressor.config.num_memory_tokens
        return memory_prompt(chat_format(self.llm_tokenizer), self.fixed, len(turns), k, None)[1]

    def history_ids(self, turns: Sequence[Utterance]) -> list[int]:
        """Return what the compressor reads."""
        k = self.compressor.config.num_memory_tokens
        return encode_turns(self.tokenizer, [turn.line for turn in turns], self.compressor.vocab_size, k)

    def read_text(self, ids: list[int]) -> Any:
        """Read a prompt and return the language model's cache, from which a reply would go on."""
        return self.llm(input_ids=torch.tensor([ids], device=self.llm.device), use_cache=True, logits_to_keep=1)

    def compress(self, history_ids: list[int]) -> Tensor:
        """Return memories, (1, M, D)."""
        vectors: Tensor = self.compressor(input_ids=pad_right([history_ids], PAD).to(self.llm.device)).vectors
        return vectors

    def read_memories(self, ids: list[int], vectors: Tensor) -> Any:
        """Read a prompt with memories and return as `read_text`."""
        tokens = torch.tensor([ids], device=self.llm.device)
        embeds = embed_tokens(self.llm.get_input_embeddings(), tokens, (self.memory_id,))
        mask = torch.ones(vectors.shape[:2], dtype=torch.bool, device=tokens.device)
        embeds = fill_placeholders(embeds, tokens, self.memory_id, vectors.to(embeds.dtype), mask)
        return self.llm(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)


@torch.no_grad()
def measure_costs(
    readers: Readers, turns: Sequence[Utterance], lengths: Sequence[int], repeats: int = 5
) -> list[dict[str, Any]]:
    """Measure prompts of several lengths, each of the ways in turn, round after round, so that load falls on all alike.

    Args:
        readers: who reads.
        turns: of real dialogues; the longest history takes as many, from the beginning again where there are fewer.
        lengths: numbers of past turns.
        repeats: rounds, after one that is not counted.

    Returns:
        A row a length: `turns`; `text_tokens` and `memory_tokens` of the prompt, of it `history_text_tokens` and
        `history_memory_tokens`; medians in milliseconds of `text_ms`, a prefill of the text, of `compress_ms` and
        `memory_ms`, a prefill of memories without compressing, and of `turn_ms`, taking in one more turn, the same at
        each length, where the compressor can stream; `text_bytes` and `memory_bytes`, most that tensors held at once
        beside the weights, cache and compression included.
    """
    readers.llm.eval()
    readers.compressor.eval()
    bare = len(readers.text_ids(()))
    rows = [_Case(readers, [turns[i % len(turns)] for i in range(length)]) for length in lengths]
    times: list[dict[str, list[float]]] = [{} for _ in rows]
    for step in range(repeats + 1):
        for row, found in zip(rows, times, strict=True):
            for name, work in row.works.items():
                began = time.perf_counter()
                work()
                if step > 0:
                    found.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
    return [
        {
            "turns": length,
            "text_tokens": len(row.text),
            "memory_tokens": len(row.memory),
            "history_text_tokens": len(row.text) - bare,
            "history_memory_tokens": len(row.memory) - bare,
            **{name: statistics.median(seconds) for name, seconds in found.items()},
            "text_bytes": _peak(row.works["text_ms"]),
            "memory_bytes": max(_peak(row.works["compress_ms"]), _peak(row.works["memory_ms"]) + row.vector_bytes),
        }
        for length, row, found in zip(lengths, rows, times, strict=True)
    ]


class _Case:
    """One history, ready to be read in each way."""

    def __init__(self, readers: Readers, turns: Sequence[Utterance]) -> None:
        self.text, self.memory, ids = readers.text_ids(turns), readers.memory_ids(turns), readers.history_ids(turns)
        vectors = readers.compress(ids)
        self.vector_bytes = vectors.numel() * vectors.element_size()
        self.works: dict[str, Callable[[], Any]] = {
            "text_ms": lambda: readers.read_text(self.text),
            "compress_ms": lambda: readers.compress(ids),
            "memory_ms": lambda: readers.read_memories(self.memory, vectors),
        }
        if can_stream(readers.compressor):
            stream, turn = MemoryStream(readers.compressor), _one_turn(readers)
            stream.append(ids)
            self.works["turn_ms"] = lambda: stream.append(turn)


def _one_turn(readers: Readers) -> list[int]:
    return readers.history_ids([Utterance("user", "I went to the lake with Mira and it rained all day.")])


def _peak(work: Callable[[], Any]) -> int:
    with LiveBytes() as live:
        work()
    peak: int = live.peak
    return peak


def break_even(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return from how many turns on memories, compressed anew, are read faster than text: between lengths by a line.

    Args:
        rows: of `measure_costs`, the shortest history first.

    Returns:
        The least length where that is so already; None where it never is.
    """
    gains = [row["text_ms"] - row["compress_ms"] - row["memory_ms"] for row in rows]
    last = max((i for i, gain in enumerate(gains) if gain <= 0), default=-1)
    if last + 1 == len(rows):
        return None
    if last < 0:
        return float(rows[0]["turns"])
    low, high = rows[last]["turns"], rows[last + 1]["turns"]
    return float(low + (high - low) * -gains[last] / (gains[last + 1] - gains[last]))


__all__ = ["Readers", "break_even", "measure_costs"]
