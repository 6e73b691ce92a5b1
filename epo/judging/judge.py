"""Emotion judge: reads from words alone how likely each emotion is; and how good it is on text held out from it."""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from epo.data.chance import chance_levels, is_hardly_better
from epo.emotions import EMOTIONS, Emotion
from epo.judging.degenerate_text import is_degenerate

Floats = NDArray[np.float64]
Interval = tuple[float, float]
_RESAMPLES = 1000


class JudgeError(ValueError):
    """A judge that cannot be had, or text it cannot be fitted on; the message says what is missing."""


class EmotionJudge(Protocol):
    """Reads emotions from words; it never sees the clip, the user, or the label that a reply begins with.

    Attributes:
        name: what reports call it.
    """

    name: str

    def read(self, texts: Sequence[str]) -> Floats:
        """Return float64 (N, E), the probability of each of `EMOTIONS` in each text, every row summing to 1.

        A degenerate text, which has no words to judge, gets the same for every emotion.
        """
        ...


def likeliest(judge: EmotionJudge, texts: Sequence[str]) -> list[Emotion | None]:
    """Return the likeliest emotion of each text; None for a degenerate one, which has no words that could carry one."""
    can_judge = [not is_degenerate(text) for text in texts]
    said = [text for text, can in zip(texts, can_judge, strict=True) if can]
    rows = iter(judge.read(said).argmax(axis=1).tolist() if said else [])
    return [EMOTIONS[next(rows)] if can else None for can in can_judge]


@dataclass(frozen=True)
class JudgeQuality:
    """How good a judge is on labelled texts that it was not fitted on.

    Attributes:
        texts: which ones, such as "meld, test".
        num_texts: how many.
        accuracy: share of them whose likeliest emotion is their label; a degenerate text is a miss.
        accuracy_interval: 95 %, over groups of texts (dialogues); None where all are of one group.
        macro_f1: F1 of each emotion that occurs among the labels, averaged with equal weight.
        macro_f1_interval: likewise.
        majority: what always the commonest of these labels would score in accuracy.
        majority_macro_f1: what it would score in macro-F1.
        num_left_out: texts left out because the judge was fitted on the very same words.
    """

    texts: str
    num_texts: int
    accuracy: float
    accuracy_interval: Interval | None
    macro_f1: float
    macro_f1_interval: Interval | None
    majority: float
    majority_macro_f1: float
    num_left_out: int = 0

    @property
    def is_hardly_better(self) -> bool:
        """Whether the judge says little on these texts.

        It does so where it gains little on always the commonest label, both in accuracy and in macro-F1: a judge that
        weighs every emotion alike gives away neutral texts for rare emotions, and is not useless for that.
        """
        return is_hardly_better(self.accuracy, self.majority) and is_hardly_better(
            self.macro_f1, self.majority_macro_f1
        )

    def describe(self) -> str:
        """Return a sentence's part: how often it is right, and on what."""
        return (
            f"right on {self.accuracy:.3f} of {self.num_texts} texts ({self.texts}), macro-F1 {self.macro_f1:.3f}; "
            f"always the commonest label: {self.majority:.3f}"
        )

    def report(self) -> dict[str, Any]:
        """Return what a report holds of it."""
        return {**asdict(self), "says_little": self.is_hardly_better}


def rate_judge(
    judge: EmotionJudge,
    texts: Sequence[str],
    emotions: Sequence[Emotion],
    groups: Sequence[Hashable],
    name: str,
    num_left_out: int = 0,
) -> JudgeQuality | None:
    """Compare what a judge reads with what people said; None where there is no text.

    Args:
        judge: any.
        texts: labelled ones, which it was not fitted on.
        emotions: their labels.
        groups: what each belongs to, such as its dialogue; intervals are over groups.
        name: of the texts.
        num_left_out: how many were left out before, because the judge knows them.
    """
    return rate_readings(likeliest(judge, texts), emotions, groups, name, num_left_out) if texts else None


def rate_readings(
    read: Sequence[Emotion | None],
    emotions: Sequence[Emotion],
    groups: Sequence[Hashable],
    name: str,
    num_left_out: int = 0,
) -> JudgeQuality:
    """Compare readings with what people said.

    Args:
        read: the likeliest emotion of each text, None for a degenerate one.
        emotions: their labels, at least one.
        groups: as for `rate_judge`.
        name: of the texts.
        num_left_out: as for `rate_judge`.
    """
    found = [len(EMOTIONS) if emotion is None else EMOTIONS.index(emotion) for emotion in read]
    wanted = [EMOTIONS.index(emotion) for emotion in emotions]
    place_of = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    counts_GEF = np.zeros((len(place_of), len(EMOTIONS), len(EMOTIONS) + 1))
    np.add.at(counts_GEF, ([place_of[group] for group in groups], wanted, found), 1)
    whole_EF = counts_GEF.sum(axis=0)
    drawn_REF = _resampled(counts_GEF)
    has_others = len(place_of) > 1
    majority = chance_levels(emotions)[0]
    return JudgeQuality(
        texts=name,
        num_texts=len(wanted),
        accuracy=float(accuracy_of(whole_EF)),
        accuracy_interval=_interval(accuracy_of(drawn_REF)) if has_others else None,
        macro_f1=float(macro_f1_of(whole_EF)),
        macro_f1_interval=_interval(macro_f1_of(drawn_REF)) if has_others else None,
        majority=majority,
        majority_macro_f1=2 * majority / (1 + majority) / len(set(emotions)),
        num_left_out=num_left_out,
    )


def accuracy_of(counts: Floats) -> Floats:
    """Return the share of hits of confusion counts (..., E, F): rows wanted, columns read, the last one "none"."""
    hits: Floats = np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1))
    return hits


def macro_f1_of(counts: Floats) -> Floats:
    """Return the mean F1 of the emotions that occur, of confusion counts as for `accuracy_of`."""
    size = counts.shape[-2]
    hits = np.diagonal(counts, axis1=-2, axis2=-1)[..., :size]
    wanted, read = counts.sum(axis=-1), counts.sum(axis=-2)[..., :size]
    f1 = 2 * hits / np.maximum(wanted + read, 1)
    mean: Floats = (f1 * (wanted > 0)).sum(axis=-1) / (wanted > 0).sum(axis=-1)
    return mean


def _resampled(counts_GEF: Floats) -> Floats:
    """Return (R, E, F) counts of groups drawn with replacement; always the same draws."""
    draw = np.random.default_rng(0)
    num_groups = len(counts_GEF)
    flat = counts_GEF.reshape(num_groups, -1)
    rows = [np.bincount(draw.integers(num_groups, size=num_groups), minlength=num_groups) for _ in range(_RESAMPLES)]
    return np.stack([row @ flat for row in rows]).reshape(_RESAMPLES, *counts_GEF.shape[1:])


def _interval(values: Floats) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


__all__ = [
    "EmotionJudge",
    "Floats",
    "JudgeError",
    "JudgeQuality",
    "accuracy_of",
    "likeliest",
    "macro_f1_of",
    "rate_judge",
    "rate_readings",
]
