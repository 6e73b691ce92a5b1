"""What memories keep: the next reply's likelihood, names and numbers by the age of their turn, turns said again.

Every way to tell a history is read by the same frozen language model, teacher-forced over the same gold replies: the
whole history as text, no history, the newest turns as text that fit the room of the memories, and memories.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from compressor.chat import ChatFormat, chat_format
from compressor.data import encode_turns
from compressor.decoding import plain_decoding
from compressor.evaluation import same_length
from compressor.fitting import FixedParts, memory_prompt, text_prompt
from compressor.modeling import MambaCompressor
from compressor.objectives import labelled_span, memory_embeds, memory_logits, token_nll
from compressor.text import IGNORE, PAD, pad_left, pad_right
from compressor.utterance import Utterance, words_of
from compressor.words import contains_words
from epo.data.replies import Reply
from epo.evaluation.ages import age_label
from epo.evaluation.metrics import bootstrap_interval
from epo.evaluation.reconstruction import Rebuilt, reconstruction_report
from epo.model.generation import generate
from epo.preferences.names_and_numbers import mentions_of
from epo.prompts.histories import history_of
from epo.prompts.layout import Layout
from epo.ranks import gather_shares, share

_LONGEST_TURN = 64
"""Tokens up to which a turn is rebuilt."""


@dataclass(frozen=True)
class Mention:
    """A name, number or other fact of a gold reply that only the history tells.

    Attributes:
        words: as they stand in the reply.
        age: how many turns back it was last said; 1 is the turn before the one to answer.
    """

    words: str
    age: int


@dataclass(frozen=True)
class Hit:
    """Whether a mention was recalled.

    Attributes:
        dialogue_id: of the gold reply.
        age: of the mention.
        is_recalled: whether each of its tokens was the likeliest, teacher-forced.
    """

    dialogue_id: str
    age: int
    is_recalled: bool


@dataclass(frozen=True)
class Scores:
    """What the language model makes of one gold reply.

    Attributes:
        nll: float (R,), nats of each token.
        is_likeliest: bool (R,), whether no token was likelier.
    """

    nll: np.ndarray
    is_likeliest: np.ndarray


@dataclass(frozen=True)
class HistoryReader:
    """A frozen language model that is told histories in one way or another.

    Attributes:
        llm: the language model.
        tokenizer: its own, which knows the placeholders.
        memory_id: of the memory placeholder.
        layout: of the prompts; its system prompt is the one the memories were trained under.
        batch_size: replies at a time.
    """

    llm: PreTrainedModel
    tokenizer: Any
    memory_id: int
    layout: Layout
    batch_size: int = 4

    @property
    def chat(self) -> ChatFormat:
        """How the language model is talked to."""
        return chat_format(self.tokenizer)

    def as_text(self, reply: Reply, limit: int | None = None, is_told: bool = True) -> list[int]:
        """Return a prompt with the newest turns as text that fit a limit: all where it is None, or not told at all."""
        history = history_of(reply, self.layout, names_emotion=True)
        past = [turn.message for turn in history.turns] if is_told else []
        return text_prompt(self.chat, history.fixed, past, limit)[1]

    def as_memory(self, reply: Reply, num_memory_tokens: int) -> list[int]:
        """Return a prompt with k placeholders a turn of the history."""
        history = history_of(reply, self.layout, names_emotion=True)
        return memory_prompt(self.chat, history.fixed, len(history.turns), num_memory_tokens, None)[1]

    @torch.no_grad()
    def score(
        self, prompts: Sequence[list[int]], replies: Sequence[list[int]], memories: Sequence[Tensor] | None = None
    ) -> list[Scores]:
        """Score gold replies after prompts, whose placeholders are filled with memories (M, D) where there are any.

        Every rank does its share and gets all.
        """
        found: list[Scores] = []
        asked, wanted_replies = share(prompts), share(replies)
        filling = None if memories is None else share(memories)
        for start in range(0, len(asked), self.batch_size):
            part = slice(start, start + self.batch_size)
            rows = list(zip(asked[part], wanted_replies[part], strict=True))
            ids = pad_right([prompt + reply for prompt, reply in rows], PAD).to(self.llm.device)
            labels = pad_right([[IGNORE] * len(prompt) + reply for prompt, reply in rows], IGNORE).to(ids.device)
            given = [torch.zeros(0, 1)] * len(rows) if filling is None else filling[part]
            logits, labels = self._logits(ids, labels, given)
            nll, likeliest = token_nll(logits, labels).cpu(), logits[:, :-1].argmax(dim=-1).cpu()
            for row, wanted in enumerate(labels[:, 1:].cpu()):
                is_reply = wanted != IGNORE
                found.append(Scores(nll[row][is_reply].numpy(), (likeliest[row] == wanted)[is_reply].numpy()))
        return gather_shares(found)

    @torch.no_grad()
    def say(self, prompts: Sequence[list[int]], memories: Sequence[Tensor], max_new_tokens: int) -> list[str]:
        """Return what the language model says, greedily, to prompts filled with memories; else as `score`."""
        found: list[str] = []
        asked, filling = share(prompts), share(memories)
        for start in range(0, len(asked), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = {name: tensor.to(self.llm.device) for name, tensor in pad_left(asked[part]).items()}
            ids = batch["input_ids"]
            embeds = memory_embeds(self.llm, ids, self.memory_id, *self._stacked(filling[part]))
            with plain_decoding(self.llm, temperature=0) as greedy:
                said = generate(
                    self.llm,
                    ids.masked_fill(ids == self.memory_id, PAD),  # which may lie beyond the model's own words
                    batch["attention_mask"],
                    embeds,
                    **greedy,
                    max_new_tokens=max_new_tokens,
                    use_cache=True,
                    eos_token_id=self.chat.stop_ids,
                    pad_token_id=PAD,
                )
            found += [self.chat.decode(row) for row in said[:, ids.size(1) :].tolist()]
        return gather_shares(found)

    def _logits(self, ids: Tensor, labels: Tensor, memories: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        span = labelled_span(labels)
        return memory_logits(self.llm, ids, self.memory_id, *self._stacked(memories), span), labels[:, span]

    def _stacked(self, memories: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return memories (B, L, D), right-padded to one at least, and which are real, bool (B, L)."""
        length = max(1, *(len(memory) for memory in memories))
        width = self.llm.get_input_embeddings().embedding_dim
        vectors = torch.zeros(len(memories), length, width, device=self.llm.device)
        mask = torch.zeros(len(memories), length, dtype=torch.bool, device=self.llm.device)
        for row, memory in enumerate(memories):
            if len(memory):
                vectors[row, : len(memory)], mask[row, : len(memory)] = memory, True
        return vectors, mask


