"""Description: what a corpus holds, split by split, gathered from its dialogues one at a time."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.words import contains_words, split_words
from epo.data.dialogue import SPLITS, Dialogue, Speaker, Turn
from epo.data.replies import is_reply
from epo.data.script_check import is_other_script
from epo.data.split_draw import find_same_words, words_digest

NO_SPLIT = "no split"
SPEAKERS: tuple[Speaker, ...] = ("user", "assistant")
_MAX_EXAMPLES = 5
_COSTS = {
    "user": "there is nothing to answer, and no clip for the extractor",
    "assistant": "there is no reply to learn: it serves the extractor alone",
}


class Spread:
    """How whole numbers are spread: a count of each that occurs, so memory does not grow with how many there are."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, value: int, times: int = 1) -> None:
        """Count a number."""
        self.counts[value] += times

    def quantile(self, share: float) -> int:
        """Return the smallest number that at least this share of all do not exceed; 0 where there are none."""
        due, reached = share * self.counts.total(), 0
        for value in sorted(self.counts):
            reached += self.counts[value]
            if reached >= due:
                return value
        return 0

    def as_json(self) -> dict[str, Any]:
        """Return how many, median, 95th percentile, least and most; the last four None where there are none."""
        count = self.counts.total()
        if count == 0:
            return {"count": 0, "median": None, "p95": None, "least": None, "most": None}
        spread = {"median": self.quantile(0.5), "p95": self.quantile(0.95)}
        return {"count": count, **spread, "least": min(self.counts), "most": max(self.counts)}


