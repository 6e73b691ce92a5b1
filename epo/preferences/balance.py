"""Balancing pairs once more after candidates were dropped: verification does not drop all emotions alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epo.emotions import EMOTIONS, Emotion
from epo.preferences.counter import Choice, Marginals, nearest_choice
from epo.preferences.marginals import kept_within, largest_matched


@dataclass(frozen=True)
class Balanced:
    """Which pairs stay.

    Attributes:
        kept: their places, ascending.
        marginals: how they were balanced: what was asked for, or "near" where equal marginals would leave no pair.
    """

    kept: list[int]
    marginals: Marginals


def balance_pairs(emotions: Sequence[tuple[Emotion, Emotion]], qualities: Sequence[float], choice: Choice) -> Balanced:
    """Say which pairs to keep, so that each emotion is rejected as often as it is chosen, as a recipe asks for it.

    equal: the most pairs for which the counts agree exactly. near: all but `max_dropped_share` of them, the counts as
    near as that brings them. free: all. Among pairs with the same two emotions those of the highest quality stay,
    among equals the first.

    Args:
        emotions: of each pair, (chosen, rejected).
        qualities: of each pair.
        choice: as the counter emotions were drawn.
    """
    everything = list(range(len(emotions)))
    if choice.marginals == "free" or not emotions:
        return Balanced(everything, choice.marginals)
    places_of: dict[tuple[Emotion, Emotion], list[int]] = {}
    for place in sorted(everything, key=lambda place: (-qualities[place], place)):
        places_of.setdefault(emotions[place], []).append(place)
    cells = sorted(places_of)
    counts_G = np.array([len(places_of[cell]) for cell in cells], dtype=np.int64)
    own_G = np.array([EMOTIONS.index(chosen) for chosen, _ in cells], dtype=np.int64)
    allowed_GE = np.array([[emotion == rejected for emotion in EMOTIONS] for _, rejected in cells])
    if choice.marginals == "equal":
        kept_G = largest_matched(allowed_GE, counts_G, own_G)
        if kept_G.sum() == 0:
            return balance_pairs(emotions, qualities, nearest_choice(choice))
    else:
        kept_G = kept_within(allowed_GE, counts_G, own_G, int(choice.max_dropped_share * counts_G.sum()))
    kept = [place for cell, size in zip(cells, kept_G.tolist(), strict=True) for place in places_of[cell][:size]]
    return Balanced(sorted(kept), choice.marginals)


__all__ = ["Balanced", "balance_pairs"]
