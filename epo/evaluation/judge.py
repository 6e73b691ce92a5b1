"""The word judge: which emotion the words of a reply carry, whatever label the model put before them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from compressor.words import split_words
from epo.emotions import EMOTIONS, Emotion, UnknownEmotionError
from epo.evaluation.degenerate import is_degenerate
from epo.evaluation.metrics import accuracy

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


class JudgeError(ValueError):
    """Replies a word judge cannot be fitted on; the message says what is missing."""


class WordJudge:
    """Reads the emotion of a reply from its words: TF-IDF of words and word pairs, then logistic regression.

    It never sees the clip, the user's emotion, or the label a reply begins with: strip that label first. It is
    fitted anew in every evaluation, on replies of the training split, and gives the same answer each time; it is
    never stored. Our choice.
    """

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

        texts, emotions = _learnable(texts, emotions)
        # Every emotion weighs the same, so that a corpus full of neutral replies does not make all of them neutral.
        pipeline = make_pipeline(
            TfidfVectorizer(tokenizer=split_words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True),
            LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced"),
        )
        pipeline.fit(list(texts), list(emotions))
        return cls(pipeline)

    def predict(self, texts: Sequence[str]) -> list[Emotion | None]:
        """Return the emotion of each reply; None for a degenerate one, which has no words that could carry one."""
        can_judge = [not is_degenerate(text) for text in texts]
        said = [text for text, can in zip(texts, can_judge, strict=True) if can]
        judged = iter(self._pipeline.predict(said).tolist() if said else [])
        return [next(judged) if can else None for can in can_judge]

    def accuracy(self, texts: Sequence[str], emotions: Sequence[Emotion]) -> float:
        """Share of replies judged as they were written, degenerate ones being misses.

        Of replies that the judge was not fitted on this is what the best system could reach: their own EmotionScore.
        """
        return accuracy(self.predict(texts), emotions)


def emotion_score(judged: Sequence[Emotion | None], wanted: Sequence[Emotion]) -> float:
    """EmotionScore: share of replies whose words carry the emotion that fits.

    Args:
        judged: `WordJudge.predict` of the replies; None, a degenerate reply, is a miss.
        wanted: the emotion of the gold reply to each; on the built-in corpus the test gold is clean, so it is the
            emotion that fits the one the user showed.

    Returns:
        A share in [0, 1]. Compare it with `chance_levels(wanted)`.

    Raises:
        ValueError: the lengths differ or are 0.

    arXiv 2412.17572 reports a score of this name without its formula; this one is our choice, and the two numbers
    cannot be compared.
    """
    return accuracy(judged, wanted)


def _learnable(texts: Sequence[str], emotions: Sequence[Emotion]) -> tuple[list[str], list[Emotion]]:
    """Return the replies that a judge can learn from, with their emotions."""
    if len(texts) != len(emotions):
        raise JudgeError(f"{len(texts)} replies but {len(emotions)} emotions; want one each")
    unknown = sorted(set(emotions) - set(EMOTIONS))
    if unknown:
        raise UnknownEmotionError(f"unknown emotion {unknown[0]!r}; want one of {', '.join(EMOTIONS)}")
    kept = [(text, emotion) for text, emotion in zip(texts, emotions, strict=True) if not is_degenerate(text)]
    if texts and not kept:
        raise JudgeError("no reply has a word; check that `text` of the assistant turns is filled")
    found = sorted({emotion for _, emotion in kept})
    if len(found) < 2:
        raise JudgeError(
            f"the word judge needs replies of at least two emotions, found {', '.join(found) if found else 'none'}; "
            "label the assistant turns of the training split"
        )
    return [text for text, _ in kept], [emotion for _, emotion in kept]
