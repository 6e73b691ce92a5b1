"""Kinds of failures, validity of measures, scores by turn and calibration, each by hand."""

from dataclasses import replace

import numpy as np
import pytest

from epo.data.dialogue import Turn
from epo.evaluation.evaluating import evaluate
from epo.evaluation.metrics import calibration, weighted_f1
from epo.evaluation.suite import Answers, Task
from epo.evaluation.suites import failures, turns, validity


@pytest.fixture
def task(examples, pairs):
    """Twenty gold replies of as many dialogues, half sad, each with a word of its own; a judge that knows two words."""
    gold = [
        replace(
            examples[0],
            dialogue_id=f"d{i}",
            history=(),
            current=Turn("user", f"My thing{i} broke.", "sad"),
            text=f"Oh, so {'sorry' if i < 10 else 'great'} about gold{i}.",
            emotion="sad" if i < 10 else "happy",
            facts=(),
        )
        for i in range(20)
    ]
    training = [
        replace(gold[0], text=f"so {word}", emotion=label) for word, label in (("sorry", "sad"), ("great", "happy"))
    ]
    return Task(gold, training=training * 3)


def test_each_kind_by_hand(task):
    """Two dialogues told the same are not yet generic; three are, of twenty."""
    said = ["sorry indeed"] * 3 + [
        "sorry for your thing3",
        "great thing4",
        "(sad) (sad)",
        "sorry gold6",
        "sorry whatever",
    ]
    said += ["sorry about nothing"] * 2 + [f"great thing{i}" for i in range(10, 20)]
    found = failures.kinds_of(task, Answers("x", said))
    assert found[:8] == ["generic"] * 3 + [None, "misread", "degenerate", None, "incoherent"]
    assert found[8:10] == ["incoherent"] * 2 and found[10:] == [None] * 10
    values = failures.score(task, Answers("x", said))
    shares = [values[f"failure_{kind}"] for kind in ("generic", "misread", "incoherent", "none")]
    assert shares == pytest.approx([0.15, 0.05, 0.15, 0.6])
    assert values["failures"]["generic"]["count"] == 3 and values["failures"]["degenerate"]["count"] == 1
    assert [row["reply"] for row in values["failures"]["incoherent"]["examples"]] == [
        "sorry whatever",
        *["sorry about nothing"] * 2,
    ]


def test_a_repeated_fact_is_coherent(task):
    fact = Task([replace(task.gold[0], facts=("Ann",)), *task.gold[1:]], training=task.training)
    said = Answers("x", ["sorry, Ann", *[f"sorry thing{i}" for i in range(1, 20)]])
    assert failures.kinds_of(fact, said)[0] is None


def test_auc_by_hand_and_by_sklearn():
    from sklearn.metrics import roc_auc_score

    assert validity.auc([1.0, 0.0], [0.0, 0.0]) == 0.75 and validity.auc([1.0], [1.0]) == 0.5
    rng = np.random.default_rng(0)
    gold, counter = rng.integers(5, size=40), rng.integers(4, size=30)
    assert validity.auc(gold, counter) == pytest.approx(roc_auc_score([1] * 40 + [0] * 30, [*gold, *counter]))
    found = validity.compared([1.0, 0.5, 0.2], [0.0, 0.5, 0.9], ["a", "b", "c"])
    assert found["paired"] == 0.5 and found["num_pairs"] == 3 and found["paired_interval"] is not None


def test_measures_that_read_emotions_tell_gold_from_counter(task):
    """The cosine is that with another dialogue's reply; with its own gold no measure could fail."""
    from epo.preferences.pair import PreferencePair

    pairs = [PreferencePair(r, f"so {'great' if r.emotion == 'sad' else 'sorry'} gold", "angry") for r in task.gold]
    report = evaluate([""] * 20, task.gold, ["validity"], training=task.training, pairs=pairs)
    found = report["measure_validity"]
    assert found["emotion_score"]["auc"] == found["emotion_cosine"]["paired"] == 1.0
    assert found["appropriateness"]["auc"] == 0.5, "all users are sad, and half of the gold replies are happy"


def test_scores_by_turn(task):
    assert [turns.label_of(number) for number in (1, 2, 3, 4, 5, 8, 9, 16, 17, 90)] == [
        "1", "2", "3-4", "3-4", "5-8", "5-8", "9-16", "9-16", "17 and more", "17 and more",
    ]  # fmt: skip
    past = (Turn("user", "Hi."), Turn("assistant", "Hi."))
    long = Task([replace(r, history=past) if i % 2 else r for i, r in enumerate(task.gold)], training=task.training)
    values = turns.score(long, Answers("x", ["sorry"] * 10 + ["sorry"] * 10))["by_reply_number"]
    assert {label: (cell.score, cell.num_replies) for label, cell in values.items()} == {"1": (0.5, 10), "2": (0.5, 10)}


def test_calibration_by_hand():
    """Two predictions of 0.95, one of them right, and one of 0.55 that is: 2/3 x 0.45 + 1/3 x 0.45."""
    rows = np.zeros((3, 7))
    rows[:2, 0], rows[2, 1] = 0.95, 0.55
    found = calibration(rows, ["angry", "sad", "disgust"])
    assert found["ece"] == pytest.approx(0.45)
    assert found["bins"] == [
        {"confidence": pytest.approx(0.55), "accuracy": 1.0, "count": 1},
        {"confidence": pytest.approx(0.95), "accuracy": 0.5, "count": 2},
    ]
    assert calibration(np.eye(7)[:2], ["angry", "disgust"])["ece"] == 0.0
    assert weighted_f1(["a", "a", "b"], ["a", "b", "b"]) == pytest.approx((2 / 3 + 2 * 2 / 3) / 3)
