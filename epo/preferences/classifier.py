"""Reads the emotion of a reply from its words: a classifier trained on the corpus's own labels, or a named model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from epo.data.chance import chance_levels, is_hardly_better, share_interval
from epo.data.dialogue import DataError
from epo.data.label_sets import WORDS
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, UnknownEmotionError
from epo.preferences.marginals import Floats
from epo.preferences.readings import EmotionReader
from epo.preferences.scores import words_or_mark

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_FOLDS = 5


class CorpusReader:
    """TF-IDF of words and logistic regression, trained on the labels of the gold replies; needs no download.

    It is cross-fitted: dialogues are dealt into five folds, and a text in the place of a reply is read by the
    classifier that has not seen that reply's dialogue. A retrieved reply may come from a dialogue it has seen.
    """

    def __init__(self, gold: Sequence[Reply]) -> None:
        """Fit the five classifiers, and let each read every reply: retrieved ones stand in others' places."""
        ids = sorted({reply.dialogue_id for reply in gold})
        self._fold_of = {dialogue_id: place % _FOLDS for place, dialogue_id in enumerate(ids)}
        self._classifiers = [
            _fit([reply for reply in gold if self._fold_of[reply.dialogue_id] != fold]) for fold in range(_FOLDS)
        ]
        texts = list({reply.text for reply in gold})
        self._known = [
            dict(zip(texts, _distributions(classifier, texts), strict=True)) for classifier in self._classifiers
        ]

    def read(self, gold: Reply, text: str) -> Floats:
        """See `EmotionReader`."""
        fold = self._fold_of[gold.dialogue_id]
        if text not in self._known[fold]:
            self._known[fold][text] = _distributions(self._classifiers[fold], [text])[0]
        distribution: Floats = self._known[fold][text]
        return distribution


class ModelReader:
    """A text-classification model of transformers, on the hub or in a folder, whose labels this project knows."""

    def __init__(self, model: str) -> None:
        """Load the model.

        Raises:
            DataError: there is no such model, or one of its labels is no emotion of ours under any alias.
        """
        from transformers import pipeline

        try:
            self._pipeline = pipeline("text-classification", model=model, top_k=None, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(
                f"emotion_classifier {model}: neither a folder nor a reachable hub name holds such a model ({reason})"
            ) from error
        labels = [str(label) for label in self._pipeline.model.config.id2label.values()]
        self._place_of = {label: _place(label, labels, model) for label in labels}
        self._read = lru_cache(maxsize=100_000)(self._classify)

    def read(self, gold: Reply, text: str) -> Floats:
        """See `EmotionReader`."""
        return self._read(text)

    def _classify(self, text: str) -> Floats:
        distribution = np.zeros(len(EMOTIONS))
        found: Any = self._pipeline([text], truncation=True)  # one list of {label, score} a text
        for entry in found[0]:
            distribution[self._place_of[entry["label"]]] += entry["score"]
        return distribution


@dataclass(frozen=True)
class ReaderQuality:
    """How good the reader of emotions is on some gold replies.

    Attributes:
        accuracy: share of them whose likeliest emotion is their label; None where there are none.
        majority: what always the commonest of these labels would score.
        num_replies: how many they are.
    """

    accuracy: float | None
    majority: float | None
    num_replies: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The accuracy's 95 % interval."""
        return None if self.accuracy is None else share_interval(self.accuracy, self.num_replies)

    @property
    def is_hardly_better(self) -> bool:
        """Whether what the reader reads says little: it gains little on the commonest label, or by chance alone."""
        if self.accuracy is None or self.majority is None or self.interval is None:
            return False
        return is_hardly_better(self.accuracy, self.majority) or self.interval[0] <= self.majority

    def report(self) -> dict[str, Any]:
        """Return the keys of `report.json`."""
        return {
            "reader_accuracy": self.accuracy,
            "reader_interval": self.interval,
            "reader_majority": self.majority,
            "reader_replies": self.num_replies,
            "reader_says_little": self.is_hardly_better,
        }


def rate_reader(gold: Sequence[Reply], reader: EmotionReader) -> ReaderQuality:
    """Let a reader read gold replies and compare with their labels.

    `CorpusReader` reads each by the classifier that was fitted without its dialogue, so they are held out.
    """
    if not gold:
        return ReaderQuality(None, None, 0)
    hits = [EMOTIONS[int(reader.read(reply, reply.text).argmax())] == reply.emotion for reply in gold]
    majority, _ = chance_levels([reply.known_emotion for reply in gold])
    return ReaderQuality(sum(hits) / len(hits), majority, len(hits))


def confusion_table(gold: Sequence[Reply], reader: EmotionReader) -> Floats:
    """Return how a reader takes each emotion on average: float64 (E, E), rows true, each summing to 1 or empty."""
    table = np.zeros((len(EMOTIONS), len(EMOTIONS)))
    for reply in gold:
        table[EMOTIONS.index(reply.known_emotion)] += reader.read(reply, reply.text)
    sums = table.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(table, sums, out=np.zeros_like(table), where=sums > 0)
    return shares


def _fit(gold: Sequence[Reply]) -> "Pipeline":
    """Fit one classifier; where fewer than two emotions occur there is nothing to learn, and it says so."""
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    labels = [reply.known_emotion for reply in gold]
    words = TfidfVectorizer(tokenizer=words_or_mark, token_pattern=None, lowercase=False, sublinear_tf=True)
    if len(set(labels)) < 2:
        return make_pipeline(words, DummyClassifier(strategy="uniform")).fit([""] * len(EMOTIONS), EMOTIONS)
    classifier = OneVsRestClassifier(LogisticRegression(C=10.0, solver="liblinear"))  # ten times as fast as lbfgs here
    return make_pipeline(words, classifier).fit([reply.text for reply in gold], labels)


def _distributions(classifier: "Pipeline", texts: Sequence[str]) -> Floats:
    """Return float64 (texts, E); emotions the classifier has not seen get 0."""
    distributions = np.zeros((len(texts), len(EMOTIONS)))
    columns = [EMOTIONS.index(emotion) for emotion in classifier.classes_]
    distributions[:, columns] = classifier.predict_proba(texts)
    return distributions


def _place(label: str, labels: Sequence[str], model: str) -> int:
    try:
        emotion = WORDS.read(label)
    except UnknownEmotionError:
        raise DataError(
            f"emotion_classifier {model!r} has the label {label!r}, which is none of {', '.join(EMOTIONS)}; its labels "
            f"are {', '.join(labels)}: name another model, or 'corpus'"
        ) from None
    assert emotion is not None  # the usual words leave none out
    return EMOTIONS.index(emotion)
