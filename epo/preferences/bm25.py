"""BM25 between the contexts of one pool of replies: the offline default for finding similar contexts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from sklearn.feature_extraction.text import CountVectorizer

from epo.preferences.scores import words_or_mark

_K1, _B = 1.5, 0.75  # the customary values


class Bm25Index:
    """Scores every document of a pool for every query.

    Source: Robertson and Zaragoza 2009, doi 10.1561/1500000019, eq. 3.15, with the idf of Lucene, which is never
    negative.
    """

    def __init__(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        """Count words; those without a word are near to each other alone."""
        vectorizer = CountVectorizer(tokenizer=words_or_mark, token_pattern=None, lowercase=False, dtype=np.float32)
        self._documents_NV = _saturate(csr_array(vectorizer.fit_transform(documents)))
        self._queries_NV = csr_array(vectorizer.transform(queries)).sign()

    def similarity(self, queries_Q: NDArray[np.int64], documents_D: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32 (Q, D) scores, at least 0; higher is nearer."""
        scores_QD: NDArray[np.float32] = (self._queries_NV[queries_Q] @ self._documents_NV[documents_D].T).toarray()
        return scores_QD


def _saturate(counts_NV: csr_array) -> csr_array:
    """Replace each count by its share of the BM25 score, idf included."""
    num_documents = counts_NV.shape[0]
    lengths_N = counts_NV.sum(axis=1)
    frequency_V = counts_NV.sign().sum(axis=0)
    idf_V = np.log1p((num_documents - frequency_V + 0.5) / (frequency_V + 0.5))
    penalty_N = _K1 * (1 - _B + _B * lengths_N / max(1.0, lengths_N.mean()))
    weights = counts_NV.copy()
    rows = np.repeat(np.arange(num_documents), np.diff(weights.indptr))
    weights.data = weights.data * (_K1 + 1) / (weights.data + penalty_N[rows])
    return csr_array(weights @ diags_array(idf_V.astype(np.float32)))
