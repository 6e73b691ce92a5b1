"""Embedding judge: logistic regression on sentence embeddings, fitted on labelled text that people gave the labels."""

import hashlib
import io
import json
import uuid
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from epo.emotions import EMOTIONS, Emotion
from epo.judging.degenerate_text import is_degenerate
from epo.judging.judge import Floats, accuracy_of, macro_f1_of
from epo.judging.sentence_encoder import SentenceEncoder, Vectors
from epo.judging.word_judge import learnable

STRENGTHS = (0.03, 0.1, 1.0, 10.0)
"""Inverse strengths C of the penalty that are tried: embeddings have length 1, so their features are small."""

_FOLDS = 3
_FORM = 1  # of a stored head; another number where the same texts would be fitted otherwise


@dataclass(frozen=True)
class Head:
    """A logistic regression: probabilities are the softmax of `weights_EH @ vector + bias_E`.

    Attributes:
        weights_EH: float64 (E, H), rows in the order of `EMOTIONS`.
        bias_E: float64 (E,); minus infinity for an emotion that did not occur.
        strength: the C that was chosen.
    """

    weights_EH: Floats
    bias_E: Floats
    strength: float

    def read(self, vectors: Vectors) -> Floats:
        """Return float64 (N, E), each row summing to 1."""
        scores_NE = vectors.astype(np.float64) @ self.weights_EH.T + self.bias_E
        shares_NE = np.exp(scores_NE - scores_NE.max(axis=1, keepdims=True))
        probabilities: Floats = shares_NE / shares_NE.sum(axis=1, keepdims=True)
        return probabilities


def fit_head(vectors: Vectors, emotions: Sequence[Emotion], groups: Sequence[Hashable]) -> Head:
    """Fit a head in which every emotion weighs the same, its C chosen by cross-validation on these texts alone.

    Args:
        vectors: float32 (N, H), of length 1 or of scale 1.
        emotions: their labels, at least two different ones.
        groups: what each belongs to, such as its dialogue; a group is in one fold.

    Returns:
        The head with the C of the highest macro-F1 over all folds, of equal ones the smallest. With fewer groups than
        folds there is nothing to choose by, and C is 1.
    """
    labels = np.array([EMOTIONS.index(emotion) for emotion in emotions])
    names = list(dict.fromkeys(groups))
    place_of = {name: place for place, name in enumerate(names)}
    shuffled = np.random.default_rng(0).permutation(len(names))
    folds = shuffled[[place_of[group] for group in groups]] % _FOLDS
    if len(names) < _FOLDS or any(len(set(labels[folds != fold])) < 2 for fold in range(_FOLDS)):
        return _fit(vectors, labels, 1.0)
    scores = {strength: _cross_validate(vectors, labels, folds, strength) for strength in STRENGTHS}
    return _fit(vectors, labels, max(scores, key=lambda strength: (scores[strength], -strength)))


def _cross_validate(vectors: Vectors, labels: np.ndarray, folds: np.ndarray, strength: float) -> tuple[float, float]:
    """Return macro-F1 and accuracy of heads on the folds that they were not fitted on."""
    counts = np.zeros((len(EMOTIONS), len(EMOTIONS) + 1))
    for fold in range(_FOLDS):
        inside = folds == fold
        read = _fit(vectors[~inside], labels[~inside], strength).read(vectors[inside]).argmax(axis=1)
        np.add.at(counts, (labels[inside], read), 1)
    return float(macro_f1_of(counts)), float(accuracy_of(counts))


