"""Similarity of contexts by a sentence-transformers model, where the recipe names one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from epo.data.dialogue import DataError


class EmbeddingIndex:
    """Cosine similarity between the sentence embeddings of a pool of contexts."""

    def __init__(self, contexts: Sequence[str], model: str) -> None:
        """Embed the pool.

        Args:
            contexts: the pool.
            model: a name on the hub or a folder, read by sentence-transformers; code of the model's own is refused.

        Raises:
            DataError: sentence-transformers is not installed.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise DataError(
                f"embedding_model {model!r} needs sentence-transformers: `pip install sentence-transformers`; "
                "or leave it out to retrieve by BM25, which needs no download"
            ) from None
        encoder = SentenceTransformer(model, trust_remote_code=False)
        self._vectors_NH = encoder.encode(list(contexts), normalize_embeddings=True, show_progress_bar=True)

    def similarity(self, queries_Q: NDArray[np.int64], documents_D: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (Q, D) cosines in [-1, 1]."""
        return self._vectors_NH[queries_Q] @ self._vectors_NH[documents_D].T
