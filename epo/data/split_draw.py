"""SplitDraw: read a corpus once, then decide all its splits together, so that nothing leaks and small splits exist.

Two passes: `add` each dialogue as it comes, `decide`, then ask `Splits.of` for each. Between them only ids, groups and
counts of labels are kept, some 300 bytes a dialogue.
"""

import bisect
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from epo.data.dialogue import SPLITS, Dialogue, Split
from epo.data.replies import is_reply
from epo.data.splits import Splits, SplitShares, place_of

_HELD_OUT: tuple[Split, ...] = ("test", "validation")  # by need: evaluation cannot do without, training can
_SIZE = ""  # the count of dialogues among the counts of labels
# Of dialogues beside one label. By trials shares come out to the dialogue with it, and labels as near as with 1.
_SIZE_WEIGHT = 10.0
_NAMED = 3  # groups that a note names


@dataclass
class _Unit:
    """What may not be torn apart: a group, or a dialogue without one.

    `counts` holds dialogues under `_SIZE`, and labels; `own` the splits that the corpus gives its dialogues; `free` is
    the number of those without.
    """

    counts: Counter[str] = field(default_factory=Counter)
    own: Counter[Split] = field(default_factory=Counter)
    free: int = 0


class SplitDraw:
    """Decides the splits of a corpus that is shown to it once.

    The order of the dialogues does not matter. Fixed beforehand are the corpus's own splits, groups that these pull
    with them, and what an earlier draw recorded. The rest is dealt out one unit after the other, in an order that a
    hash of its name gives: each goes where it keeps dialogues and labels (emotions of user turns, emotions of replies)
    nearest to the shares of what has been dealt so far. Our choice; iterative stratification (Sechidis et al. 2011)
    deals by label and would put long dialogues into train.
    """

    def __init__(self, shares: SplitShares, earlier: Splits | None = None) -> None:
        """Begin with nothing.

        Args:
            shares: what is asked.
            earlier: what an earlier draw by the same shares gave (`read_splits`); it is kept.
        """
        self._shares = shares
        self._earlier = earlier
        self._units: dict[tuple[str, str], _Unit] = {}
        self._words: list[tuple[int, tuple[str, str], Split | None]] = []

    def add(self, dialogue: Dialogue) -> None:
        """Take note of a dialogue, with the split that the corpus gives it, if any."""
        key = self._shares.key(dialogue.id, dialogue.group)
        unit = self._units.setdefault(key, _Unit())
        unit.counts.update(_count(dialogue))
        if dialogue.split is None:
            unit.free += 1
        else:
            unit.own[dialogue.split] += 1
        self._words.append((words_digest(dialogue), key, dialogue.split))

    def decide(self) -> Splits:
        """Return the splits of all dialogues added."""
        chosen = self._fixed()
        num_fixed = len(chosen)
        have: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
        for key, unit in self._units.items():
            self._count_own(unit, key, chosen, have)
        free = [key for key in self._units if key not in chosen]
        free.sort(key=lambda key: (place_of(key[1], self._shares.seed), key))
        self._deal(free, chosen, have)
        notes = [*self._raise_to_minimum(free, chosen, have), *self._crossing(), *self._same_words(chosen)]
        if self._earlier is not None and num_fixed < len(chosen):
            notes.insert(0, f"splits kept from the import before; {len(chosen) - num_fixed} drawn beside them")
        named: dict[str, dict[str, Split]] = {"groups": {}, "dialogues": {}}
        for (kind, name), split in chosen.items():
            if kind == "groups" or self._units[kind, name].free:
                named[kind][name] = split
        return Splits(self._shares, named["groups"], named["dialogues"], tuple(notes))

    def _fixed(self) -> dict[tuple[str, str], Split]:
        """Return the units that are decided already: by the corpus's own splits, else by the record."""
        fixed = {}
        for key, unit in self._units.items():
            if unit.own:
                fixed[key] = max(SPLITS, key=lambda split: unit.own[split])  # of equals the first: train
            elif self._earlier is not None:
                recorded: dict[str, Split] = getattr(self._earlier, key[0])
                if key[1] in recorded:
                    fixed[key] = recorded[key[1]]
        return fixed

    def _count_own(
        self, unit: _Unit, key: tuple[str, str], chosen: dict[tuple[str, str], Split], have: dict[Split, Counter[str]]
    ) -> None:
        """Count a decided unit; one that crosses the corpus's own splits counts in each by its dialogues there."""
        if key not in chosen:
            return
        parts = unit.own + Counter({chosen[key]: unit.free})
        for split, part in parts.items():
            share = part / parts.total()
            for label, count in unit.counts.items():
                have[split][label] += count * share  # type: ignore[assignment]  # counters hold what one puts in

    def _deal(
        self, free: Sequence[tuple[str, str]], chosen: dict[tuple[str, str], Split], have: dict[Split, Counter[str]]
    ) -> None:
        totals: Counter[str] = Counter()
        for unit in self._units.values():
            totals.update(unit.counts)
        seen: Counter[str] = sum(have.values(), Counter())
        shares = {split: share for split, share in self._shares.shares.items() if share > 0}
        for key in free:
            counts = self._units[key].counts
            seen.update(counts)
            # What adding `count` to `have` changes in (have - share * seen)^2 / share; leaving it out costs all alike.
            costs = {
                split: sum(
                    (_SIZE_WEIGHT if label == _SIZE else 1.0)
                    * count
                    * (count + 2 * (have[split][label] - share * seen[label]))
                    / (share * totals[label] ** 2)
                    for label, count in counts.items()
                )
                for split, share in shares.items()
            }
            chosen[key] = min(shares, key=lambda split: costs[split])
            have[chosen[key]].update(counts)

    def _raise_to_minimum(
        self, free: Sequence[tuple[str, str]], chosen: dict[tuple[str, str], Split], have: dict[Split, Counter[str]]
    ) -> list[str]:
        """Move what was just dealt from train into splits that are too small; say where that cannot be."""
        least = self._shares.min_dialogues
        wanting = [split for split in _HELD_OUT if self._shares.shares[split] > 0]
        movable = [key for key in free if chosen[key] == "train"]
        movable.sort(key=self._size_of)  # of equals the first by hash
        for split in wanting:
            while (lacking := least - round(have[split][_SIZE])) > 0:
                place = self._best_to_move(movable, lacking, round(have["train"][_SIZE]) - max(1, least))
                if place is None:
                    break
                key = movable.pop(place)
                have["train"].subtract(self._units[key].counts)
                have[split].update(self._units[key].counts)
                chosen[key] = split
        return [
            f"{split} has {round(have[split][_SIZE])} dialogues where min_split asks for {least}: there are "
            f"{self._size()}, and train keeps as many"
            for split in wanting
            if round(have[split][_SIZE]) < least
        ]

    def _size(self) -> str:
        dialogues = f"{len(self._words)} dialogues"
        groups = f" in {len(self._units)} groups that may not be torn apart"
        return dialogues + (groups if any(kind == "groups" for kind, _ in self._units) else "")

    def _best_to_move(self, movable: Sequence[tuple[str, str]], lacking: int, most: int) -> int | None:
        """Return the place of the unit that fills best what lacks, and of which train can spare the dialogues.

        Args:
            movable: units by their size.
            lacking: dialogues; the largest unit of no more fills it best, else the smallest there is.
            most: dialogues that train can spare.
        """
        end = bisect.bisect_right(movable, min(most, lacking), key=self._size_of)
        if end > 0:
            return bisect.bisect_left(movable, self._size_of(movable[end - 1]), hi=end, key=self._size_of)
        return 0 if movable and self._size_of(movable[0]) <= most else None

    def _size_of(self, key: tuple[str, str]) -> int:
        return self._units[key].counts[_SIZE]

    def _crossing(self) -> list[str]:
        names = [name for (kind, name), unit in self._units.items() if kind == "groups" and len(unit.own) > 1]
        if not names:
            return []
        return [
            f"{len(names)} groups are in more than one split by the corpus's own marks, which are kept: "
            f"{_some(sorted(names))}"
        ]

    def _same_words(self, chosen: dict[tuple[str, str], Split]) -> list[str]:
        found = [(digest, chosen[key] if own is None else own) for digest, key, own in self._words]
        return [shared.as_line() for shared in find_same_words(found)]


