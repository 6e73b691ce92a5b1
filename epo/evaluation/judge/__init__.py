"""EmotionScore, and the word judge that it rests on unless a recipe names another (`epo.judging`)."""

from collections.abc import Sequence

from epo.emotions import Emotion
from epo.evaluation.metrics import accuracy
from epo.judging.judge import JudgeError
from epo.judging.word_judge import WordJudge


def emotion_score(judged: Sequence[Emotion | None], wanted: Sequence[Emotion]) -> float:
    """EmotionScore: share of replies whose words carry the emotion that fits.

    Args:
        judged: `likeliest` of a judge and the replies; None, a degenerate reply, is a miss.
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


__all__ = ["JudgeError", "WordJudge", "emotion_score"]
