"""Similarity of queries and documents by a sentence-transformers model, where the recipe names one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from epo.sentence_model import load_sentence_model


class EmbeddingIndex:
    """Cosine similarity between the sentence embeddings of queries and documents."""

    def __init__(self, queries: Sequence[str], documents: Sequence[str], model: str) -> None:
        """Embed both.

        Args:
            queries: what is looked for.
            documents: where it is looked for.
            model: a name on the hub or a folder, of `epo.sentence_model`.

        Raises:
            MissingExtraError: sentence-transformers is not installed.
            PartError: there is no such model.
        """
        encoder = load_sentence_model(model, "embedding_model")
        self._queries_NH, self._documents_NH = (
            encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=True)
            for texts in (queries, documents)
        )

    def similarity(self, queries_Q: NDArray[np.int64], documents_D: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (Q, D) cosines in [-1, 1]."""
        cosines_QD: NDArray[np.float32] = self._queries_NH[queries_Q] @ self._documents_NH[documents_D].T
        return cosines_QD
