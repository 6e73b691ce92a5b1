"""Numbers for replies: facts, words shared with the gold reply, diversity, classification, chance, intervals."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from compressor.words import contains_words, split_words
from epo.emotions import EMOTIONS, Emotion

_DRAWS_AT_A_TIME = 2_000_000
_ARTICLES = frozenset({"a", "an", "the"})


def count_facts(reply: str, facts: Sequence[str]) -> int:
    """Count the facts that stand in a reply as whole words, by the rule of `contains_words`."""
    return sum(contains_words(reply, fact) for fact in facts)


def fact_recall(replies: Sequence[str], facts: Sequence[Sequence[str]]) -> float:
    """Share of all facts that their replies contain as whole words; our choice.

    Args:
        replies: N replies.
        facts: for each reply the strings it has to contain; may be empty for some.

    Returns:
        A share in [0, 1], found facts over all facts, so a reply with two facts counts twice.

    Raises:
        ValueError: the lengths differ, or there is no fact at all.
    """
    total = sum(len(row) for row in facts)
    _require_some(total, "facts")
    return sum(count_facts(reply, row) for reply, row in zip(replies, facts, strict=True)) / total


def token_f1(reply: str, gold: str) -> float:
    """Harmonic mean of word precision and recall, words counted as often as they occur, articles left out.

    Source: Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1. Two empty texts agree (1), one empty text does
    not (0).
    """
    ours, theirs = ([word for word in split_words(text) if word not in _ARTICLES] for text in (reply, gold))
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def mean_token_f1(replies: Sequence[str], golds: Sequence[str]) -> float:
    """Mean of `token_f1` over replies and their gold replies."""
    _require_some(len(replies), "replies")
    return float(np.mean([token_f1(reply, gold) for reply, gold in zip(replies, golds, strict=True)]))


def rouge_l(replies: Sequence[str], golds: Sequence[str]) -> float:
    """Mean ROUGE-L F1 (longest common subsequence of words, no stemming) over replies and their gold replies.

    Source: Lin 2004, aclanthology W04-1013; computed by rouge-score on this module's words.
    """
    _require_some(len(replies), "replies")
    return float(np.mean(rouge_f1s(replies, golds)["rougeL"]))


def rouge_f1s(
    replies: Sequence[str], golds: Sequence[str], kinds: Sequence[str] = ("rougeL",)
) -> dict[str, list[float]]:
    """Return ROUGE F1s of each reply against its gold reply, by kind: rouge1, rouge2, rougeL."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(kinds), tokenizer=_Words())
    found = [scorer.score(gold, reply) for reply, gold in zip(replies, golds, strict=True)]
    return {kind: [scores[kind].fmeasure for scores in found] for kind in kinds}


def distinct_n(replies: Sequence[str], n: int) -> tuple[float, float]:
    """Share of n-grams that are different ones: mean over single replies, and over the corpus as one text.

    The two differ by an order of magnitude (human replies: about 0.94 and 0.05 for n = 1), so both are reported.
    A reply of fewer than n words scores 0 in the mean: silence is not diverse (our choice).

    Returns:
        (mean per reply, corpus), each in [0, 1].

    Source: Li et al. 2016, arXiv 1510.03055, section 5.2 (the corpus form).
    """
    _require_some(len(replies), "replies")
    pooled = [gram for reply in replies for gram in ngrams(reply, n)]
    return float(np.mean(distinct_shares(replies, n))), _distinct_share(pooled)


def distinct_shares(replies: Sequence[str], n: int) -> list[float]:
    """Return the share of n-grams of each reply that are different ones; 0 for a reply of fewer than n words."""
    return [_distinct_share(ngrams(reply, n)) for reply in replies]


def mean_words(replies: Sequence[str]) -> float:
    """Mean number of words of a reply: diversity per reply falls with length, so the two belong together."""
    _require_some(len(replies), "replies")
    return float(np.mean([len(split_words(reply)) for reply in replies]))


def accuracy(predicted: Sequence[str | None], wanted: Sequence[str]) -> float:
    """Share of predictions that are right, in [0, 1]; no prediction (None) is not right."""
    _require_some(len(wanted), "labels")
    return sum(ours == label for ours, label in zip(predicted, wanted, strict=True)) / len(wanted)


def macro_f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of each class that occurs among the wanted labels, averaged with equal weight, in [0, 1]."""
    from sklearn.metrics import f1_score

    _require_some(len(wanted), "labels")
    classes = sorted(set(wanted))
    return float(f1_score(list(wanted), list(predicted), labels=classes, average="macro", zero_division=0.0))


def weighted_f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of each class that occurs among the wanted labels, weighted by how often it does, in [0, 1]."""
    from sklearn.metrics import f1_score

    _require_some(len(wanted), "labels")
    return float(f1_score(list(wanted), list(predicted), average="weighted", zero_division=0.0))


