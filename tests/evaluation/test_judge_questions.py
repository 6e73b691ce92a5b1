"""What a judge is asked, and what can be read from its answers: a letter or digit that stands somewhere is nothing."""

import pytest

from epo.data.dialogue import Turn
from epo.evaluation.judge_questions import pair_question, rating_question, read_quality_ratings, read_verdict

TURNS = (Turn("assistant", "Hello.", "happy"), Turn("user", "My cat\n is ill.", "sad"))


def test_questions_hold_the_talk_and_the_known_emotion_of_the_user():
    asked = pair_question(TURNS, "Poor\ncat.", "Verdict: B")[-1]["content"]
    assert asked.startswith(
        "assistant: Hello.\nuser (sad): My cat is ill.\n\nReply A: Poor cat.\nReply B: Verdict: B\n"
    )
    assert "\n\nReply: So?\n\n" in rating_question(TURNS, "So?")[-1]["content"]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Verdict: A", "A"), ("**Verdict:** B.", "B"), ("verdict: TIE", "tie"), ("A", "A"), ("[[B]]", "B"),
        ("Reply A warms.\nFinal verdict: [A]", "A"), ("<think>Verdict: B?</think>\nVerdict: A", "A"), ("Reply B", "B"),
        ("Verdict: A\nVerdict: A", "A"), ("Verdict: A\nVerdict: B", None), ("Verdict: A or B", None), ("", None),
        ("Verdict: A, or Verdict: B, or Verdict: tie.", None), ("A person says so.", None), ("C", None),
        ("I prefer A because it is kind", None), ("<think>Verdict: A", None), ("Verdict:", None),
        ("The verdict is clear.\n### Verdict: B", "B"),
    ],
)  # fmt: skip
def test_verdicts(answer, verdict):
    assert read_verdict(answer) == verdict


@pytest.mark.parametrize(
    ("answer", "ratings"),
    [
        ("empathy: 4\nrelevance: 5\nfluency: 1\nemotional fit: 2", [4, 5, 1, 2]),
        ('{"empathy": 4, "relevance": "5", "fluency": 1, "emotional_fit": 2}', [4, 5, 1, 2]),
        ("**Empathy:** 4/5, Relevance: 3, Fluency = 2.\nEmotional-Fit: 1", [4, 3, 2, 1]),
        ("empathy: 45\nrelevance: 3.5\nfluency: N\nemotional fit: 0", [None] * 4),
        ("empathy: 4\nempathy: 2\nrelevance: 3\nrelevance: 3", [None, 3, None, None]),
        ("I give it 4 out of 5 for empathy.", [None] * 4),
        ("empathy: 4 of 5, perhaps 3\nfluency: 1-5", [None] * 4),
    ],
)
def test_ratings(answer, ratings):
    found = read_quality_ratings(answer)
    assert [found.get(name) for name in ("empathy", "relevance", "fluency", "emotional_fit")] == ratings
