"""Splits: shares hold, an id never crosses, and other dialogues do not matter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epo.data.dialogue import Dialogue, Turn
from epo.data.splits import SplitError, SplitShares, split_of, with_split

IDS = [f"dialogue-{index}" for index in range(20_000)]


def test_shares_hold_in_expectation():
    splits = [split_of(name, SplitShares(validation=0.2, test=0.1)) for name in IDS]
    # Standard error of a share of 0.2 in 20,000 is 0.0028.
    assert splits.count("validation") / len(IDS) == pytest.approx(0.2, abs=0.012)
    assert splits.count("test") / len(IDS) == pytest.approx(0.1, abs=0.012)


@given(st.text(), st.integers(0, 5))
def test_a_split_depends_on_the_id_and_the_seed_alone(name, seed):
    name = name.encode("utf-8", "replace").decode()
    shares = SplitShares(seed=seed)
    assert split_of(name, shares) == split_of(name, SplitShares(seed=seed))


def test_a_larger_test_share_takes_nobody_out_of_test():
    small, large = SplitShares(test=0.1), SplitShares(test=0.3)
    for name in IDS[:2000]:
        if split_of(name, small) == "test":
            assert split_of(name, large) == "test"


def test_the_seed_changes_the_draw():
    drawn = [[split_of(name, SplitShares(seed=seed)) for name in IDS[:200]] for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_a_known_split_is_kept():
    dialogue = Dialogue("x", (Turn("user", "Hi."),), split="test")
    assert with_split(dialogue, SplitShares(validation=0, test=0)).split == "test"


def test_no_share_holds_nothing_out():
    assert {split_of(name, SplitShares(validation=0, test=0)) for name in IDS[:500]} == {"train"}


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.5, 0.5), (1.2, 0)])
def test_shares_must_leave_something_to_train_on(validation, test):
    with pytest.raises(SplitError, match="leave something to train on"):
        SplitShares(validation, test)
