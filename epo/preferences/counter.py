"""Which emotion each rejected reply is to have: four strategies, and matching of marginals over all of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

import numpy as np

from epo.data.replies import Reply
from epo.emotions import APPROPRIATENESS, EMOTIONS, VALENCE_AROUSAL, Emotion, emotional_distance
from epo.preferences.gold import forbidden_emotions
from epo.preferences.marginals import Counts, Floats, kept_within, largest_matched, plan_marginals

Strategy = Literal["opposite", "inappropriate", "confusable", "random"]
Marginals = Literal["equal", "near", "free"]

# Keeps every allowed emotion reachable, so that equal marginals are possible under strategies that name one
# emotion only. Small against the strategies' own weights, which are about 1. Our choice.
_FLOOR = 0.01


@dataclass(frozen=True)
class Choice:
    """How counter emotions are chosen.

    Attributes:
        strategy: what makes an emotion a good counter emotion; see `counter_weights`.
        marginals: whether rejected emotions get the distribution of the chosen ones. equal: the fewest replies that
            make it possible are left out, however many; near: at most `max_dropped_share` of them, and what remains is
            brought as near as the forbidden emotions allow; free: each is drawn by the strategy alone.
        max_dropped_share: near: of the replies that may have a counter emotion, in [0, 1].
        confusion: float64 (E, E), how a classifier takes each emotion; needed by "confusable" alone.
        min_distance: of the two emotions in the valence-arousal plane: none is asked for that verification would drop.
    """

    strategy: Strategy
    marginals: Marginals = "near"
    max_dropped_share: float = 0.3
    confusion: Floats | None = None
    min_distance: float = 0.0


class LeftOut(Enum):
    """Why a reply is given no counter emotion; the value is what a report says."""

    NO_OTHER_EMOTION = "the source has no reply in another emotion"
    FORBIDDEN = "the only other emotions of the source fit the user's, and may not be rejected"
    TOO_NEAR = "the only other emotions are nearer than min_emotion_distance"
    MARGINALS = "left out to bring chosen and rejected emotions together"


def draw_counter_emotions(
    gold: Sequence[Reply], choice: Choice, available: frozenset[Emotion], rng: np.random.Generator
) -> list[Emotion | LeftOut]:
    """Draw the emotion of every rejected reply.

    It is never the chosen reply's own emotion, nor the one that fits the user's emotion where that is known.

    Args:
        gold: the chosen replies; marginals are matched over them.
        choice: how.
        available: emotions the source of rejected replies can supply.
        rng: decides which reply of a group gets which emotion.

    Returns:
        An emotion for each reply, or why it has none.
    """
    groups = _Groups.of(gold, choice, available)
    piles: dict[_Key, list[Emotion | None]] = {}
    if groups.keys:
        plan_GE = _plan(groups, choice, rng)
        piles = {
            key: _shuffled(row, size, rng)
            for key, row, size in zip(groups.keys, plan_GE, groups.counts_G.tolist(), strict=True)
        }
    drawn: list[Emotion | LeftOut] = []
    for reply in gold:
        emotion = piles[_key(reply)].pop() if _key(reply) in piles else None
        drawn.append(_why_none(reply, choice, available) if emotion is None else emotion)
    return drawn


def possible_choice(gold: Sequence[Reply], choice: Choice, available: frozenset[Emotion]) -> Choice:
    """Return a choice, with near marginals where equal ones would leave no pair at all, as in a split of few replies.

    Args:
        gold: the chosen replies of a split.
        choice: what the recipe asks for.
        available: emotions the source of rejected replies can supply.
    """
    if choice.marginals != "equal":
        return choice
    groups = _Groups.of(gold, choice, available)
    if not groups.keys or largest_matched(groups.weights_GE > 0, groups.counts_G, groups.own_G).any():
        return choice
    return nearest_choice(choice)


def nearest_choice(choice: Choice) -> Choice:
    """Return a choice with near marginals instead, at most the default share left out for them."""
    return replace(choice, marginals="near", max_dropped_share=Choice.max_dropped_share)


def num_left_out_for_equal(gold: Sequence[Reply], choice: Choice, available: frozenset[Emotion]) -> int:
    """Return how many replies equal marginals would leave out, of those that may have a counter emotion."""
    groups = _Groups.of(gold, choice, available)
    if not groups.keys:
        return 0
    return int((groups.counts_G - largest_matched(groups.weights_GE > 0, groups.counts_G, groups.own_G)).sum())


def counter_weights(reply: Reply, choice: Choice, available: frozenset[Emotion]) -> Floats:
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
    allowed = _allowed(reply, choice, available)
    if not allowed:
        return np.zeros(len(EMOTIONS))
    if choice.strategy == "opposite":
        liked = {emotion: _opposition(reply.known_emotion, emotion) for emotion in allowed}
    elif choice.strategy == "inappropriate":
        row = APPROPRIATENESS[reply.known_emotion if reply.current.emotion is None else reply.current.emotion]
        lowest = min(row[emotion] for emotion in allowed)
        liked = {emotion: float(row[emotion] == lowest) for emotion in allowed}
    elif choice.strategy == "confusable":
        assert choice.confusion is not None, "confusable needs the confusion table of a classifier"
        taken_for = choice.confusion[EMOTIONS.index(reply.emotion)]
        liked = {emotion: float(taken_for[EMOTIONS.index(emotion)]) for emotion in allowed}
    else:
        liked = dict.fromkeys(allowed, 1.0)
    return np.array([liked[emotion] + _FLOOR if emotion in liked else 0.0 for emotion in EMOTIONS])


_Key = tuple[Emotion | None, Emotion]


@dataclass(frozen=True)
class _Groups:
    """Replies that share the user's emotion and their own, and may have a counter emotion: G groups."""

    keys: list[_Key]
    counts_G: Counts
    weights_GE: Floats
    own_G: Counts

    @classmethod
    def of(cls, gold: Sequence[Reply], choice: Choice, available: frozenset[Emotion]) -> "_Groups":
        weights_of = {_key(reply): counter_weights(reply, choice, available) for reply in gold}
        keys = sorted((key for key, weights in weights_of.items() if weights.any()), key=str)
        sizes = Counter(map(_key, gold))
        return cls(
            keys,
            np.array([sizes[key] for key in keys], dtype=np.int64),
            np.array([weights_of[key] for key in keys]).reshape(len(keys), len(EMOTIONS)),
            np.array([EMOTIONS.index(chosen) for _, chosen in keys], dtype=np.int64),
        )


