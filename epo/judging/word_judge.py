"""The word judge: which emotion the words of a reply carry, learnt from labelled replies without any download."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from compressor.words import split_words
from epo.emotions import EMOTIONS, Emotion, UnknownEmotionError
from epo.judging.degenerate_text import is_degenerate
from epo.judging.judge import Floats, JudgeError, likeliest

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


class WordJudge:
    """Reads the emotion of a reply from its words: TF-IDF of words and word pairs, then logistic regression.

    It never sees the clip, the user's emotion, or the label a reply begins with: strip that label first. It is
    fitted anew in every evaluation, on replies of the training split, and gives the same answer each time; it is
    never stored. Our choice.
    """

    name = "words"

    def __init__(self, pipeline: "Pipeline") -> None:
        """Wrap a fitted pipeline; use `WordJudge.fit`."""
        self._pipeline = pipeline

    @classmethod
    def fit(cls, texts: Sequence[str], emotions: Sequence[Emotion]) -> Self:
        """Fit a judge.

        Args:
            texts: replies, without their emotion label; degenerate ones are passed over.
            emotions: the emotion each was written with.

        Raises:
            JudgeError: the lengths differ, no reply has a word, or fewer than two emotions occur among those that do.
            UnknownEmotionError: a label is not one of `EMOTIONS`.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        kept = learnable(texts, emotions, "word judge")
        # Every emotion weighs the same, so that a corpus full of neutral replies does not make all of them neutral.
        pipeline = make_pipeline(
            TfidfVectorizer(tokenizer=split_words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced"),
        )
        pipeline.fit([texts[place] for place in kept], [emotions[place] for place in kept])
        return cls(pipeline)

    def read(self, texts: Sequence[str]) -> Floats:
        """See `EmotionJudge`."""
        rows = np.full((len(texts), len(EMOTIONS)), 1 / len(EMOTIONS))
        said = [place for place, text in enumerate(texts) if not is_degenerate(text)]
        if said:
            columns = [EMOTIONS.index(emotion) for emotion in self._pipeline.classes_]
            rows[said] = 0.0
            rows[np.ix_(said, columns)] = self._pipeline.predict_proba([texts[place] for place in said])
        return rows

    def predict(self, texts: Sequence[str]) -> list[Emotion | None]:
        """Return the emotion of each reply; None for a degenerate one, which has no words that could carry one."""
        return likeliest(self, texts)

    def accuracy(self, texts: Sequence[str], emotions: Sequence[Emotion]) -> float:
        """Share of replies judged as they were written, degenerate ones being misses.

        Of replies that the judge was not fitted on this is what the best system could reach: their own EmotionScore.

        Raises:
            ValueError: there are none.
        """
        if not emotions:
            raise ValueError("no labels to score; evaluate at least one dialogue that has some")
        hits = [read == label for read, label in zip(self.predict(texts), emotions, strict=True)]
        return sum(hits) / len(hits)


def learnable(texts: Sequence[str], emotions: Sequence[Emotion], judge: str) -> list[int]:
    """Return the places of the texts that a judge can learn from.

    Args:
        texts: labelled ones.
        emotions: their labels.
        judge: what is to learn, for messages.

    Raises:
        JudgeError: the lengths differ, no text has a word, or fewer than two emotions occur among those that do.
        UnknownEmotionError: a label is not one of `EMOTIONS`.
    """
    if len(texts) != len(emotions):
        raise JudgeError(f"{len(texts)} replies but {len(emotions)} emotions; want one each")
    unknown = sorted(set(emotions) - set(EMOTIONS))
    if unknown:
        raise UnknownEmotionError(f"unknown emotion {unknown[0]!r}; want one of {', '.join(EMOTIONS)}")
    kept = [place for place, text in enumerate(texts) if not is_degenerate(text)]
    if texts and not kept:
        raise JudgeError("no reply has a word; check that `text` of the assistant turns is filled")
    found = sorted({emotions[place] for place in kept})
    if len(found) < 2:
        raise JudgeError(
            f"the {judge} needs replies of at least two emotions, found {', '.join(found) if found else 'none'}; "
            "label the assistant turns of the training split"
        )
    return kept


__all__ = ["WordJudge", "learnable"]
