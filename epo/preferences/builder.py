"""From the gold replies of one split to its preference pairs: draw emotions, ask the source, score, filter."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.classifier import CorpusReader
from epo.preferences.counter import Choice, LeftOut, draw_counter_emotions, num_left_out_for_equal
from epo.preferences.marginals import Counts, total_variation
from epo.preferences.pair import PreferencePair
from epo.preferences.scores import Examiner, Thresholds
from epo.preferences.source import Source

_NO_CANDIDATE = "no candidate: the source offered none"
_NOT_ACCEPTED = "no candidate accepted: "


@dataclass(frozen=True)
class PairSet:
    """The pairs of one split and why the other replies have none.

    Attributes:
        pairs: at most one for each reply.
        dropped: how many replies have none, by reason.
        left_out_for_equal: how many replies equal marginals would leave out, whatever the recipe asked for.
    """

    pairs: list[PreferencePair]
    dropped: Counter[str]
    left_out_for_equal: int = 0

    def marginals(self) -> tuple[Counts, Counts]:
        """Count the chosen and the rejected emotions, each int64 (E,) in the order of `EMOTIONS`.

        Pairs with an emotion that is not known are passed over.
        """
        known = [(p.chosen_emotion, p.rejected_emotion) for p in self.pairs if p.chosen_emotion and p.rejected_emotion]
        return _histogram(chosen for chosen, _ in known), _histogram(rejected for _, rejected in known)

    def summary(self) -> dict[str, Any]:
        """Return what the pair report says of this split, ready for JSON."""
        chosen_E, rejected_E = self.marginals()
        return {
            "replies": len(self.pairs) + self.dropped.total(),
            "pairs": len(self.pairs),
            "distinct_rejected": len({pair.rejected for pair in self.pairs}),
            "dropped": dict(self.dropped.most_common()),
            "left_out_for_equal": self.left_out_for_equal,
            "chosen_emotions": dict(zip(EMOTIONS, chosen_E.tolist(), strict=True)),
            "rejected_emotions": dict(zip(EMOTIONS, rejected_E.tolist(), strict=True)),
            "total_variation": total_variation(chosen_E, rejected_E),
        }


def build_pairs(
    gold: Sequence[Reply],
    source: Source,
    choice: Choice | None = None,
    examiner: Examiner | None = None,
    rng: np.random.Generator | None = None,
) -> PairSet:
    """Build at most one pair for each gold reply.

    Args:
        gold: replies of one split; marginals are matched within it.
        source: where the rejected replies come from.
        choice: how counter emotions are chosen; None: by the defaults of a recipe.
        examiner: the first candidate it accepts is taken; None: one with the defaults of a recipe.
        rng: decides which reply gets which emotion; None: seed 0.
    """
    if not gold:
        return PairSet([], Counter())
    choice = Choice("inappropriate") if choice is None else choice
    examiner = Examiner(Thresholds(), CorpusReader(gold)) if examiner is None else examiner
    rng = np.random.default_rng(0) if rng is None else rng
    available = source.available(gold)
    drawn = draw_counter_emotions(gold, choice, available, rng)
    asked = [(reply, emotion) for reply, emotion in zip(gold, drawn, strict=True) if not isinstance(emotion, LeftOut)]
    pairs, dropped = [], Counter(emotion.value for emotion in drawn if isinstance(emotion, LeftOut))
    proposals = source.propose([reply for reply, _ in asked], [emotion for _, emotion in asked]) if asked else []
    for (reply, emotion), candidates in zip(asked, proposals, strict=True):
        pair, reason = _first_fit(reply, emotion, candidates, source.name, examiner)
        if pair is None:
            dropped[reason] += 1
        else:
            pairs.append(pair)
    return PairSet(pairs, dropped, num_left_out_for_equal(gold, choice, available))


def _first_fit(
    gold: Reply, emotion: Emotion, candidates: Sequence[str], source: str, examiner: Examiner
) -> tuple[PreferencePair | None, str]:
    """Return the pair of the first candidate the examiner accepts, or why the best one is not accepted."""
    reasons = []
    for text in candidates:
        scores = examiner.score(gold, text, emotion)
        reason = examiner.reason_to_drop(gold, text, scores)
        if reason is None:
            return PreferencePair(gold, text.strip(), emotion, source, scores), ""
        reasons.append(reason)
    return None, _NOT_ACCEPTED + reasons[0] if reasons else _NO_CANDIDATE


def _histogram(emotions: Iterable[Emotion]) -> Counts:
    counts = Counter(emotions)
    return np.array([counts[emotion] for emotion in EMOTIONS], dtype=np.int64)
