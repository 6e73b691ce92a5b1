"""Splits: shares that are no shares are refused, and a name's place in the draw is uniform."""

import pytest

from epo.data.splits import SplitError, SplitShares, place_of


def test_places_are_uniform_and_hang_on_name_and_seed_alone():
    places = [place_of(f"dialogue-{index}", seed=0) for index in range(20_000)]
    # Standard error of a share of 0.2 in 20,000 is 0.0028.
    for limit in (0.1, 0.2, 0.5):
        assert sum(place < limit for place in places) / len(places) == pytest.approx(limit, abs=0.012)
    assert place_of("a", 0) == place_of("a", 0) != place_of("a", 1)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.1), (0.5, 0.5), (1.2, 0)])
def test_shares_must_leave_something_to_train_on(validation, test):
    with pytest.raises(SplitError, match="leave something to train on"):
        SplitShares(validation, test)