@torch.no_grad()
def memories_of(compressor: MambaCompressor, tokenizer: Any, histories: Iterable[Sequence[Utterance]]) -> list[Tensor]:
    """Return the memories of histories, (k * turns, D) each."""
    compressor.eval()
    k, found = compressor.config.num_memory_tokens, []
    for turns in histories:
        ids = encode_turns(tokenizer, [turn.line for turn in turns], compressor.vocab_size, k)
        memory = compressor(input_ids=pad_right([ids], PAD).to(compressor.device))
        found.append(memory.vectors[0][memory.mask[0]].float())
    return found


def mentions(reply: Reply) -> list[Mention]:
    """Return what a gold reply repeats of its history: its facts where the corpus has some, else names and numbers.

    Left out is what the turn to answer says itself, and what no past turn says.
    """
    if reply.facts:
        candidates = list(reply.facts)
    else:
        seen = mentions_of(reply.text, reply.language)
        candidates = sorted(seen.names | seen.shouted | seen.numbers)
    found = []
    for words in candidates:
        said = [place for place, turn in enumerate(reply.history) if contains_words(turn.text, words)]
        if said and contains_words(reply.text, words) and not contains_words(reply.current.text, words):
            found.append(Mention(words, len(reply.history) - said[-1]))
    return found


