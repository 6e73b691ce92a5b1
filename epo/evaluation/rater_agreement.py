"""What people's judgements add up to: the strength of systems, and how far raters agree beyond chance."""

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_MOST_ROUNDS = 10_000


def bradley_terry(wins: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return the strength of each system in a Bradley-Terry model, all of sum 1.

    The share of wins of i over j that the model expects is p_i / (p_i + p_j). One that never wins has strength 0.

    Args:
        wins: how often the first of a pair was preferred to the second; half a win for a tie (our choice).

    Source: Bradley and Terry 1952, doi 10.1093/biomet/39.3-4.324; the updates: Hunter 2004, doi 10.1214/aos/1079120141.
    """
    names = sorted({name for pair in wins for name in pair})
    won_SS = np.array([[wins.get((first, second), 0.0) for second in names] for first in names])
    met_SS, won_S = won_SS + won_SS.T, won_SS.sum(axis=1)
    strengths = np.full(len(names), 1 / len(names))
    for _ in range(_MOST_ROUNDS):
        sums_SS = np.maximum(strengths[:, None] + strengths[None, :], 1e-300)
        weights_S = (met_SS / sums_SS).sum(axis=1)
        updated = np.where(weights_S > 0, won_S / np.maximum(weights_S, 1e-300), strengths)
        updated = updated / updated.sum()
        is_done = np.abs(updated - strengths).max() < 1e-10
        strengths = updated
        if is_done:
            break
    return dict(zip(names, strengths.tolist(), strict=True))


def cohen_kappa(first: Mapping[str, str], second: Mapping[str, str]) -> float | None:
    """Return Cohen's kappa of two raters over the items that both rated.

    Args:
        first: label by item.
        second: the same of the other rater.

    Returns:
        1 for full agreement, 0 for that of chance; None where nothing is rated by both, or both gave one and the same
        label to everything, so that chance alone explains all.

    Source: Cohen 1960, doi 10.1177/001316446002000104.
    """
    from sklearn.metrics import cohen_kappa_score

    both = [item for item in first if item in second]
    labels = [[rater[item] for item in both] for rater in (first, second)]
    if not both or len({*labels[0], *labels[1]}) < 2:
        return None
    return float(cohen_kappa_score(*labels))


def krippendorff_alpha(
    raters: Sequence[Mapping[Any, Any]], difference: Callable[[Any, Any], float] = operator.ne
) -> float | None:
    """Return Krippendorff's alpha of any number of raters, none of whom need rate all.

    Args:
        raters: label by item, of each rater.
        difference: of two labels, 0 of equal ones; by default 1 of all others, as of labels without an order.

    Returns:
        1 for full agreement, 0 for that of chance; None where no two labels can be compared or all are the same.

    Source: Krippendorff 2011, https://repository.upenn.edu/asc_papers/43.
    """
    items = dict.fromkeys(item for rater in raters for item in rater)
    units = [[rater[item] for rater in raters if item in rater] for item in items]
    units = [labels for labels in units if len(labels) > 1]  # a label that stands alone has nothing to agree with
    everything = [label for labels in units for label in labels]
    if len(set(everything)) < 2:
        return None
    differing = sum(_sum_of_differences(labels, difference) / (len(labels) - 1) for labels in units)
    return 1 - differing / (_sum_of_differences(everything, difference) / (len(everything) - 1))


def squared_difference(first: float, second: float) -> float:
    """Return the difference of two numbers squared: Krippendorff's interval form, for ratings of even steps."""
    return (first - second) ** 2


def _sum_of_differences(labels: Sequence[Any], difference: Callable[[Any, Any], float]) -> float:
    counts = Counter(labels).items()
    return sum(n * m * difference(one, other) for one, n in counts for other, m in counts)


__all__ = ["bradley_terry", "cohen_kappa", "krippendorff_alpha", "squared_difference"]
