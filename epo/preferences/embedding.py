"""Sentence embeddings of texts, and how near they are to each other; by a model where the recipe names one."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encoder(Protocol):
    """Turns texts into sentence embeddings, such as `epo.judging.sentence_encoder.SentenceEncoder`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (N, H)."""
        ...


class Embeddings:
    """Sentence embeddings of texts that were prepared, many at a time."""

    def __init__(self, encoder: Encoder) -> None:
        """Take what embeds; nothing is embedded yet."""
        self._encoder = encoder
        self._known: dict[str, NDArray[np.float32]] = {}

    def prepare(self, texts: Iterable[str]) -> None:
        """Embed those texts that were not embedded yet, at once."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, _unit_rows(self._encoder.encode(new)), strict=True))

    def similarity(self, first: str, second: str) -> float:
        """Return the cosine of two texts' embeddings, in [-1, 1]."""
        self.prepare([first, second])
        return float(self._known[first] @ self._known[second])


class EmbeddingIndex:
    """Cosine similarity between the sentence embeddings of queries and documents."""

    def __init__(self, queries: Sequence[str], documents: Sequence[str], encoder: Encoder) -> None:
        """Embed both.

        Args:
            queries: what is looked for.
            documents: where it is looked for.
            encoder: what embeds them.
        """
        self._queries_NH, self._documents_NH = (_unit_rows(encoder.encode(texts)) for texts in (queries, documents))

    def similarity(self, queries_Q: NDArray[np.int64], documents_D: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (Q, D) cosines in [-1, 1]."""
        cosines_QD: NDArray[np.float32] = self._queries_NH[queries_Q] @ self._documents_NH[documents_D].T
        return cosines_QD


def _unit_rows(vectors_NH: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each row divided by its length; one of length 0 stays as it is, near to nothing."""
    lengths_N1 = np.sqrt((vectors_NH**2).sum(axis=1, keepdims=True))
    lengths_N1[lengths_N1 == 0] = 1
    rows: NDArray[np.float32] = (vectors_NH / lengths_N1).astype(np.float32)
    return rows