@dataclass(frozen=True)
class SameWords:
    """Dialogues of a split whose words, all of them, also are those of a dialogue of a split before it."""

    first: Split
    second: Split
    count: int

    def as_line(self) -> str:
        """Return it in words."""
        return f"{self.count} {self.second} dialogues have the very words of a {self.first} dialogue"


def words_digest(dialogue: Dialogue) -> int:
    """Return 64 bits of a digest of the words of a dialogue; case and blanks do not count."""
    text = "\n".join(" ".join(turn.text.casefold().split()) for turn in dialogue.turns)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def find_same_words(found: Iterable[tuple[int, Split]]) -> list[SameWords]:
    """Return which splits share dialogues, word for word.

    Args:
        found: the digest of each dialogue's words (`words_digest`) and its split.
    """
    counts: dict[Split, Counter[int]] = {split: Counter() for split in SPLITS}
    for digest, split in found:
        counts[split][digest] += 1
    shared = [
        SameWords(first, second, sum(count for digest, count in counts[second].items() if digest in counts[first]))
        for place, first in enumerate(SPLITS)
        for second in SPLITS[place + 1 :]
    ]
    return [pair for pair in shared if pair.count]


def _count(dialogue: Dialogue) -> dict[str, int]:
    """Count a dialogue as one, and its labels: what an extractor and what a reply is learnt from, by emotion."""
    counts: dict[str, Any] = {_SIZE: 1}
    for index, turn in enumerate(dialogue.turns):
        if turn.emotion is not None and (turn.speaker == "user" or is_reply(dialogue, index)):
            label = f"{turn.speaker} {turn.emotion}"
            counts[label] = counts.get(label, 0) + 1
    return counts


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


__all__ = ["SameWords", "SplitDraw", "find_same_words", "words_digest"]
