"""Degenerate replies by hand, and that they score nothing wherever they could."""

import pytest

from epo.emotions import EMOTIONS
from epo.evaluation.degenerate import is_degenerate
from epo.evaluation.judge import WordJudge, emotion_score
from epo.prompts.emotion_label import split_reply


@pytest.mark.parametrize(
    "words",
    [
        "", "  ", "...", "?!", "(neutral)", "(neutral)" * 14, "(neutral) I", "( Sad ) ( sad ) I am so sorry",
        "the the the the", "The the, the. the!", "I am I am I am I am", "so sorry so sorry so sorry so sorry so",
        "Well then then then then then", "好的好的好的好的", "哈" * 8, "我知道了我知道了我知道了我知道了",
    ],
)  # fmt: skip
def test_what_is_degenerate(words):
    assert is_degenerate(words)


@pytest.mark.parametrize(
    "words",
    [
        "I am sorry.", "Sad.", "Oh.", "No, no, no!", "ha ha ha", "哈哈哈哈", "好的", "The sad thing is that it rained.",
        "I was (really) glad.", "No no no no, that is not what I meant at all.",  # four of eleven words
        "I am sorry, I am so sorry, I am very sorry.", "1 2 3 4 5",
    ],
)  # fmt: skip
def test_what_is_not(words):
    assert not is_degenerate(words)


def test_labels_and_silence_never_hit():
    """Half of the training replies are neutral: the likeliest class without words."""
    texts = ["I am so sorry to hear that", "what a pity", "that is great news", "wonderful, congratulations"]
    texts += ["it is at the library", "the train leaves at nine", "there are two of them", "you can buy it there"]
    judge = WordJudge.fit(texts, ["sad", "sad", "happy", "happy"] + ["neutral"] * 4)
    for reply in ("(neutral)" * 15, "(neutral)(neutral) I", "(neutral)", "", "(sad) ...", "the the the the"):
        judged = judge.predict([split_reply(reply)[1]] * 2)
        assert judged == [None, None]
        assert [emotion_score(judged, [emotion] * 2) for emotion in EMOTIONS] == [0.0] * 7
    assert judge.predict(["wonderful", "", "what a pity"]) == ["happy", None, "sad"]
    assert judge.accuracy(["wonderful", ""], ["happy", "neutral"]) == 0.5


def test_a_judge_learns_nothing_from_degenerate_replies():
    """Of the two emotions one has labels only, so there is nothing to tell apart."""
    from epo.evaluation.judge import JudgeError

    with pytest.raises(JudgeError, match="at least two emotions, found happy"):
        WordJudge.fit(["so glad", "(sad)(sad)", "sad " * 9], ["happy", "sad", "sad"])
    plain = WordJudge.fit(["so glad", "so sorry"], ["happy", "sad"])
    spoilt = WordJudge.fit(["so glad", "so sorry", "so so so so so"], ["happy", "sad", "angry"])
    assert plain.predict(["so"]) == spoilt.predict(["so"])
