"""Labelling: give emotions to turns that have none, keep what people gave, and rate the labeller by what they gave."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from epo.data.chance import chance_levels, is_hardly_better
from epo.data.dialogue import Dialogue, Turn
from epo.emotions import EMOTIONS, Emotion
from epo.judging.judge import Floats

if TYPE_CHECKING:
    from epo.evaluation.labellers import Labeller

What = Literal["replies", "words", "clips"]
"""Turns of the assistant by their words, turns of both by their words, turns with a clip by their clip."""

_BATCH = 32
_DIALOGUES_AHEAD = 64  # whose turns are read together: bounds memory


def is_wanted(turn: Turn, what: What) -> bool:
    """Tell whether a turn is of the kind that is to be labelled."""
    if what == "clips":
        return turn.clip is not None
    return what == "words" or turn.speaker == "assistant"


def item_of(turn: Turn, what: What) -> Any:
    """Return what a labeller reads of a turn: its words or its clip."""
    return turn.clip if what == "clips" else turn.text


def is_labelled_by_people(turn: Turn) -> bool:
    """Tell whether a turn has an emotion that no model gave."""
    return turn.emotion is not None and turn.labelled_by is None


def choose(shares: Floats | None, min_confidence: float) -> Emotion | None:
    """Return the likeliest emotion, if it is likely enough and likelier than none of ours.

    Args:
        shares: float64 (E,), summing to at most 1; None gives None.
        min_confidence: least probability.
    """
    if shares is None:
        return None
    best = int(shares.argmax())
    return EMOTIONS[best] if shares[best] >= min_confidence and shares[best] > 1 - shares.sum() else None


@dataclass
class LabelCounts:
    """What became of the turns of the wanted kind.

    Attributes:
        labelled: emotions given, by split.
        human: turns that people had labelled; kept.
        machine: turns that a model had labelled before; kept.
        unsure: turns of which the labeller was not sure enough.
        unreadable: turns whose clip cannot be decoded.
        passed_over: turns without emotion of splits that were not to be labelled.
    """

    labelled: dict[str, Counter[str]] = field(default_factory=dict)
    human: int = 0
    machine: int = 0
    unsure: int = 0
    unreadable: int = 0
    passed_over: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the counts for a report."""
        counts = {key: value for key, value in vars(self).items() if key != "labelled"}
        return {"labelled": {split: dict(found.most_common()) for split, found in self.labelled.items()}, **counts}


def label_dialogues(
    dialogues: Iterable[Dialogue],
    labeller: "Labeller",
    what: What,
    splits: Sequence[str],
    min_confidence: float,
    name: str,
    counts: LabelCounts,
) -> Iterator[Dialogue]:
    """Yield the dialogues in their order, turns of the wanted kind labelled where they have no emotion.

    Args:
        dialogues: any.
        labeller: reads words or clips, as `what` says.
        what: which turns.
        splits: whose dialogues are labelled; others come out as they are.
        min_confidence: least probability of a label.
        name: written beside each label, as who gave it.
        counts: is added to.
    """
    remaining = iter(dialogues)
    while batch := list(itertools.islice(remaining, _DIALOGUES_AHEAD)):
        places = [
            (row, index)
            for row, dialogue in enumerate(batch)
            for index, turn in enumerate(dialogue.turns)
            if _is_due(dialogue, turn, what, splits, counts)
        ]
        found = read_all(labeller, [item_of(batch[row].turns[index], what) for row, index in places])
        labels: dict[tuple[int, int], Emotion] = {}
        for place, shares in zip(places, found, strict=True):
            emotion = choose(shares, min_confidence)
            if emotion is not None:
                labels[place] = emotion
                counts.labelled.setdefault(str(batch[place[0]].split), Counter())[emotion] += 1
            else:
                counts.unreadable += shares is None
                counts.unsure += shares is not None
        for row, dialogue in enumerate(batch):
            yield replace(
                dialogue,
                turns=tuple(
                    replace(turn, emotion=labels[row, index], labelled_by=name) if (row, index) in labels else turn
                    for index, turn in enumerate(dialogue.turns)
                ),
            )


def read_all(labeller: "Labeller", items: Sequence[Any]) -> list[Floats | None]:
    """Let a labeller read any number of items, a batch at a time."""
    return [row for start in range(0, len(items), _BATCH) for row in labeller.read(items[start : start + _BATCH])]


@dataclass(frozen=True)
class Rating:
    """How a labeller does on turns that people labelled.

    Attributes:
        count: how many it could read.
        accuracy: share of them whose likeliest emotion is theirs.
        majority: what always the commonest of their labels would score.
        confident: share on which it was sure enough.
        confident_accuracy: share of those that it got right; None where there are none.
    """

    count: int
    accuracy: float
    majority: float
    confident: float
    confident_accuracy: float | None

    @property
    def is_hardly_better(self) -> bool:
        """Whether the labels say little."""
        return is_hardly_better(self.accuracy, self.majority)


def rate(shares: Sequence[Floats | None], emotions: Sequence[Emotion], min_confidence: float) -> Rating | None:
    """Compare what a labeller read with what people said; None where it could read nothing.

    Args:
        shares: as `Labeller.read` returns them.
        emotions: what people said.
        min_confidence: least probability of a label.
    """
    read = [(row, emotion) for row, emotion in zip(shares, emotions, strict=True) if row is not None]
    if not read:
        return None
    sure = [(choose(row, min_confidence), emotion) for row, emotion in read]
    given = [(label, emotion) for label, emotion in sure if label is not None]
    return Rating(
        count=len(read),
        accuracy=sum(choose(row, 0.0) == emotion for row, emotion in read) / len(read),
        majority=chance_levels([emotion for _, emotion in read])[0],
        confident=len(given) / len(read),
        confident_accuracy=sum(label == emotion for label, emotion in given) / len(given) if given else None,
    )


def human_labels(
    dialogues: Iterable[Dialogue], what: What, keep: Callable[[str], bool]
) -> Iterator[tuple[Dialogue, Turn, Emotion]]:
    """Yield the turns of the wanted kind that people labelled, of the splits that `keep` says."""
    for dialogue in dialogues:
        if keep(str(dialogue.split)):
            for turn in dialogue.turns:
                if is_wanted(turn, what) and turn.emotion is not None and is_labelled_by_people(turn):
                    yield dialogue, turn, turn.emotion


def _is_due(dialogue: Dialogue, turn: Turn, what: What, splits: Sequence[str], counts: LabelCounts) -> bool:
    """Tell whether a turn is to be labelled, and count it if not."""
    if not is_wanted(turn, what):
        return False
    if turn.emotion is not None:
        counts.human += turn.labelled_by is None
        counts.machine += turn.labelled_by is not None
        return False
    if dialogue.split not in splits:
        counts.passed_over += 1
        return False
    return True


__all__ = [
    "LabelCounts",
    "Rating",
    "What",
    "choose",
    "human_labels",
    "is_labelled_by_people",
    "is_wanted",
    "item_of",
    "label_dialogues",
    "rate",
    "read_all",
]
