"""Which emotion each rejected reply is to have: four strategies, and matching of marginals over all of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from epo.emotions import APPROPRIATENESS, EMOTIONS, VALENCE_AROUSAL, Emotion, emotional_distance
from epo.preferences.gold import GoldReply
from epo.preferences.marginals import Counts, Floats, largest_matched, plan_marginals

Strategy = Literal["opposite", "inappropriate", "confusable", "random"]

# Keeps every allowed emotion reachable, so that equal marginals are possible under strategies that name one
# emotion only. Small against the strategies' own weights, which are about 1. Our choice.
_FLOOR = 0.01


@dataclass(frozen=True)
class Choice:
    """How counter emotions are chosen.

    - strategy: what makes an emotion a good counter emotion; see `counter_weights`.
    - match_marginals: give rejected emotions the distribution of the chosen ones, as near as the forbidden ones allow.
    - drop_surplus: where they cannot be equal, leave out the fewest replies that make them so.
    - confusion: float64 (E, E), how a classifier takes each emotion; needed by "confusable" alone.
    """

    strategy: Strategy
    match_marginals: bool = True
    drop_surplus: bool = True
    confusion: Floats | None = None


def draw_counter_emotions(
    gold: Sequence[GoldReply], choice: Choice, available: frozenset[Emotion], rng: np.random.Generator
) -> list[Emotion | None]:
    """Draw the emotion of every rejected reply.

    It is never the chosen reply's own emotion, nor the one that fits the user's emotion where that is known.

    Args:
        gold: the chosen replies; marginals are matched over them.
        choice: how.
        available: emotions the source of rejected replies can supply.
        rng: decides which reply of a group gets which emotion.

    Returns:
        An emotion for each reply; None where no available emotion is allowed, and for the surplus that is dropped.
    """
    weights_of = {_group(reply): counter_weights(reply, choice, available) for reply in gold}
    groups = sorted((group for group, weights in weights_of.items() if weights.any()), key=str)
    if not groups:
        return [None] * len(gold)
    sizes = Counter(map(_group, gold))
    counts_G: Counts = np.array([sizes[group] for group in groups], dtype=np.int64)
    weights_GE = np.stack([weights_of[group] for group in groups])
    if choice.match_marginals:
        own_G = np.array([EMOTIONS.index(chosen) for _, chosen in groups], dtype=np.int64)
        plan_GE = _matched_plan(weights_GE, counts_G, own_G, choice.drop_surplus)
    else:
        shares_GE = weights_GE / weights_GE.sum(axis=1, keepdims=True)
        plan_GE = np.stack([rng.multinomial(count, row) for count, row in zip(counts_G, shares_GE, strict=True)])
    piles = {group: _shuffled(row, sizes[group], rng) for group, row in zip(groups, plan_GE, strict=True)}
    return [piles[_group(reply)].pop() if _group(reply) in piles else None for reply in gold]


def counter_weights(reply: GoldReply, choice: Choice, available: frozenset[Emotion]) -> Floats:
    """Say how good each emotion is as the counter emotion of one reply.

    - opposite: emotions of the other valence, by distance; neutral has no opposite, so by distance alone.
    - inappropriate: the lowest cells of the appropriateness table for the user's emotion, or of the reply's own
      emotion where the user's is unknown.
    - confusable: by how often a classifier takes the reply's emotion for it.
    - random: all alike.

    Args:
        reply: the chosen reply.
        choice: names the strategy.
        available: emotions the source can supply.

    Returns:
        float64 (E,), in the order of `EMOTIONS`; 0 for forbidden and unavailable emotions, otherwise at least 0.01.

    Source: the valence flip stands for Plutchik's opposites in EmPO (arXiv 2406.19071); the weights are our choice.
    """
    allowed = [emotion for emotion in EMOTIONS if emotion in available - reply.forbidden]
    if not allowed:
        return np.zeros(len(EMOTIONS))
    if choice.strategy == "opposite":
        liked = {emotion: _opposition(reply.emotion, emotion) for emotion in allowed}
    elif choice.strategy == "inappropriate":
        row = APPROPRIATENESS[reply.emotion if reply.user_emotion is None else reply.user_emotion]
        lowest = min(row[emotion] for emotion in allowed)
        liked = {emotion: float(row[emotion] == lowest) for emotion in allowed}
    elif choice.strategy == "confusable":
        assert choice.confusion is not None, "confusable needs the confusion table of a classifier"
        taken_for = choice.confusion[EMOTIONS.index(reply.emotion)]
        liked = {emotion: float(taken_for[EMOTIONS.index(emotion)]) for emotion in allowed}
    else:
        liked = dict.fromkeys(allowed, 1.0)
    return np.array([liked[emotion] + _FLOOR if emotion in liked else 0.0 for emotion in EMOTIONS])


def _matched_plan(weights_GE: Floats, counts_G: Counts, own_G: Counts, drop_surplus: bool) -> Counts:
    if drop_surplus:
        counts_G = largest_matched(weights_GE > 0, counts_G, own_G)
    wanted_E = np.bincount(own_G, weights=counts_G, minlength=len(EMOTIONS)).astype(np.int64)
    return plan_marginals(weights_GE, counts_G, wanted_E)


def _shuffled(plan_E: Counts, size: int, rng: np.random.Generator) -> list[Emotion | None]:
    """Return a group's emotions in random order, with None for those of its replies that the plan leaves out."""
    pile: list[Emotion | None] = [
        emotion for emotion, count in zip(EMOTIONS, plan_E, strict=True) for _ in range(count)
    ]
    pile += [None] * (size - len(pile))
    return [pile[place] for place in rng.permutation(size)]


def _opposition(chosen: Emotion, other: Emotion) -> float:
    flips = VALENCE_AROUSAL[chosen][0] * VALENCE_AROUSAL[other][0] < 0
    return emotional_distance(chosen, other) if flips or chosen == "neutral" else 0.0


def _group(reply: GoldReply) -> tuple[Emotion | None, Emotion]:
    return reply.user_emotion, reply.emotion