def _fit(vectors: Vectors, labels: np.ndarray, strength: float) -> Head:
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=strength, max_iter=1000, tol=1e-5, class_weight="balanced")
    regression.fit(vectors.astype(np.float64), labels)
    weights, bias = regression.coef_, regression.intercept_
    if len(weights) == 1:  # of two classes only the second has weights of its own
        weights, bias = np.concatenate([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
    whole, offsets = np.zeros((len(EMOTIONS), vectors.shape[1])), np.full(len(EMOTIONS), -np.inf)
    whole[regression.classes_], offsets[regression.classes_] = weights, bias
    return Head(whole, offsets, strength)


class EmbeddingJudge:
    """Reads emotions from sentence embeddings; each text is embedded once."""

    def __init__(self, encode: Callable[[Sequence[str]], Vectors], head: Head, name: str) -> None:
        """Take what embeds texts, and the head; use `EmbeddingJudge.fit`."""
        self._encode, self.head, self.name = encode, head, name
        self._known: dict[str, Floats] = {}

    @classmethod
    def fit(
        cls,
        encoder: SentenceEncoder,
        texts: Sequence[str],
        emotions: Sequence[Emotion],
        groups: Sequence[Hashable],
        name: str,
        cache: Path | None = None,
    ) -> Self:
        """Fit a judge; the same texts, labels and encoder always give the same one.

        Args:
            encoder: embeds texts.
            texts: labelled ones; degenerate ones are passed over.
            emotions: their labels.
            groups: what each belongs to, such as its dialogue.
            name: what reports call it.
            cache: folder that keeps embeddings and heads, so that another stage need not make them anew; None keeps
                nothing. A file there is taken only for the very same encoder, texts and labels.

        Raises:
            JudgeError: no text has a word, or fewer than two emotions occur.
            UnknownEmotionError: a label is not one of `EMOTIONS`.
        """
        kept = learnable(texts, emotions, "embedding judge")
        said, labels = [texts[place] for place in kept], [emotions[place] for place in kept]
        belongs = [groups[place] for place in kept]
        store = None if cache is None else _Store(cache, encoder.digest)
        head = None if store is None else store.head(said, labels, belongs)
        if head is None:
            vectors = encoder.encode(said) if store is None else store.vectors(encoder, said)
            head = fit_head(vectors, labels, belongs)
            if store is not None:
                store.keep_head(head, said, labels, belongs)
        if store is None:
            return cls(encoder.encode, head, name)
        return cls(lambda some: store.vectors(encoder, some), head, name)

    def read(self, texts: Sequence[str]) -> Floats:
        """See `EmotionJudge`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        said = [text for text in new if not is_degenerate(text)]
        even = np.full(len(EMOTIONS), 1 / len(EMOTIONS))
        self._known |= dict.fromkeys(new, even)
        if said:
            self._known |= dict(zip(said, self.head.read(self._encode(said)), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, len(EMOTIONS)))


class _Store:
    """Embeddings and heads in a folder, each under a digest of all that it is made from."""

    _FEW = 200  # texts that are embedded faster than they are worth a file

    def __init__(self, folder: Path, encoder_digest: str) -> None:
        self._folder, self._encoder = folder, encoder_digest

    def vectors(self, encoder: SentenceEncoder, texts: Sequence[str]) -> Vectors:
        """Return the embeddings of texts, from their file where there is one."""
        if len(texts) < self._FEW:
            return encoder.encode(texts)
        path = self._path([_FORM, list(texts)], "npy")
        if path.is_file():
            found: Vectors = np.load(path, allow_pickle=False)
            return found
        vectors = encoder.encode(texts)
        buffer = io.BytesIO()
        np.save(buffer, vectors, allow_pickle=False)
        self._write(path, buffer.getvalue())
        return vectors

    def head(self, texts: Sequence[str], emotions: Sequence[Emotion], groups: Sequence[Hashable]) -> Head | None:
        """Return the head that was fitted on these texts, None where there is none."""
        from safetensors.numpy import load_file

        path = self._path(self._head_key(texts, emotions, groups), "safetensors")
        if not path.is_file():
            return None
        found = load_file(path)
        return Head(found["weights"], found["bias"], float(found["strength"][0]))

    def keep_head(
        self, head: Head, texts: Sequence[str], emotions: Sequence[Emotion], groups: Sequence[Hashable]
    ) -> None:
        """Write a head down."""
        from safetensors.numpy import save

        tensors = {"weights": head.weights_EH, "bias": head.bias_E, "strength": np.array([head.strength])}
        self._write(self._path(self._head_key(texts, emotions, groups), "safetensors"), save(tensors))

    def _head_key(self, texts: Sequence[str], emotions: Sequence[Emotion], groups: Sequence[Hashable]) -> list[object]:
        return [_FORM, STRENGTHS, list(texts), list(emotions), [str(group) for group in groups]]

    def _path(self, content: object, ending: str) -> Path:
        whole = json.dumps([self._encoder, content], ensure_ascii=False).encode("utf-8", "surrogatepass")
        return self._folder / f"{hashlib.sha256(whole).hexdigest()[:32]}.{ending}"

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file under a name of its own first, so that no reader ever finds half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        partial.write_bytes(content)
        partial.replace(path)


__all__ = ["STRENGTHS", "EmbeddingJudge", "Head", "fit_head"]