class QualityTest:
    """Gold replies of held-out dialogues, scored once for each way of telling their histories."""

    def __init__(self, reader: HistoryReader, replies: Sequence[Reply]) -> None:
        """Take replies that have a history, of two dialogues at least."""
        self._reader, self._replies = reader, [reply for reply in replies if reply.history]
        self._texts = [history_of(reply, reader.layout, True).reply for reply in self._replies]
        self._said = [reader.chat.encode_reply(text) for text in self._texts]
        self._mentions = [mentions(reply) for reply in self._replies]

    @property
    def replies(self) -> Sequence[Reply]:
        """The gold replies that are scored."""
        return self._replies

    @property
    def dialogue_ids(self) -> list[str]:
        """The dialogue of each reply."""
        return [reply.dialogue_id for reply in self._replies]

    @cached_property
    def full(self) -> list[Scores]:
        """Scores after the whole history as text."""
        return self._score(self._reader.as_text)

    def without_history(self) -> dict[str, Any]:
        """Return the report of a reader that is told nothing of the past."""
        return self.report(self._score(lambda reply: self._reader.as_text(reply, is_told=False)))

    def with_text(self) -> dict[str, Any]:
        """Return the report of the reader of the whole history."""
        return self.report(self.full)

    def newest_turns(self, num_memory_tokens: int) -> dict[str, Any]:
        """Return the report of a reader of as many of the newest turns, as messages, as fit the room of memories.

        Where a single turn does not, nothing of the past is told.
        """

        def write(reply: Reply) -> list[int]:
            return self._reader.as_text(reply, len(self._reader.as_memory(reply, num_memory_tokens)))

        return self.report(self._score(write))

    def memory(self, compressor: MambaCompressor, tokenizer: Any, own: Sequence[Scores]) -> dict[str, Any]:
        """Return the report of memories, with `nll_swapped` and `reconstruction` (`epo.evaluation.reconstruction`).

        Args:
            compressor: of any kind.
            tokenizer: its own.
            own: of `memory_scores`.
        """
        swapped, built = self.swapped_scores(compressor, tokenizer), self.rebuilt(compressor, tokenizer)
        return self.report(own) | {"nll_swapped": _mean(swapped), "reconstruction": reconstruction_report(built)}

    def scores_after(self, prompts: Sequence[list[int]]) -> list[Scores]:
        """Return the scores of each reply after a prompt without memories."""
        return self._reader.score(prompts, self._said)

    def memory_scores(self, compressor: MambaCompressor, tokenizer: Any) -> list[Scores]:
        """Return the scores of each reply after its own memories."""
        memories = memories_of(compressor, tokenizer, self._histories(compressor))
        return self._score_memories(compressor, memories)

    def swapped_scores(self, compressor: MambaCompressor, tokenizer: Any) -> list[Scores]:
        """Return the scores of each reply after memories of another dialogue, of as many turns."""
        histories = self._histories(compressor)
        others = [self._another(index) for index in range(len(histories))]
        strange = [same_length(histories[o], len(h)) for h, o in zip(histories, others, strict=True)]
        return self._score_memories(compressor, memories_of(compressor, tokenizer, strange))

    def rebuilt(self, compressor: MambaCompressor, tokenizer: Any) -> list[Rebuilt]:
        """Return a past turn of each reply as the language model writes it, given its memory alone."""
        histories = self._histories(compressor)
        memories = memories_of(compressor, tokenizer, histories)
        k, system = compressor.config.num_memory_tokens, self._reader.layout.system_prompt
        prompt = memory_prompt(self._reader.chat, FixedParts(system), 1, k, None)[1]
        places = [index % len(turns) for index, turns in enumerate(histories)]  # all ages come up
        parts = [memory[k * place : k * (place + 1)] for memory, place in zip(memories, places, strict=True)]
        said = self._reader.say([prompt] * len(parts), parts, _LONGEST_TURN)
        return [
            Rebuilt(reply.dialogue_id, len(turns) - place, turns[place].text, words_of(line))
            for reply, turns, place, line in zip(self._replies, histories, places, said, strict=True)
        ]

    def report(self, scores: Sequence[Scores]) -> dict[str, Any]:
        """Return `nll` in nats a token, mean over replies, its `gap` to the full history, and `recall` by age.

        Intervals are of 95 %, drawn over dialogues. A mention is recalled where each of its tokens was the likeliest.
        """
        gaps = [own.nll.mean() - full.nll.mean() for own, full in zip(scores, self.full, strict=True)]
        clusters = self.dialogue_ids
        values = [float(score.nll.mean()) for score in scores]
        return {
            "nll": float(np.mean(values)),
            "nll_interval": bootstrap_interval(values, clusters=clusters),
            "gap": float(np.mean(gaps)),
            "gap_interval": bootstrap_interval([float(gap) for gap in gaps], clusters=clusters),
            "recall": self._recall(scores),
            "num_replies": len(scores),
        }

    def difference(self, scores: Sequence[Scores], others: Sequence[Scores]) -> dict[str, Any]:
        """Return how much lower the NLL of one way is than another's: mean over replies, interval over dialogues."""
        gains = [float(b.nll.mean() - a.nll.mean()) for a, b in zip(scores, others, strict=True)]
        clusters = self.dialogue_ids
        return {"nats_a_token": float(np.mean(gains)), "interval": bootstrap_interval(gains, clusters=clusters)}

    def hits(self, scores: Sequence[Scores]) -> list[Hit]:
        """Return which mentions of the gold replies were recalled, of those whose tokens are found."""
        found = []
        rows = zip(self._replies, self._texts, self._said, self._mentions, scores, strict=True)
        for reply, text, said, wanted, score in rows:
            for mention in wanted:
                places = token_places(self._reader.tokenizer, said, text, mention.words)
                if places:
                    found.append(Hit(reply.dialogue_id, mention.age, bool(score.is_likeliest[places].all())))
        return found

    def _recall(self, scores: Sequence[Scores]) -> dict[str, dict[str, Any]]:
        hits: dict[str, list[bool]] = {}
        for hit in self.hits(scores):
            for name in ("all", age_label(hit.age)):
                hits.setdefault(name, []).append(hit.is_recalled)
        return {name: {"share": float(np.mean(found)), "count": len(found)} for name, found in sorted(hits.items())}

    def _score(self, write: Callable[[Reply], list[int]]) -> list[Scores]:
        return self.scores_after([write(reply) for reply in self._replies])

    def _score_memories(self, compressor: MambaCompressor, memories: Sequence[Tensor]) -> list[Scores]:
        k = compressor.config.num_memory_tokens
        prompts = [self._reader.as_memory(reply, k) for reply in self._replies]
        return self._reader.score(prompts, self._said, memories)

    def _histories(self, compressor: MambaCompressor) -> list[tuple[Utterance, ...]]:
        layout = replace(self._reader.layout, history_emotions=compressor.config.history_emotions)
        return [history_of(reply, layout, True).turns for reply in self._replies]

    def _another(self, index: int) -> int:
        """Return the next reply of another dialogue."""
        ids = [reply.dialogue_id for reply in self._replies]
        order = [*range(index + 1, len(ids)), *range(index)]
        return next((i for i in order if ids[i] != ids[index]), index)


def token_places(tokenizer: Any, ids: Sequence[int], text: str, words: str) -> list[int]:
    """Return which tokens of a reply hold the characters of words in it; none where the words are not found.

    Args:
        tokenizer: the language model's.
        ids: of the reply.
        text: the reply as it was written.
        words: to be looked for, in any case.
    """
    ends = [len(tokenizer.decode(list(ids[: i + 1]))) for i in range(len(ids))]
    whole = tokenizer.decode(list(ids))
    start = whole.casefold().rfind(words.casefold())
    if start < 0 or len(whole.casefold()) != len(whole):
        return []
    begins = [0, *ends[:-1]]
    stop = start + len(words)
    return [i for i, (begin, end) in enumerate(zip(begins, ends, strict=True)) if begin < stop and end > start]


def _mean(scores: Sequence[Scores]) -> float:
    return float(np.mean([score.nll.mean() for score in scores]))


__all__ = ["Hit", "HistoryReader", "Mention", "QualityTest", "Scores", "memories_of", "mentions", "token_places"]
