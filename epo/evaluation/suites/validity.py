"""Validity: whether the measures of emotion tell gold replies from counter-emotional ones at all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from epo.emotions import APPROPRIATENESS, EMOTIONS
from epo.evaluation.judged import fit_judge
from epo.evaluation.scoring import scored
from epo.evaluation.suite import Suite, Task
from epo.preferences.pair import PreferencePair

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant


def summarise(task: Task, contestant: "Contestant | None") -> dict[str, Any]:
    """Return by measure how well it tells the chosen from the rejected replies of held-out pairs.

    `auc` is the chance that a gold reply scores above a counter-emotional one of any pair, ties counting half; `paired`
    the same within each pair, with its interval over dialogues. 0.5 is a measure that says nothing.
    """
    pairs = [pair for pair in task.pairs if pair.reply.emotion is not None]
    if not pairs:
        return {"notes": ["Suite validity is left out: no gold reply of a pair has an emotion."]}
    judge = task.once(fit_judge)
    chosen_NE, rejected_NE = judge.read([p.reply.text for p in pairs]), judge.read([p.rejected for p in pairs])
    partners = _partners(pairs, task.seed)
    found = {}
    for name, measure in _MEASURES.items():
        gold, counter = measure(pairs, chosen_NE, chosen_NE, partners), measure(pairs, rejected_NE, chosen_NE, partners)
        dialogues = [pair.reply.dialogue_id for pair in pairs]
        rows = [
            (ours, theirs, dialogue)
            for ours, theirs, dialogue in zip(gold, counter, dialogues, strict=True)
            if ours is not None and theirs is not None
        ]
        if rows:
            found[name] = compared([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    return {"measure_validity": found}


def compared(gold: Sequence[float], counter: Sequence[float], dialogues: Sequence[str]) -> dict[str, Any]:
    """Return how well a number tells two kinds of replies apart.

    Args:
        gold: the number of each gold reply.
        counter: of the counter-emotional reply of the same pair.
        dialogues: of the pairs.
    """
    wins = [
        1.0 if ours > theirs else 0.5 if ours == theirs else 0.0 for ours, theirs in zip(gold, counter, strict=True)
    ]
    return {"auc": auc(gold, counter), "num_pairs": len(wins)} | scored("paired", wins, dialogues)


def auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the share of pairs, one of each, in which the first is the greater; ties count half (Mann and Whitney)."""
    values = np.concatenate([np.asarray(higher, dtype=np.float64), np.asarray(lower, dtype=np.float64)])
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    n, m = len(higher), len(lower)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def _hit(pairs: Sequence[PreferencePair], read_NE: Any, gold_NE: Any, partners: Any) -> list[float | None]:
    """EmotionScore: whether the likeliest emotion is the gold reply's."""
    names = [EMOTIONS[place] for place in read_NE.argmax(axis=1)]
    return [float(name == pair.reply.emotion) for name, pair in zip(names, pairs, strict=True)]


def _fit(pairs: Sequence[PreferencePair], read_NE: Any, gold_NE: Any, partners: Any) -> list[float | None]:
    """Appropriateness, of pairs whose user's emotion is known."""
    table = {user: np.array([APPROPRIATENESS[user][reply] for reply in EMOTIONS]) for user in EMOTIONS}
    return [
        None if pair.reply.current.emotion is None else float(row @ table[pair.reply.current.emotion])
        for row, pair in zip(read_NE, pairs, strict=True)
    ]


def _cosine(pairs: Sequence[PreferencePair], read_NE: Any, gold_NE: Any, partners: Any) -> list[float | None]:
    """Cosine with another dialogue's gold reply of the same emotion: with its own, gold would always win."""
    found: list[float | None] = []
    for row, partner in zip(read_NE, partners, strict=True):
        other = None if partner is None else gold_NE[partner]
        found.append(None if other is None else float(row @ other / np.linalg.norm(row) / np.linalg.norm(other)))
    return found


_MEASURES = {"emotion_score": _hit, "appropriateness": _fit, "emotion_cosine": _cosine}


def _partners(pairs: Sequence[PreferencePair], seed: int) -> list[int | None]:
    """Return for each pair one of another dialogue whose gold reply has the same emotion, at random, or None."""
    rng = np.random.default_rng(seed)
    found: list[int | None] = []
    for pair in pairs:
        others = [
            place
            for place, other in enumerate(pairs)
            if other.reply.emotion == pair.reply.emotion and other.reply.dialogue_id != pair.reply.dialogue_id
        ]
        found.append(int(rng.choice(others)) if others else None)
    return found


SUITE = Suite(place=18, needs=("judge", "pairs"), is_quiet=True, prepare=fit_judge, summarise=summarise)

__all__ = ["SUITE", "auc", "compared"]
