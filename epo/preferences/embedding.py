"""Similarity of queries and documents by a sentence-transformers model, where the recipe names one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epo.extras import missing_extra
from epo.judging.sentence_encoder import SentenceEncoder


class EmbeddingIndex:
    """Cosine similarity between the sentence embeddings of queries and documents."""

    def __init__(self, queries: Sequence[str], documents: Sequence[str], model: str) -> None:
        """Embed both.

        Args:
            queries: what is looked for.
            documents: where it is looked for.
            model: a name on the hub or a folder, read by sentence-transformers; code of the model's own is refused.
                Where that package is missing, a folder is read by `SentenceEncoder`, which knows the usual models.

        Raises:
            MissingExtraError: sentence-transformers is not installed, and the model is no folder.
            DataError: or it is a folder, and its pooling is not supported.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            if not Path(model).is_dir():
                raise missing_extra(f"embedding_model {model!r}", "sentence_transformers") from None
            own = SentenceEncoder.load(model)
            self._queries_NH, self._documents_NH = (_normalised(own.encode(texts)) for texts in (queries, documents))
            return
        encoder = SentenceTransformer(model, trust_remote_code=False)
        self._queries_NH, self._documents_NH = (
            encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=True)
            for texts in (queries, documents)
        )

    def similarity(self, queries_Q: NDArray[np.int64], documents_D: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (Q, D) cosines in [-1, 1]."""
        cosines_QD: NDArray[np.float32] = self._queries_NH[queries_Q] @ self._documents_NH[documents_D].T
        return cosines_QD


def _normalised(vectors_NH: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths_N1 = np.linalg.norm(vectors_NH, axis=1, keepdims=True)
    unit_NH: NDArray[np.float32] = vectors_NH / np.maximum(lengths_N1, 1e-12)
    return unit_NH
