"""Sentence embeddings by a sentence-transformers model, where the recipe names one; similarity of texts by them."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from epo.extras import missing_extra


class Encoder(Protocol):
    """Turns texts into sentence embeddings."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 (N, H), each row of length 1."""
        ...


class SentenceEncoder:
    """A sentence-transformers model."""

    def __init__(self, model: str) -> None:
        """Load the model.

        Args:
            model: a name on the hub or a folder, read by sentence-transformers; code of the model's own is refused.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise missing_extra(f"embedding_model {model!r}", "sentence_transformers") from None
        self._model = SentenceTransformer(model, trust_remote_code=False)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        found: NDArray[np.float32] = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=True)
        return found


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
            self._known |= dict(zip(new, self._encoder.encode(new), strict=True))

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
        self._queries_NH, self._documents_NH = encoder.encode(queries), encoder.encode(documents)

    def similarity(self, queries_Q: NDArray[np.int64], documents_D: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (Q, D) cosines in [-1, 1]."""
        cosines_QD: NDArray[np.float32] = self._queries_NH[queries_Q] @ self._documents_NH[documents_D].T
        return cosines_QD
