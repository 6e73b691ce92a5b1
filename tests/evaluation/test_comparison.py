"""Comparisons: hand-worked differences, who is compared with whom, Holm's correction, and no verdict without proof."""

import pytest

from epo.evaluation.comparison import compare_rows, control_of, holm
from epo.evaluation.kept_rows import ScoredRow
from epo.evaluation.row_verdict import verdicts
from epo.evaluation.scoring import PerReply, recorded, scored

COLUMN = {"key": "score", "heading": "Score", "better": "higher", "digits": 3, "in_console": True}


def row(name, values, kind="main", dialogues=None, weights=None):
    names = [f"d{i}" for i in range(len(values))] if dialogues is None else dialogues
    return ScoredRow({"name": name, "kind": kind}, {"score": PerReply(list(values), names, weights)})


def test_holm_by_hand():
    """Of three the smallest counts three times, the next twice but never less than the one before, the last once."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_who_is_compared_with_whom():
    rows = [
        row("majority", [0.0], "base"),
        row("sft", [0.0], "base"),
        row("sft+chosen", [0.0], "base"),
        row("sft+epo", [0.0]),
        row("sft+epo, no clip", [0.0], "variant"),
    ]
    controls = [control_of(one.values, rows) for one in rows]
    assert controls == ["sft+chosen", "sft+chosen", None, "sft+chosen", "sft+epo"]
    alone = [row("a", [0.0]), row("b", [0.0])]
    assert [control_of(one.values, alone) for one in alone] == [None, "a"]


def test_a_constant_difference_has_an_interval_without_width():
    (one,) = compare_rows([row("a", [0.1] * 40), row("b", [0.35] * 40)], [COLUMN])
    assert one.difference == pytest.approx(0.25) and one.interval == pytest.approx((0.25, 0.25))
    assert (one.p, one.p_corrected) == (2 / 2001, 2 / 2001)
    assert (one.verdict, one.is_better, one.num_replies, one.num_dialogues) == ("higher", True, 40, 40)


def test_five_dialogues_that_all_agree_show_nothing_and_six_do():
    """So many coins fall on one side in 2^-4 and 2^-5 of all throws."""
    for num, p, verdict in ((2, 0.5, "unclear"), (5, 0.0625, "unclear"), (6, 0.03125, "higher")):
        (one,) = compare_rows([row("a", [0.1] * num), row("b", [0.3] * num)], [COLUMN])
        assert (one.p, one.verdict) == (p, verdict)


def test_pairing_finds_what_two_intervals_hide():
    """Replies differ widely among each other, and b is a little better on each."""
    values = [i / 50 for i in range(50)]
    (one,) = compare_rows([row("a", values), row("b", [value + 0.02 for value in values])], [COLUMN])
    assert one.verdict == "higher" and one.interval[0] > 0.019
    (none,) = compare_rows([row("a", values), row("b", values[::-1])], [COLUMN])
    assert none.verdict == "unclear" and none.is_better is None and none.interval[0] < 0 < none.interval[1]


def test_less_is_better_where_the_column_says_so():
    lower, neither = COLUMN | {"better": "lower"}, COLUMN | {"better": None}
    rows = [row("a", [0.5] * 30), row("b", [0.1] * 30)]
    assert [compare_rows(rows, [c])[0].is_better for c in (COLUMN, lower, neither)] == [False, True, None]


def test_many_rows_need_more_proof():
    """One lucky row among twenty that are drawn alike is no longer called better."""
    import numpy as np

    rng = np.random.default_rng(3)
    control = row("a", rng.normal(size=30))
    lucky = row("b", np.asarray(control.per_reply["score"].values) + np.array([1.0] * 18 + [-0.6] * 12))
    (alone,) = compare_rows([control, lucky], [COLUMN])
    assert alone.verdict == "higher"
    others = [row(f"c{i}", rng.normal(size=30)) for i in range(20)]
    among = next(one for one in compare_rows([control, lucky, *others], [COLUMN]) if one.row == "b")
    assert among.interval == alone.interval and among.p == alone.p
    assert among.p_corrected == pytest.approx(min(1.0, 21 * alone.p)) and among.verdict == "unclear"


def test_one_dialogue_other_replies_and_no_numbers():
    one_dialogue = [row(name, [0.0, value], dialogues=["d", "d"]) for name, value in (("a", 0.0), ("b", 1.0))]
    (one,) = compare_rows(one_dialogue, [COLUMN])
    assert (one.difference, one.interval, one.p, one.verdict) == (0.5, None, None, "unclear")
    assert compare_rows([row("a", [0.0, 1.0]), row("b", [1.0, 1.0], dialogues=["d0", "d9"])], [COLUMN]) == []
    assert compare_rows([row("a", []), row("b", [])], [COLUMN]) == []
    weighted = [row("a", [0.0, 0.0], weights=[1.0, 3.0]), row("b", [1.0, 0.0], weights=[1.0, 3.0])]
    assert compare_rows(weighted, [COLUMN])[0].difference == 0.25


def test_what_is_scored_is_recorded_and_nothing_outside():
    scored("lost", [1.0], ["d"])
    with recorded() as found:
        scored("score", [1, 0], ["d", "e"], [2, 1])
    assert found == {"score": PerReply([1.0, 0.0], ["d", "e"], [2.0, 1.0])}


def test_the_verdict_in_words():
    rows = [row("a", [0.1] * 40), row("b", [0.35] * 40), row("c", [0.1] * 20 + [0.2, 0.0] * 10)]
    said = verdicts(compare_rows(rows, [COLUMN]), [COLUMN])
    assert [one.text for one in said] == [
        "b against a: better in Score +0.25 (95 % +0.25 to +0.25).",
        "c against a: no difference beyond noise in Score.",
    ]
