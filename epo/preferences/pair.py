"""PreferencePair: a reply and one that is worse in the same place, read from and written to JSONL."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from epo.data.characters import comparison_form
from epo.data.dialogue import DataError, Dialogue, Split
from epo.data.findings import Findings, StopAtFault
from epo.data.lines import read_lines
from epo.data.replies import Reply, reply_at
from epo.emotions import Emotion
from epo.preferences.pair_format import PairFormat
from epo.preferences.pair_kinds import PairKind, usual_kind


@dataclass(frozen=True)
class PreferencePair:
    """Two replies to the same history and the same clip, one preferred: by its emotion, or by people.

    Attributes:
        reply: the chosen one, with what leads to both.
        rejected: the words of the other.
        rejected_emotion: None where nobody said it, as in human rankings.
        source: where the rejected reply or the ranking came from.
        scores: what the filters measured.
        kind: in what the rejected reply is worse; None for what a pair without a word of it is: an emotion flip where
            both emotions are known, else a ranking.
    """

    reply: Reply
    rejected: str
    rejected_emotion: Emotion | None
    source: str = "unnamed"
    scores: dict[str, float] = field(default_factory=dict)
    kind: PairKind | None = None

    @property
    def known_kind(self) -> PairKind:
        """In what the rejected reply is worse, said or not."""
        has_emotions = self.chosen_emotion is not None and self.rejected_emotion is not None
        return usual_kind(has_emotions) if self.kind is None else self.kind

    @property
    def dialogue_id(self) -> str:
        """The dialogue that both replies belong to."""
        return self.reply.dialogue_id

    @property
    def chosen(self) -> str:
        """The words of the chosen reply."""
        return self.reply.text

    @property
    def chosen_emotion(self) -> Emotion | None:
        """The emotion of the chosen reply, None where nobody said it."""
        return self.reply.emotion


def read_pairs(
    path: str | Path, dialogues: Mapping[str, Dialogue] | Iterable[Dialogue], findings: Findings | None = None
) -> list[PreferencePair]:
    """Read and validate a pairs file.

    Args:
        path: JSONL, one pair a line.
        dialogues: those that the pairs point into, by id or as they come.
        findings: hears of notes and faults; None stops at the first fault.

    Raises:
        DataError: the file is missing, holds no pair, or most of its pairs belong to other dialogues; or a line is
            malformed, its turn is no assistant turn after a user turn, a reply is empty, or both replies are the same,
            and `findings` says to stop. The message starts with `path:line`.
    """
    by_id = dialogues if isinstance(dialogues, Mapping) else {dialogue.id: dialogue for dialogue in dialogues}
    pairs = [pair for _, pair in scan_pairs(path, by_id, StopAtFault() if findings is None else findings)]
    if not pairs:
        raise DataError(f"{path}: holds no pair; see report.json beside it for what was dropped and why")
    return pairs


def scan_pairs(
    path: str | Path, dialogues: Mapping[str, Dialogue], findings: Findings
) -> Iterator[tuple[str, PreferencePair]]:
    """Yield (`path:line`, pair) of a pairs file: the one reader that all others call.

    A pair whose dialogue is not there is left out with a note, as after dialogues were dropped; where that is so for
    half of the pairs or more, they belong to other data, which is a fault. A pair that comes twice, or the other way
    round too, is kept with a note: people may disagree.

    Raises:
        DataError: the file is missing; or a fault, and `findings` says to stop.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; write it with `python launch/preferences.py`")
    form = PairFormat(dialogues, findings)
    for where, row in read_lines(path, findings):
        sound = form.read(row, where)
        if sound is not None:
            place = reply_at(dialogues[sound.pop("dialogue_id")], sound.pop("turn"))
            chosen = replace(place, text=sound.pop("chosen"), emotion=sound.pop("chosen_emotion"))
            yield where, PreferencePair(chosen, **sound)
    form.finish()


def write_pairs(path: str | Path, pairs: Iterable[PreferencePair]) -> int:
    """Write pairs as JSONL, atomically, and return how many."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", encoding="utf-8") as out:
        for pair in pairs:
            row = {
                "dialogue_id": pair.dialogue_id,
                "turn": pair.reply.turn,
                "chosen": pair.chosen,
                "chosen_emotion": pair.chosen_emotion,
                "rejected": pair.rejected,
                "rejected_emotion": pair.rejected_emotion,
                "source": pair.source,
                "scores": pair.scores,
                "kind": pair.kind,
            }
            known = {key: value for key, value in row.items() if value is not None}
            out.write(json.dumps(known, ensure_ascii=False) + "\n")
            count += 1
    partial.replace(path)
    return count


def pairs_of_split(pairs: Iterable[PreferencePair], split: Split) -> list[PreferencePair]:
    """Return the pairs of one split as they are learnt."""
    return [with_labels_on_both_or_neither(pair) for pair in pairs if pair.reply.split == split]


def pairs_to_learn(pairs: Collection[PreferencePair], path: str, data: str) -> list[PreferencePair]:
    """Return the training pairs.

    Args:
        pairs: of all splits.
        path: the pairs' file, for the message.
        data: the dialogues' file, for the message.

    Raises:
        DataError: no pair belongs to a training dialogue.
    """
    found = pairs_of_split(pairs, "train")
    if not found:
        raise DataError(
            f"{path}: none of its {len(pairs)} pairs belongs to a dialogue of split 'train' in {data}; let "
            "launch/preferences.py build pairs on that split"
        )
    return found


def is_same_text(first: str, second: str) -> bool:
    """Tell whether two replies are the same but for case, blanks, and characters without ink or of compatible form.

    Punctuation counts: `Great!` and `Great...` are said in different emotions.
    """
    return comparison_form(first) == comparison_form(second)


def with_labels_on_both_or_neither(pair: PreferencePair) -> PreferencePair:
    """Return a pair as it is learnt: one with an emotion on one side only, as in human rankings, has none on either.

    A label on one side only would tell the sides apart. (Our choice.)
    """
    if pair.chosen_emotion is not None and pair.rejected_emotion is not None:
        return pair
    return replace(pair, reply=replace(pair.reply, emotion=None), rejected_emotion=None)


__all__ = [
    "PreferencePair",
    "is_same_text",
    "pairs_of_split",
    "pairs_to_learn",
    "read_pairs",
    "scan_pairs",
    "with_labels_on_both_or_neither",
    "write_pairs",
]
