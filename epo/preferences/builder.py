"""From the gold replies of one split to its preference pairs: draw emotions, ask the source, score, filter."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from epo.emotions import EMOTIONS, Emotion
from epo.preferences.counter import Strategy, draw_counter_emotions
from epo.preferences.gold import GoldReply
from epo.preferences.marginals import Counts, Floats, total_variation
from epo.preferences.pair import PreferencePair
from epo.preferences.scores import Thresholds, reason_to_drop, score_candidate


class Source(Protocol):
    """Where rejected replies come from."""

    name: str

    def propose(self, gold: Sequence[GoldReply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return, for each gold reply and its counter emotion, candidates for the rejected reply, best first."""
        ...


@dataclass(frozen=True)
class PairSet:
    """The pairs of one split and why the other replies have none."""

    pairs: list[PreferencePair]
    dropped: Counter[str]

    def marginals(self) -> tuple[Counts, Counts]:
        """Count the chosen and the rejected emotions, each int64 (E,) in the order of `EMOTIONS`."""
        chosen = Counter(pair.chosen_emotion for pair in self.pairs)
        rejected = Counter(pair.rejected_emotion for pair in self.pairs)
        return _histogram(chosen), _histogram(rejected)

    def summary(self) -> dict[str, object]:
        """Return what the pair report says of this split, ready for JSON."""
        chosen_E, rejected_E = self.marginals()
        return {
            "pairs": len(self.pairs),
            "dropped": dict(self.dropped.most_common()),
            "chosen_emotions": dict(zip(EMOTIONS, chosen_E.tolist(), strict=True)),
            "rejected_emotions": dict(zip(EMOTIONS, rejected_E.tolist(), strict=True)),
            "total_variation": total_variation(chosen_E, rejected_E),
        }


def build_pairs(
    gold: Sequence[GoldReply],
    source: Source,
    strategy: Strategy,
    match_marginals: bool,
    limits: Thresholds,
    rng: np.random.Generator,
    available: frozenset[Emotion] = frozenset(EMOTIONS),
    confusion: Floats | None = None,
) -> PairSet:
    """Build at most one pair for each gold reply.

    Args:
        gold: replies of one split; marginals are matched within it.
        source: where the rejected replies come from.
        strategy: how counter emotions are chosen.
        match_marginals: give rejected emotions the distribution of the chosen ones.
        limits: the first candidate that keeps to them is taken.
        rng: decides which reply gets which emotion.
        available: emotions the source can supply.
        confusion: see `counter_weights`.
    """
    if not gold:
        return PairSet([], Counter())
    emotions = draw_counter_emotions(gold, strategy, match_marginals, available, confusion, rng)
    pairs, dropped = [], Counter[str]()
    for reply, emotion, candidates in zip(gold, emotions, source.propose(gold, emotions), strict=True):
        pair, reason = _first_fit(reply, emotion, candidates, source.name, limits)
        if pair is None:
            dropped[reason] += 1
        else:
            pairs.append(pair)
    return PairSet(pairs, dropped)


def _first_fit(
    gold: GoldReply, emotion: Emotion, candidates: Sequence[str], source: str, limits: Thresholds
) -> tuple[PreferencePair | None, str]:
    """Return the pair of the first candidate within the limits, or why the best one is not."""
    reasons = []
    for text in candidates:
        scores = score_candidate(gold, text, emotion)
        reason = reason_to_drop(gold, text, scores, limits)
        if reason is None:
            pair = PreferencePair(
                gold.dialogue.id, gold.turn, gold.text, gold.emotion, text.strip(), emotion, source, scores
            )
            return pair, ""
        reasons.append(reason)
    return None, reasons[0] if reasons else "no candidate"


def _histogram(counts: Counter[Emotion]) -> Counts:
    return np.array([counts[emotion] for emotion in EMOTIONS], dtype=np.int64)