def _plan(groups: _Groups, choice: Choice, rng: np.random.Generator) -> Counts:
    """Return how many replies of each group get each emotion, int64 (G, E)."""
    weights_GE, counts_G = groups.weights_GE, groups.counts_G
    if choice.marginals == "free":
        shares_GE = weights_GE / weights_GE.sum(axis=1, keepdims=True)
        return np.stack([rng.multinomial(count, row) for count, row in zip(counts_G, shares_GE, strict=True)])
    share = 1.0 if choice.marginals == "equal" else choice.max_dropped_share
    kept_G = kept_within(weights_GE > 0, counts_G, groups.own_G, int(share * counts_G.sum()))
    wanted_E = np.bincount(groups.own_G, weights=kept_G, minlength=len(EMOTIONS)).astype(np.int64)
    return plan_marginals(weights_GE, kept_G, wanted_E)


def _allowed(reply: Reply, choice: Choice, available: frozenset[Emotion]) -> list[Emotion]:
    own = reply.known_emotion
    others = [emotion for emotion in EMOTIONS if emotion in available - forbidden_emotions(reply)]
    return [emotion for emotion in others if emotional_distance(own, emotion) >= choice.min_distance]


def _why_none(reply: Reply, choice: Choice, available: frozenset[Emotion]) -> LeftOut:
    if not available - {reply.emotion}:
        return LeftOut.NO_OTHER_EMOTION
    if not available - forbidden_emotions(reply):
        return LeftOut.FORBIDDEN
    return LeftOut.MARGINALS if _allowed(reply, choice, available) else LeftOut.TOO_NEAR


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


def _key(reply: Reply) -> _Key:
    return reply.current.emotion, reply.known_emotion
