"""Which emotion each rejected reply is to have: four strategies, and matching of marginals over all of them."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from epo.emotions import APPROPRIATENESS, EMOTIONS, VALENCE_AROUSAL, Emotion, emotional_distance
from epo.preferences.gold import GoldReply
from epo.preferences.marginals import Counts, Floats, plan_marginals

Strategy = Literal["opposite", "inappropriate", "confusable", "random"]

# Keeps every allowed emotion reachable, so that equal marginals are possible under strategies that name one
# emotion only. Small against the strategies' own weights, which are about 1. Our choice.
_FLOOR = 0.01


def draw_counter_emotions(
    gold: Sequence[GoldReply],
    strategy: Strategy,
    match_marginals: bool,
    available: frozenset[Emotion],
    confusion: Floats | None,
    rng: np.random.Generator,
) -> list[Emotion | None]:
    """Draw the emotion of every rejected reply.

    It is never the chosen reply's own emotion, nor the one that fits the user's emotion where that is known.

    Args:
        gold: the chosen replies.
        strategy: what makes an emotion a good counter emotion; see `counter_weights`.
        match_marginals: give rejected emotions, over all replies, the distribution of the chosen ones, as near as
            the forbidden emotions allow.
        available: emotions the source of rejected replies can supply.
        confusion: see `counter_weights`.
        rng: decides which reply of a group gets which emotion.

    Returns:
        An emotion for each reply; None where no available emotion is allowed.
    """
    weights_of = {_group(reply): counter_weights(reply, strategy, available, confusion) for reply in gold}
    groups = sorted((group for group, weights in weights_of.items() if weights.any()), key=str)
    if not groups:
        return [None] * len(gold)
    sizes = Counter(map(_group, gold))
    counts_G: Counts = np.array([sizes[group] for group in groups], dtype=np.int64)
    weights_GE = np.stack([weights_of[group] for group in groups])
    if match_marginals:
        chosen = Counter[str]()
        for group in groups:
            chosen[group[1]] += sizes[group]
        wanted_E = np.array([chosen[emotion] for emotion in EMOTIONS], dtype=np.int64)
        plan_GE = plan_marginals(weights_GE, counts_G, wanted_E)
    else:
        shares_GE = weights_GE / weights_GE.sum(axis=1, keepdims=True)
        plan_GE = np.stack([rng.multinomial(count, row) for count, row in zip(counts_G, shares_GE, strict=True)])
    piles = {
        group: rng.permutation(np.repeat(EMOTIONS, row)).tolist() for group, row in zip(groups, plan_GE, strict=True)
    }
    return [piles[_group(reply)].pop() if _group(reply) in piles else None for reply in gold]


def counter_weights(
    reply: GoldReply, strategy: Strategy, available: frozenset[Emotion], confusion: Floats | None
) -> Floats:
    """Say how good each emotion is as the counter emotion of one reply.

    - opposite: emotions of the other valence, by distance; neutral has no opposite, so by distance alone.
    - inappropriate: the lowest cells of the appropriateness table for the user's emotion, or of the reply's own
      emotion where the user's is unknown.
    - confusable: by how often a classifier takes the reply's emotion for it.
    - random: all alike.

    Args:
        reply: the chosen reply.
        strategy: one of the above.
        available: emotions the source can supply.
        confusion: float64 (E, E), shares of predicted labels per true label; needed by "confusable" alone.

    Returns:
        float64 (E,), in the order of `EMOTIONS`; 0 for forbidden and unavailable emotions, otherwise at least 0.01.

    Source: the valence flip stands for Plutchik's opposites in EmPO (arXiv 2406.19071); the weights are our choice.
    """
    allowed = [emotion for emotion in EMOTIONS if emotion in available - reply.forbidden]
    if not allowed:
        return np.zeros(len(EMOTIONS))
    if strategy == "opposite":
        liked = {emotion: _opposition(reply.emotion, emotion) for emotion in allowed}
    elif strategy == "inappropriate":
        row = APPROPRIATENESS[reply.emotion if reply.user_emotion is None else reply.user_emotion]
        lowest = min(row[emotion] for emotion in allowed)
        liked = {emotion: float(row[emotion] == lowest) for emotion in allowed}
    elif strategy == "confusable":
        assert confusion is not None, "confusable needs the confusion table of a classifier"
        taken_for = confusion[EMOTIONS.index(reply.emotion)]
        liked = {emotion: float(taken_for[EMOTIONS.index(emotion)]) for emotion in allowed}
    else:
        liked = dict.fromkeys(allowed, 1.0)
    return np.array([liked[emotion] + _FLOOR if emotion in liked else 0.0 for emotion in EMOTIONS])


def _opposition(chosen: Emotion, other: Emotion) -> float:
    flips = VALENCE_AROUSAL[chosen][0] * VALENCE_AROUSAL[other][0] < 0
    return emotional_distance(chosen, other) if flips or chosen == "neutral" else 0.0


def _group(reply: GoldReply) -> tuple[Emotion | None, Emotion]:
    return reply.user_emotion, reply.emotion
