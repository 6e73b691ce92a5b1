"""Agreement and strengths: published examples, and what has no number."""

import math

import pytest

from epo.evaluation.rater_agreement import bradley_terry, cohen_kappa, krippendorff_alpha, squared_difference


def by_item(labels):
    return {str(place): label for place, label in enumerate(labels.split()) if label != "."}


def test_alpha_of_krippendorff_s_own_examples():
    """Of "Computing Krippendorff's alpha reliability" (2011): B, two observers; and C, four with gaps."""
    two = [by_item("0 1 0 0 0 0 0 0 1 0"), by_item("1 1 1 0 0 1 0 0 0 0")]
    assert krippendorff_alpha(two) == pytest.approx(0.095, abs=5e-4)
    four = [
        by_item("1 2 3 3 2 1 4 1 2 . . ."), by_item("1 2 3 3 2 2 4 1 2 5 . 3"),
        by_item(". 3 3 3 2 3 4 2 2 5 1 ."), by_item("1 2 3 3 2 4 4 1 2 5 1 ."),
    ]  # fmt: skip
    assert krippendorff_alpha(four) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha([two[0], two[0]]) == 1.0
    numbers = [{item: int(label) for item, label in rater.items()} for rater in four]
    assert krippendorff_alpha(numbers, squared_difference) == pytest.approx(0.849, abs=5e-4)


def test_kappa_by_hand():
    """Of 50 items 20 and 15 alike, 5 and 10 apart: 0.7 observed, 0.5 * 0.6 + 0.5 * 0.4 = 0.5 by chance, so 0.4."""
    first = by_item("y " * 25 + "n " * 25)
    second = by_item("y " * 20 + "n " * 5 + "y " * 10 + "n " * 15)
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, second | {"more": "y"}) == pytest.approx(0.4)


@pytest.mark.parametrize("raters", [({"a": "A"}, {"b": "A"}), ({"a": "A"}, {"a": "A"}), ({}, {})])
def test_what_cannot_be_compared_has_no_number(raters):
    assert cohen_kappa(*raters) is None and krippendorff_alpha(raters) is None


def test_strengths_of_two_are_their_shares_of_wins():
    found = bradley_terry({("a", "b"): 3.0, ("b", "a"): 1.0})
    assert found == pytest.approx({"a": 0.75, "b": 0.25})
    assert bradley_terry({("a", "b"): 2.0}) == pytest.approx({"a": 1.0, "b": 0.0}, abs=1e-6)
    assert bradley_terry({("a", "b"): 0.5, ("b", "a"): 0.5}) == pytest.approx({"a": 0.5, "b": 0.5})


def test_strengths_of_agresti_s_baseball_teams():
    """American League 1987, "Categorical Data Analysis" (2002), 10.6: log strengths against Baltimore's."""
    teams = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
    rows = ["0 7 9 7 7 9 11", "6 0 7 5 11 9 9", "4 6 0 7 7 8 12", "6 8 6 0 6 7 10", "6 2 6 7 0 7 12", "4 4 5 6 6 0 6",
            "2 4 1 3 1 7 0"]  # fmt: skip
    wins = {
        (a, b): float(n) for a, row in zip(teams, rows, strict=True) for b, n in zip(teams, row.split(), strict=True)
    }
    found = bradley_terry(wins)
    logs = [math.log(found[team] / found["Baltimore"]) for team in teams]
    assert logs == pytest.approx([1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0.0], abs=2e-3)
    assert sum(found.values()) == pytest.approx(1.0)
