"""The word judge: reads words, ignores nothing else, refuses what it cannot be fitted on."""

import random

import pytest

from epo.emotions import EMOTIONS, UnknownEmotionError
from epo.evaluation.judge import JudgeError, WordJudge, emotion_score

_PHRASES = {
    "angry": ["that makes me furious", "how dare they, i am furious"],
    "disgust": ["that is revolting", "how gross and revolting"],
    "fearful": ["that frightens me", "i am frightened and scared"],
    "happy": ["that is wonderful news", "how lovely, i am delighted"],
    "neutral": ["i see, thank you for telling me", "all right, noted"],
    "sad": ["i am so sorry", "that is heartbreaking, i am sorry"],
    "surprised": ["wow, really", "i never expected that, wow"],
}
_NAMES = ["ann", "bo", "cleo", "dan", "eve", "finn"]


def _replies(seed, count):
    draw = random.Random(seed)
    emotions = [draw.choice(EMOTIONS) for _ in range(count)]
    texts = [f"{draw.choice(_PHRASES[emotion])}, {draw.choice(_NAMES)}." for emotion in emotions]
    return texts, emotions


def test_it_learns_the_wording_and_is_deterministic():
    texts, emotions = _replies(0, 300)
    judge, again = WordJudge.fit(texts, emotions), WordJudge.fit(texts, emotions)
    held_out, wanted = _replies(1, 100)
    assert judge.accuracy(held_out, wanted) > 0.98
    assert judge.predict(held_out) == again.predict(held_out)
    assert judge.predict(["I am SO sorry, Zoë!"]) == ["sad"]
    assert judge.predict([]) == []


def test_a_rare_emotion_is_not_swallowed_by_a_common_one():
    texts = ["all right, noted"] * 200 + ["that frightens me, noted"] * 4
    judge = WordJudge.fit(texts, ["neutral"] * 200 + ["fearful"] * 4)
    assert judge.predict(["that frightens me"]) == ["fearful"]


def test_emotion_score_is_the_share_that_fits():
    assert emotion_score(["sad", "happy", "angry", "sad"], ["sad", "happy", "sad", "sad"]) == 0.75
    with pytest.raises(ValueError, match="no labels to score"):
        emotion_score([], [])


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(JudgeError, match="2 replies but 1 emotions"):
        WordJudge.fit(["a", "b"], ["sad"])
    with pytest.raises(JudgeError, match="at least two emotions, found sad; label the assistant turns"):
        WordJudge.fit(["a", "b"], ["sad", "sad"])
    with pytest.raises(JudgeError, match="no reply has a word"):
        WordJudge.fit(["", "..."], ["sad", "happy"])
    with pytest.raises(UnknownEmotionError, match="unknown emotion 'joyful'"):
        WordJudge.fit(["a", "b"], ["sad", "joyful"])
