"""Strategy bias: the hand-worked strengths, what is unknown, and a suite on what a file names."""

import numpy as np
import pytest

from epo.evaluation.contestants import Generation
from epo.evaluation.evaluating import choose_suites, compare
from epo.evaluation.strategy_bias import preference_strengths, strategy_scores
from epo.evaluation.suite import Answers, Task


def test_strengths_by_hand():
    """The first is chosen three times for the second, and once the other way round: p = (1.5, 0.5), B = 0.5."""
    strengths = preference_strengths(np.array([[6.0, 3.0], [1.0, 2.0]]))
    assert strengths == pytest.approx([1.5, 0.5]) and np.std(strengths) == pytest.approx(0.5)
    wanted = ["a"] * 7 + ["b"] * 5
    found = strategy_scores(["a"] * 6 + ["b"] + ["a"] * 3 + ["b"] * 2, wanted)
    assert found.bias == pytest.approx(0.5) and found.preferences == pytest.approx({"a": 1.5, "b": 0.5})
    assert found.quality == pytest.approx((12 / 16 + 4 / 8) / 2)
    assert found.weighted_f1 == pytest.approx((7 * 12 / 16 + 5 * 4 / 8) / 12)


def test_perfect_choices_show_no_preference_and_one_that_is_never_chosen_none_at_all():
    perfect = strategy_scores(["a", "b"], ["a", "b"])
    assert (perfect.bias, perfect.quality) == (0.0, 1.0)
    stubborn = strategy_scores(["a"] * 4, ["a", "b", "b", "a"])
    assert stubborn.preferences == pytest.approx({"a": 2.0, "b": 0.0}) and stubborn.bias == pytest.approx(1.0)
    assert strategy_scores([None, "made up"], ["a", "b"]).quality == 0.0
    with pytest.raises(ValueError, match="no reply has a strategy"):
        strategy_scores([], [])


def test_the_suite_is_there_where_strategies_are(examples):
    gold = examples[4:7]
    task = Task(gold, strategies={("d4", 3): "Question", ("d5", 5): "Comfort"})
    said = Answers("theirs", ["Why?"] * 3, strategies=["Question", "Question", None])
    report = compare([said, Answers("silent", ["Yes."] * 3)], task, choose_suites(["strategy"], task), Generation())
    assert report["rows"][0]["strategy_quality"] == pytest.approx((2 / 3 + 0) / 2)
    assert report["rows"][1]["strategy_bias"] is None
    plain = choose_suites(None, Task(gold))
    assert "strategy" not in plain.suites and not any("strategy" in note for note in plain.notes)
