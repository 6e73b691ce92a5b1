"""Reads the emotion of a reply from its words: a classifier trained on the corpus's own labels, or any judge."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from epo.data.chance import chance_levels, is_hardly_better, share_interval
from epo.data.replies import Reply
from epo.emotions import EMOTIONS
from epo.judging.judge import JudgeQuality, rate_readings
from epo.judging.opened_judge import OpenedJudge
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


class JudgeReader:
    """Lets a judge of emotions read texts, whatever reply they stand for."""

    def __init__(self, opened: OpenedJudge, gold: Sequence[Reply]) -> None:
        """Take a judge, and let it read all gold replies together, which is faster than one by one."""
        self._judge, self.unseen = opened.judge, opened.unseen
        self._known: dict[str, Floats] = {}
        self.prepare(reply.text for reply in gold)

    def read(self, gold: Reply, text: str) -> Floats:
        """See `EmotionReader`."""
        self.prepare([text])
        return self._known[text]

    def prepare(self, texts: Iterable[str]) -> None:
        """See `ReadsTogether`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known |= dict(zip(new, self._judge.read(new), strict=True))


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

    `CorpusReader` reads each by the classifier that was fitted without its dialogue, so they are held out. With
    `JudgeReader` replies that its judge was fitted on are passed over, and such that a model labelled.
    """
    gold = reader.unseen(gold) if isinstance(reader, JudgeReader) else gold
    if not gold:
        return ReaderQuality(None, None, 0)
    hits = [EMOTIONS[int(reader.read(reply, reply.text).argmax())] == reply.emotion for reply in gold]
    majority, _ = chance_levels([reply.known_emotion for reply in gold])
    return ReaderQuality(sum(hits) / len(hits), majority, len(hits))


def rate_cross_fitted(gold: Sequence[Reply], reader: CorpusReader) -> JudgeQuality:
    """Return how good the corpus's own classifiers are, each on the dialogues that it was fitted without."""
    read = [EMOTIONS[int(reader.read(reply, reply.text).argmax())] for reply in gold]
    emotions, dialogues = [reply.known_emotion for reply in gold], [reply.dialogue_id for reply in gold]
    return rate_readings(read, emotions, dialogues, "its own replies, each dialogue held out")


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
