"""What judges make of replies: cosine and appropriateness by hand, gold without labels, the judge beside scores."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from epo.data.dialogue import Dialogue, Turn
from epo.data.replies import reply_at
from epo.emotions import APPROPRIATENESS, EMOTIONS
from epo.evaluation import judged
from epo.evaluation.evaluating import evaluate
from epo.evaluation.report import format_table, render_html
from epo.judging.judge import rate_readings
from epo.judging.opened_judge import JudgeSettings, OpenedJudge

ANGRY, HAPPY, SAD = (EMOTIONS.index(name) for name in ("angry", "happy", "sad"))


@dataclass
class ByWord:
    """Reads "sorry" as mostly sad, "glad" as mostly happy, all else as even."""

    name: str = "by word"

    def read(self, texts):
        rows = np.full((len(texts), 7), 1 / 7)
        for row, text in zip(rows, texts, strict=True):
            for word, place in (("sorry", SAD), ("glad", HAPPY)):
                if word in text:
                    row[:] = 0.0
                    row[place], row[ANGRY] = 0.8, 0.2
        return rows


def gold(said, emotion, user, index):
    turns = (Turn("user", "What about it?", user), Turn("assistant", said, emotion))
    return reply_at(Dialogue(f"d{index}", turns, split="test"), 1)


GOLD = [gold("so sorry", "sad", "sad", 0), gold("so glad", None, "happy", 1), gold("oh sorry", None, None, 2)]
SAID = ["sorry too", "sorry again", "..."]


@pytest.fixture
def judge(monkeypatch):
    """Name the judge above in place of one that would be opened."""
    quality = rate_readings(["sad", "sad"], ["sad", "happy"], "ab", "other texts")
    opened = OpenedJudge(ByWord(), {"other, train": 10}, (quality,), ("Mind the judge.",))
    monkeypatch.setattr(judged, "open_judge", lambda settings, training, held_out: opened)
    return JudgeSettings("some/model")


def test_both_forms_of_the_emotion_score_by_hand(judge):
    (base, row) = evaluate(SAID, GOLD, ["emotion"], judge=judge)["rows"]
    assert base["name"] == "majority" and base["emotion_score"] == 0.0, "nothing to say without training replies"
    # wanted: sad by its label, happy and sad as the judge reads the gold; read: sad, sad, nothing.
    assert row["emotion_score"] == pytest.approx(1 / 3)
    # cosines: 1; (.2 * .2) / (.8**2 + .2**2); 0 for the degenerate one.
    assert row["emotion_cosine"] == pytest.approx((1 + 0.04 / 0.68 + 0) / 3)
    low, high = row["emotion_cosine_interval"]
    assert low < row["emotion_cosine"] < high and row["emotion_cosine_sampled"] is None


def test_appropriateness_by_hand(judge):
    report = evaluate(SAID, GOLD, ["appropriateness"], judge=judge)
    (row,) = report["rows"]
    sad, happy = APPROPRIATENESS["sad"], APPROPRIATENESS["happy"]
    said = [0.8 * sad["sad"] + 0.2 * sad["angry"], 0.8 * happy["sad"] + 0.2 * happy["angry"]]
    human = [said[0], 0.8 * happy["happy"] + 0.2 * happy["angry"]]
    assert row["appropriateness"] == pytest.approx(sum(said) / 2), "the third user's emotion is not known"
    assert report["appropriateness_gold"]["appropriateness"] == pytest.approx(sum(human) / 2)
    assert report["basis"]["appropriateness"]["short"].startswith(f"human {sum(human) / 2:.2f}; judge 0.50, F1")
    (row,) = evaluate(["", "...", "!"], GOLD, ["appropriateness"], judge=judge)["rows"]
    assert row["appropriateness"] == 0.0


def test_accuracy_and_macro_f1_stand_beside_every_score(judge):
    report = evaluate(SAID, GOLD, ["emotion", "appropriateness"], judge=judge)
    # sad, sad for sad, happy: F1 of sad 2/3, of happy 0.
    assert (report["judge_accuracy"], report["judge_macro_f1"]) == (0.5, pytest.approx(1 / 3))
    assert report["judge"]["name"] == "by word" and report["judge"]["qualities"][0]["num_texts"] == 2
    assert report["gold_read_by_judge"] == pytest.approx(2 / 3)
    json.dumps(report["judge"])
    assert report["notes"].count("Mind the judge.") == 1
    told = "the judge by word: right on 0.500 of 2 texts (other texts), macro-F1 0.333; always the commonest label: 0.5"
    table, page = format_table(report), render_html(report)
    assert f"EmotionScore rests on {told}" in table and told in page and "judge 0.50, F1 0.33" in page
    assert "Cosine" in page and "Appropriate" in page


def test_without_labels_words_alone_cannot_stand_in():
    unlabelled = [replace(reply, emotion=None) for reply in GOLD]
    training = [gold("sorry", "sad", "sad", 3), gold("glad", "happy", "happy", 4)]
    notes = evaluate(SAID, unlabelled, training=training)["notes"]
    assert any(note.startswith("Suite emotion is left out: the replies to give are labelled with no") for note in notes)
    report = evaluate(SAID, unlabelled, ["appropriateness"], training=training)
    assert report["rows"][0]["appropriateness"] > 0 and report["judge_accuracy"] is None
    no_users = [replace(reply, current=Turn("user", "Hm?")) for reply in GOLD]
    notes = evaluate(SAID, no_users, training=training)["notes"]
    assert "Suite appropriateness is left out: no user turn that is answered has an emotion." in notes


def test_the_word_judge_tells_its_macro_f1_too():
    training = [gold("sorry", "sad", "sad", 3), gold("glad", "happy", "happy", 4)]
    labelled = [replace(GOLD[0], emotion="sad"), replace(GOLD[1], emotion="happy")]
    report = evaluate(["sorry", "glad"], labelled, ["emotion"], training=training)
    assert report["judge_macro_f1"] == report["judge_accuracy"] == 1.0
    assert "right on 1.000 of the held-out gold replies, macro-F1 1.000; always" in report["basis"]["emotion"]["text"]
    assert report["rows"][-1]["emotion_cosine"] > 0.9
