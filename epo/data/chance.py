"""Chance: what knowing only the distribution of some labels gives, when a classifier is hardly better, and noise."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np


def chance_levels(wanted: Sequence[str]) -> tuple[float, float]:
    """Return what knowing only the label distribution gives.

    Returns:
        (majority, sum_p2), the score of always giving the commonest label, and that of drawing labels at random
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


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was found in `count` cases, as if they were independent.

    Raises:
        ValueError: there is no case.

    Source: Wilson 1927, doi 10.1080/01621459.1927.10502953.
    """
    if count < 1:
        raise ValueError("no cases to take a share of")
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)
