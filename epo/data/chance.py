"""Chance: what knowing only the distribution of some labels gives, and when a classifier is hardly better."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def chance_levels(wanted: Sequence[str]) -> tuple[float, float]:
    """Return what knowing only the label distribution gives.

    Returns:
        (majority, sum_p2): the score of always giving the commonest label, and that of drawing labels at random
        from the same distribution (sum of p squared), which is what clips shuffled between dialogues should give.

    Raises:
        ValueError: there is no label.
    """
    if not wanted:
        raise ValueError("no labels to score; evaluate at least one dialogue that has some")
    shares = np.array(list(Counter(wanted).values())) / len(wanted)
    return float(shares.max()), float((shares**2).sum())


def is_hardly_better(score: float, majority: float) -> bool:
    """Tell whether a classifier is hardly better than always giving the commonest label.

    It is where less than a tenth of the way from that baseline to being always right is covered; our choice.
    """
    return score - majority < 0.1 * (1 - majority)