@dataclass
class SplitNumbers:
    """What is counted of one split.

    Attributes:
        dialogues: how many.
        groups: how many different ones.
        turns: by speaker.
        labels: emotions by speaker; "none" where there is none.
        machine_labels: how many of them each model gave.
        turns_a_dialogue: spread.
        words: a turn, by speaker.
        reply_words: words of the replies that are learnt.
        clips: how many have "audio", "video"; "any" is how many there are.
        marked_seconds: length of the clips whose end is given, and nothing else.
        names: who speaks, as the corpus calls them.
        languages: of the dialogues.
        facts: "stated" by the dialogues, and "held" by the replies they belong to.
        uses: what each stage would find, by the caller's names.
    """

    dialogues: int = 0
    groups: int = 0
    turns: Counter[str] = field(default_factory=Counter)
    labels: dict[Speaker, Counter[str]] = field(default_factory=lambda: {speaker: Counter() for speaker in SPEAKERS})
    machine_labels: Counter[str] = field(default_factory=Counter)
    turns_a_dialogue: Spread = field(default_factory=Spread)
    words: dict[Speaker, Spread] = field(default_factory=lambda: {speaker: Spread() for speaker in SPEAKERS})
    reply_words: Spread = field(default_factory=Spread)
    clips: Counter[str] = field(default_factory=Counter)
    marked_seconds: float = 0.0
    names: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    uses: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers for other programs."""
        return {
            "dialogues": self.dialogues,
            "groups": self.groups,
            "turns": dict(self.turns),
            "labels": {speaker: dict(self.labels[speaker].most_common()) for speaker in SPEAKERS},
            "machine_labels": dict(self.machine_labels.most_common()),
            "turns_a_dialogue": self.turns_a_dialogue.as_json(),
            "words_a_turn": {speaker: self.words[speaker].as_json() for speaker in SPEAKERS},
            "words_a_reply": self.reply_words.as_json(),
            "clips": {kind: self.clips[kind] for kind in ("any", "audio", "video")},
            "marked_hours": round(self.marked_seconds / 3600, 3),
            "speakers": len(self.names),
            "most_frequent_speakers": dict(self.names.most_common(10)),
            "languages": dict(self.languages.most_common()),
            "facts": {"stated": self.facts["stated"], "held": self.facts["held"]},
            "uses": dict(self.uses),
        }


class Description:
    """Gathers what a corpus holds; memory grows by 50 bytes a dialogue, for finding those with the same words."""

    def __init__(self) -> None:
        self.splits: dict[str, SplitNumbers] = {}
        self.examples: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()
        self._groups: dict[str, set[str]] = {}
        self._digests: list[tuple[int, Any]] = []

    def add(self, dialogue: Dialogue, uses: Mapping[str, int]) -> None:
        """Count a dialogue.

        Args:
            dialogue: any.
            uses: what each stage would find in it, by names that the caller chooses.
        """
        split = NO_SPLIT if dialogue.split is None else dialogue.split
        numbers = self.splits.setdefault(split, SplitNumbers())
        numbers.dialogues += 1
        numbers.turns_a_dialogue.add(len(dialogue.turns))
        numbers.languages[dialogue.language] += 1
        numbers.uses.update(uses)
        if dialogue.group is not None:
            numbers.groups += split not in self._groups.setdefault(dialogue.group, set())
            self._groups[dialogue.group].add(split)
        for index, turn in enumerate(dialogue.turns):
            self._add_turn(turn, numbers, is_reply(dialogue, index))
            if is_other_script(turn.text, dialogue.language):
                kind = f"turns are in another script than that of their language {dialogue.language!r}"
                self._note(kind, f"{dialogue.id} turn {index}: {turn.text[:60]}")
        self._add_facts(dialogue, numbers)
        self._digests.append((words_digest(dialogue), split))

    def _add_turn(self, turn: Turn, numbers: SplitNumbers, is_learnt: bool) -> None:
        numbers.turns[turn.speaker] += 1
        numbers.labels[turn.speaker]["none" if turn.emotion is None else turn.emotion] += 1
        if turn.labelled_by is not None:
            numbers.machine_labels[turn.labelled_by] += 1
        num_words = len(split_words(turn.text))
        numbers.words[turn.speaker].add(num_words)
        if is_learnt:
            numbers.reply_words.add(num_words)
        if turn.name is not None:
            numbers.names[turn.name] += 1
        if turn.clip is not None:
            kinds = {"any": True, "audio": turn.clip.audio is not None, "video": turn.clip.video is not None}
            numbers.clips.update(kinds)
            if turn.clip.end_s is not None:
                numbers.marked_seconds += turn.clip.end_s - turn.clip.start_s

    def _add_facts(self, dialogue: Dialogue, numbers: SplitNumbers) -> None:
        for index, facts in dialogue.facts.items():
            for fact in facts:
                numbers.facts["stated"] += 1
                if contains_words(dialogue.turns[index].text, fact):
                    numbers.facts["held"] += 1
                else:
                    kind = "facts are not in the words of the reply they belong to: recall of the gold is below 1"
                    self._note(kind, f"{dialogue.id} turn {index}: {fact}")

    def _note(self, kind: str, where: str) -> None:
        self._counts[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(where)

    def findings(self) -> list[str]:
        """Return what a user should look at before training, a line each."""
        lines = [f"no {split} dialogues" for split in SPLITS if split not in self.splits]
        lines += [f"{count} {kind}; such as {self.examples[kind][0]}" for kind, count in self._counts.most_common()]
        crossing = sorted(group for group, splits in self._groups.items() if len(splits) > 1)
        if crossing:
            named = ", ".join(map(repr, crossing[:3]))
            lines.append(f"{len(crossing)} groups are in more than one split: {named}{', ...' if crossing[3:] else ''}")
        marked = [(digest, split) for digest, split in self._digests if split != NO_SPLIT]
        lines += [shared.as_line() for shared in find_same_words(marked)]
        repeated = len(self._digests) - len({digest for digest, _ in self._digests})
        if repeated:
            lines.append(f"{repeated} dialogues repeat the words of another")
        return lines + self._label_findings()

    def _label_findings(self) -> list[str]:
        lines = []
        test = self.splits.get("test")
        if test is not None and test.machine_labels:
            lines.append(f"{test.machine_labels.total()} test labels are a model's: scores on them follow that model")
        train = self.splits.get("train")
        if train is not None:
            for speaker in SPEAKERS:
                if not train.turns[speaker]:
                    lines.append(f"train has no {speaker} turn, so " + _COSTS[speaker])
                elif not set(train.labels[speaker]) - {"none"}:
                    lines.append(f"no {speaker} turn of train has an emotion")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return everything for other programs, splits in their order."""
        return {
            "splits": {split: self.splits[split].as_json() for split in self.in_order()},
            "findings": self.findings(),
            "examples": self.examples,
        }

    def in_order(self) -> list[str]:
        """Return the splits that occur: train, validation, test, and those without."""
        return [split for split in (*SPLITS, NO_SPLIT) if split in self.splits]


__all__ = ["NO_SPLIT", "SPEAKERS", "Description", "Spread", "SplitNumbers"]
