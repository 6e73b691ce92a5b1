"""Source `retrieve`: another dialogue's reply to a similar context, in another emotion, each used about once."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compressor.progress import show_progress
from epo.data.replies import Reply
from epo.emotions import Emotion
from epo.preferences.embedding import EmbeddingIndex, Encoder
from epo.preferences.source import PairSource, SourceError
from epo.preferences.verification import Examiner

_BLOCK = 512  # queries scored at a time: bounds memory at 512 x pool size
_CANDIDATES = 20  # nearest contexts looked at for each reply in a round
_ROUNDS = 8

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RetrieveSettings:
    """Keys of source `retrieve`."""

    context_turns: int = field(default=5, metadata={"help": "turns before the reply that make its context"})

    def __post_init__(self) -> None:
        """Refuse a context without a turn."""
        if self.context_turns < 1:
            raise SourceError(f"context_turns is {self.context_turns}, want 1 or more")


class ContextIndex(Protocol):
    """How near the exchanges of a pool are to its contexts, by place."""

    def similarity(self, queries_Q: Indices, documents_D: Indices) -> NDArray[np.float32]:
        """Return float32 (Q, D); higher is nearer."""
        ...


class RetrieveSource:
    """Deals the gold replies of a split out again as rejected replies.

    The pool is the split itself, so no text crosses splits. Each reply is used as rejected about as often as it is
    chosen, that is once: a reply that turns up often on one side could be told by heart. Nearest contexts come first.
    """

    name = "retrieve"

    def __init__(self, settings: RetrieveSettings, examiner: Examiner, encoder: Encoder | None = None) -> None:
        """Prepare.

        Args:
            settings: what a context is; the last turn of a context is the user's current one.
            examiner: only candidates it accepts are used.
            encoder: of sentences, to compare contexts by; None: BM25.
        """
        self._settings = settings
        self._encoder = encoder
        self._examiner = examiner

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Return the emotions some reply of the pool has."""
        return frozenset(reply.known_emotion for reply in gold)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return one reply of another dialogue for each gold reply; where none fits, the nearest, or none."""
        index = self._index([context_text(reply, self._settings.context_turns) for reply in gold], gold)
        found: list[list[str]] = [[] for _ in gold]
        for emotion in show_progress(sorted(set(emotions)), "retrieve", "emotions"):
            asking = np.array([place for place, wanted in enumerate(emotions) if wanted == emotion])
            pool = np.array([place for place, reply in enumerate(gold) if reply.emotion == emotion])
            if pool.size == 0:
                continue  # the split has the emotion, but no reply with it is among those that get a pair
            for query, document in self._deal(gold, emotion, asking, pool, index).items():
                found[query] = [gold[document].text]
        return found

    def _index(self, contexts: Sequence[str], gold: Sequence[Reply]) -> ContextIndex:
        # A context is looked for in contexts with their replies, so that the reply too is about the same things.
        exchanges = [f"{context}\n{reply.text}" for context, reply in zip(contexts, gold, strict=True)]
        if self._encoder is None:
            from epo.preferences.bm25 import Bm25Index

            return Bm25Index(contexts, exchanges)
        return EmbeddingIndex(contexts, exchanges, self._encoder)

    def _deal(
        self, gold: Sequence[Reply], emotion: Emotion, asking: Indices, pool: Indices, index: ContextIndex
    ) -> dict[int, int]:
        """Match replies that ask for one emotion with replies that have it, in rounds of the nearest still free."""
        most_uses = math.ceil(len(asking) / len(pool))
        uses, taken, nearest = Counter[int](), dict[int, int](), dict[int, int]()
        for _ in range(_ROUNDS):
            queries = np.array([query for query in asking.tolist() if query not in taken], dtype=np.int64)
            documents = np.array([place for place in pool.tolist() if uses[place] < most_uses], dtype=np.int64)
            if queries.size == 0:
                break
            before = len(taken)
            for query, document in nearest_pairs(gold, queries, documents, index):
                nearest.setdefault(query, document)
                is_free = query not in taken and uses[document] < most_uses
                if is_free and self._examiner.accepts(gold[query], gold[document].text, emotion):
                    taken[query] = document
                    uses[document] += 1
            # What is left fits nothing that is left: let a reply serve once more rather than lose the pair.
            most_uses += len(taken) == before
        return nearest | taken


def nearest_pairs(
    gold: Sequence[Reply], queries: Indices, documents: Indices, index: ContextIndex
) -> list[tuple[int, int]]:
    """Return (query, document) for the nearest contexts of each query, the most similar pairs first.

    Documents of the query's own dialogue or of another language are left out.
    """
    if documents.size == 0:
        return []
    dialogue_ids = np.array([reply.dialogue_id for reply in gold])
    languages = np.array([reply.language for reply in gold])
    edges = []
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        scores_QD = index.similarity(block, documents).astype(np.float64)
        scores_QD[dialogue_ids[block][:, None] == dialogue_ids[documents][None, :]] = -np.inf
        scores_QD[languages[block][:, None] != languages[documents][None, :]] = -np.inf
        columns_QK = np.argsort(-scores_QD, axis=1, kind="stable")[:, :_CANDIDATES]
        for row, columns in enumerate(columns_QK):
            edges += [(scores_QD[row, column], int(block[row]), int(documents[column])) for column in columns]
    ranked = sorted((edge for edge in edges if edge[0] > -np.inf), key=lambda edge: (-edge[0], edge[1:]))
    return [(query, document) for _, query, document in ranked]


def context_text(reply: Reply, turns: int) -> str:
    """Return the words of the last `turns` turns before a reply."""
    return "\n".join(turn.text for turn in reply.last_turns(turns))


SOURCE = PairSource(
    about="another dialogue's reply of the counter emotion, whose exchange is nearest to this context",
    settings=RetrieveSettings,
    make=lambda settings, context: RetrieveSource(settings, context.examiner, context.encoder),
)