def calibration(shares_NE: "np.ndarray[Any, Any]", wanted: Sequence[Emotion], num_bins: int = 10) -> dict[str, Any]:
    """Compare how sure predictions are with how often they are right.

    Args:
        shares_NE: probabilities of the emotions, in the order of `EMOTIONS`, float (N, E).
        wanted: the labels.
        num_bins: of equal width, over the probability of the likeliest emotion.

    Returns:
        `ece`, the expected calibration error: the mean distance of confidence and accuracy of the bins, weighted by
        their size; and `bins`, `confidence`, `accuracy` and `count` of each that holds any.

    Source: Guo et al. 2017, arXiv 1706.04599.
    """
    _require_some(len(wanted), "labels")
    confidence_N = shares_NE.max(axis=1)
    right_N = np.array([EMOTIONS[i] == label for i, label in zip(shares_NE.argmax(axis=1), wanted, strict=True)])
    bin_of_N = np.minimum((confidence_N * num_bins).astype(int), num_bins - 1)
    bins = [
        {
            "confidence": float(confidence_N[bin_of_N == place].mean()),
            "accuracy": float(right_N[bin_of_N == place].mean()),
            "count": int((bin_of_N == place).sum()),
        }
        for place in np.unique(bin_of_N)
    ]
    ece = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / len(wanted)
    return {"ece": float(ece), "bins": bins}


def confusion(predicted: Sequence[str], wanted: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Count predictions: row = wanted label, column = predicted label, both in the order of `labels`."""
    from sklearn.metrics import confusion_matrix

    matrix: list[list[int]] = confusion_matrix(list(wanted), list(predicted), labels=list(labels)).tolist()
    return matrix


def bootstrap_interval(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    num_resamples: int = 2000,
) -> tuple[float, float]:
    """95 % percentile interval of a weighted mean, resampling dialogues with replacement.

    Replies to one dialogue are alike, so whole dialogues are drawn, each with all of its replies: drawing replies
    would make the interval too narrow.

    Args:
        values: one number per reply, such as 1.0 for a fitting one.
        weights: how much each counts, such as its number of facts; None counts all alike.
        clusters: the dialogue of each reply; None takes each for a dialogue of its own.
        seed: the same seed gives the same interval.
        num_resamples: resamples drawn.

    Source: Efron 1979, doi 10.1214/aos/1176344552; the cluster form: Davison and Hinkley 1997, doi
    10.1017/CBO9780511802843, section 3.8. The percentile form is our choice, for it stays defined where all values
    agree.
    """
    low, high = np.percentile(resampled_means(values, weights, clusters, seed, num_resamples), [2.5, 97.5])
    return float(low), float(high)


def resampled_means(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    num_resamples: int = 2000,
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return the weighted means of resamples, float64 (R,), without those that drew no weight; else as the interval."""
    _require_some(len(values), "values")
    values_N = np.asarray(values, dtype=np.float64)
    weights_N = np.ones_like(values_N) if weights is None else np.asarray(weights, dtype=np.float64)
    for name, count in (("weights", len(weights_N)), ("clusters", len(values_N if clusters is None else clusters))):
        if count != len(values_N):
            raise ValueError(f"{len(values_N)} values but {count} {name}; want one each")
    names = range(len(values_N)) if clusters is None else clusters
    place_of = {name: place for place, name in enumerate(dict.fromkeys(names))}
    places_N = np.array([place_of[name] for name in names])
    totals_C = np.bincount(places_N, weights=values_N * weights_N)
    sizes_C = np.bincount(places_N, weights=weights_N)
    rng, means = np.random.default_rng(seed), []
    is_even = weights is None and (sizes_C == sizes_C[0]).all()  # then every resample weighs the same
    at_a_time = max(1, _DRAWS_AT_A_TIME // len(sizes_C))  # thousands of dialogues would take gigabytes at once
    for first in range(0, num_resamples, at_a_time):
        draws_RC = rng.integers(len(sizes_C), size=(min(at_a_time, num_resamples - first), len(sizes_C)))
        sums_R = np.full(len(draws_RC), sizes_C.sum()) if is_even else sizes_C[draws_RC].sum(axis=1)
        has_weight_R = sums_R > 0
        means.append(totals_C[draws_RC].sum(axis=1)[has_weight_R] / sums_R[has_weight_R])
    means_R = np.concatenate(means)
    _require_some(len(means_R), "weights above 0")
    return means_R


def exchanged_accuracy(predicted: Sequence[str], wanted: Sequence[str]) -> float | None:
    """Share of predictions that agree with the label of another item, averaged over all other items; our choice.

    It is what a shuffle in which no item keeps its own label gives on average, without the noise of drawing one. None
    for a single item, which has no other.
    """
    _require_some(len(wanted), "labels")
    if len(wanted) < 2:
        return None
    counts = Counter(wanted)
    others = sum(counts[ours] - (ours == label) for ours, label in zip(predicted, wanted, strict=True))
    return others / (len(wanted) * (len(wanted) - 1))


class _Words:
    """The word splitting of this module in the form rouge-score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return split_words(text)


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """Return the runs of n words of a text, in order."""
    words = split_words(text)
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def _distinct_share(items: Sequence[Hashable]) -> float:
    return len(set(items)) / len(items) if items else 0.0


def _require_some(count: int, what: str) -> None:
    if count == 0:
        raise ValueError(f"no {what} to score; evaluate at least one dialogue that has some")
