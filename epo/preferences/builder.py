"""From the gold replies of one split to its preference pairs: draw emotions, ask the source, verify, take the best."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.balance import balance_pairs
from epo.preferences.classifier import CorpusReader
from epo.preferences.counter import (
    Choice,
    LeftOut,
    Marginals,
    draw_counter_emotions,
    num_left_out_for_equal,
    possible_choice,
)
from epo.preferences.marginals import Counts, total_variation
from epo.preferences.pair import PreferencePair
from epo.preferences.source import NamesEmotions, Source, WritesChosen, examples_of
from epo.preferences.tally import Tally
from epo.preferences.verification import Examined, Examiner, Thresholds

BuiltKind = Literal["emotion", "neutral", "contradiction"]
"""Kinds of pairs that are built here; `epo.preferences.pair_kinds` has all."""

_NO_CANDIDATE = "no candidate: the source offered none"
_NOT_ACCEPTED = "no candidate accepted: "
_UNBALANCED = "left out to balance the emotions of what was accepted"


@dataclass(frozen=True)
class PairSet:
    """The pairs of one split and why the other replies have none.

    Attributes:
        pairs: at most one for each reply.
        dropped: how many replies have none, by reason.
        left_out_for_equal: how many replies equal marginals would leave out, whatever the recipe asked for.
        tally: what the candidates passed and failed.
        measured: of each pair, everything that was measured of its two replies.
        balanced_by: the marginals that were kept to; "near" where "equal" was asked for and would have left no pair.
        gold_emotions: how many replies have each emotion, with a pair or without.
    """

    pairs: list[PreferencePair]
    dropped: Counter[str]
    left_out_for_equal: int = 0
    tally: Tally = field(default_factory=Tally)
    measured: list[dict[str, float]] = field(default_factory=list)
    balanced_by: Marginals = "near"
    gold_emotions: Counter[Emotion] = field(default_factory=Counter)

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
            **self.tally.report(len(self.pairs)),
            "balanced_by": self.balanced_by,
            "gold_emotions": dict(self.gold_emotions),
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
    kind: BuiltKind = "emotion",
) -> PairSet:
    """Build at most one pair for each gold reply.

    Args:
        gold: replies of one split; marginals are matched within it.
        source: where the rejected replies come from.
        choice: how counter emotions are chosen; None: by the defaults of a recipe.
        examiner: of the candidates it accepts the one of the highest quality is taken, of several the first; None: one
            with the defaults of a recipe, for a source that need not keep content.
        rng: decides which reply gets which emotion; None: seed 0.
        kind: of the pairs; "neutral" rejects the same content without emotion, wherever that does not fit the user's;
            "contradiction" the same in the same emotion but for what the source says in both (`WritesChosen`).
    """
    dropped = Counter[str]()
    if isinstance(source, WritesChosen):
        written = source.write_chosen(gold)
        dropped += Counter(reason for reason in written if isinstance(reason, str))
        gold = [reply for reply in written if not isinstance(reply, str)]
    if not gold:
        return PairSet([], dropped)
    choice = Choice("inappropriate") if choice is None else choice
    examiner = Examiner(Thresholds(), CorpusReader(gold)) if examiner is None else examiner
    rng = np.random.default_rng(0) if rng is None else rng
    available = source.available(gold)
    if kind == "neutral":
        available &= {"neutral"}
    is_drawn = kind != "contradiction" and not isinstance(source, NamesEmotions)
    possible = possible_choice(gold, choice, available) if is_drawn else choice
    drawn: Sequence[Emotion | LeftOut] = (
        draw_counter_emotions(gold, possible, available, rng) if is_drawn else _own_emotions(gold, source)
    )
    asked = [(reply, emotion) for reply, emotion in zip(gold, drawn, strict=True) if not isinstance(emotion, LeftOut)]
    dropped += Counter(emotion.value for emotion in drawn if isinstance(emotion, LeftOut))
    examiner.prepare((reply, reply.text) for reply in gold)
    proposals = source.propose([reply for reply, _ in asked], [emotion for _, emotion in asked]) if asked else []
    examiner.prepare((reply, text) for (reply, _), texts in zip(asked, proposals, strict=True) for text in texts)
    tally, accepted = Tally(), []
    for (reply, emotion), texts in zip(asked, proposals, strict=True):
        found = [examiner.examine(reply, text, emotion, examples_of(source)) for text in texts]
        tally.count(found, examiner)
        best = _best(found)
        if best is None:
            dropped[_NOT_ACCEPTED + str(found[0].reason) if found else _NO_CANDIDATE] += 1
        else:
            accepted.append(best)
    if kind != "contradiction" and (len(accepted) < len(asked) or not is_drawn):  # whose two emotions are one
        emotions = [(one.candidate.gold.known_emotion, one.candidate.emotion) for one in accepted]
        balanced = balance_pairs(emotions, [one.quality for one in accepted], possible)
        dropped += Counter({_UNBALANCED: len(accepted) - len(balanced.kept)})
        accepted, possible = (
            [accepted[place] for place in balanced.kept],
            replace(possible, marginals=balanced.marginals),
        )
    return PairSet(
        [_pair(one, source.name, examiner.is_certain, kind) for one in accepted],
        dropped,
        num_left_out_for_equal(gold, choice, available) if is_drawn else 0,
        tally,
        [one.candidate.pair_scores() | one.candidate.verification_scores() for one in accepted],
        possible.marginals,
        Counter(reply.known_emotion for reply in gold),
    )


def _own_emotions(gold: Sequence[Reply], source: Source) -> list[Emotion]:
    """Return the emotions that a source names, else those of the replies that it contradicts."""
    return source.counter_emotions(gold) if isinstance(source, NamesEmotions) else [one.known_emotion for one in gold]


def _best(found: Sequence[Examined]) -> Examined | None:
    """Return the accepted candidate of the highest quality, of several the first; None where none is accepted."""
    accepted = [one for one in found if one.reason is None]
    return max(accepted, key=lambda one: one.quality) if accepted else None


def _pair(examined: Examined, source: str, is_certain: bool, kind: BuiltKind) -> PreferencePair:
    """Return the pair of a candidate; of a source that is certain it holds no scores of verification: it had none."""
    one = examined.candidate
    scores = one.pair_scores() | ({} if is_certain else one.verification_scores())
    said = None if kind == "emotion" else kind  # what a pair is that says nothing
    return PreferencePair(one.gold, one.text.strip(), one.emotion, source, scores, said)


def _histogram(emotions: Iterable[Emotion]) -> Counts:
    counts = Counter(emotions)
    return np.array([counts[emotion] for emotion in EMOTIONS], dtype=np.int64)
