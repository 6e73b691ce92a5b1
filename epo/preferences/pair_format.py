"""The format of a preference pair, checked field by field: what is broken is a fault, what can do without is kept."""

import math
from collections.abc import Mapping
from typing import Any

from epo.data.characters import comparison_form, is_encodable, read_text
from epo.data.dialogue import Dialogue
from epo.data.findings import Findings
from epo.data.pointers import Pointers
from epo.data.replies import is_reply
from epo.data.spoken_label import without_label
from epo.emotions import Emotion, UnknownEmotionError, parse_emotion
from epo.preferences.pair_kinds import KINDS

PAIR_KEYS = frozenset(
    {"dialogue_id", "turn", "chosen", "chosen_emotion", "rejected", "rejected_emotion", "source", "scores", "kind"}
)
_REQUIRED = ("dialogue_id", "turn", "chosen", "rejected")


class PairFormat:
    """Reads decoded lines of one file of pairs."""

    def __init__(self, dialogues: Mapping[str, Dialogue], findings: Findings) -> None:
        """Read rows that point into dialogues.

        Args:
            dialogues: by id.
            findings: hears of each fault; where it returns, the pair goes, or the field that it can do without.
        """
        self._findings, self._pointers = findings, Pointers(dialogues, "pair", findings)
        self._seen: dict[tuple[str, int, str, str], str] = {}

    def read(self, row: dict[str, Any], where: str) -> dict[str, Any] | None:
        """Return the fields of a line, each sound, or None where the pair cannot be used."""
        self._pointers.count()
        unknown, missing = sorted(row.keys() - PAIR_KEYS), [key for key in _REQUIRED if row.get(key) is None]
        if unknown:
            names = ", ".join(f"{key!r:.80}" for key in unknown[:8])
            place = f"{where}: unknown key {names}; known are {', '.join(sorted(PAIR_KEYS))}"
            self._findings.fault("unknown key", place, "take it out")
        if missing:
            place = f"{where}: {', '.join(map(repr, missing))} missing"
            self._findings.fault("pair without what it needs", place, "see docs/preferences.md")
            return None
        dialogue = self._pointers.find(row["dialogue_id"], where)
        if dialogue is None or not self._is_place(dialogue, row["turn"], where):
            return None
        chosen, rejected = (self._text(row, key, "pair with an empty reply", where) for key in ("chosen", "rejected"))
        if chosen is None or rejected is None:
            return None
        better, worse = (self._emotion(row.get(key), key, where) for key in ("chosen_emotion", "rejected_emotion"))
        if better is not None and worse is not None:  # replies are learnt with their labels
            chosen = without_label(chosen, "'chosen'", where, self._findings)
            rejected = without_label(rejected, "'rejected'", where, self._findings)
        if not self._differ(dialogue.id, row["turn"], chosen, rejected, where):
            return None
        sound = {"dialogue_id": dialogue.id, "turn": row["turn"], "chosen": chosen, "rejected": rejected}
        sound |= {"chosen_emotion": better, "rejected_emotion": worse}
        if (better is None) != (worse is None):
            self._findings.note("pair with one emotion: both replies are learnt without their label", where)
        if row.get("source") is not None:
            source = self._text(row, "source", "broken source", where)
            sound |= {} if source is None else {"source": source}
        return sound | {"scores": self._scores(row.get("scores"), where), "kind": self._kind(row.get("kind"), where)}

    def finish(self) -> None:
        """Report a fault where half of the pairs or more belong to dialogues that are not there."""
        self._pointers.finish()

    def _is_place(self, dialogue: Dialogue, turn: Any, where: str) -> bool:
        if isinstance(turn, int) and not isinstance(turn, bool) and is_reply(dialogue, turn):
            return True
        place = (
            f"{where}: turn {turn!r:.80} of dialogue {dialogue.id!r} is not an assistant turn that follows a user turn "
            f"(turns are counted from 0; there are {len(dialogue.turns)})"
        )
        self._findings.fault("pair of a turn that is no reply", place, "correct the number")
        return False

    def _differ(self, dialogue_id: str, turn: int, chosen: str, rejected: str, where: str) -> bool:
        """Tell whether two replies differ; note where they were ranked before, alike or the other way round."""
        better, worse = comparison_form(chosen), comparison_form(rejected)
        if better == worse:
            place = f"{where}: 'chosen' and 'rejected' are the same text"
            self._findings.fault("pair of equal replies", place, "drop the pair")
            return False
        key, opposite = (dialogue_id, turn, better, worse), (dialogue_id, turn, worse, better)
        if key in self._seen:
            self._findings.note("pair that comes twice", f"{where}: as in {self._seen[key]}")
        elif opposite in self._seen:
            place = f"{where}: against {self._seen[opposite]}"
            self._findings.note("pair that is also ranked the other way round", place)
        self._seen.setdefault(key, where)
        return True

    def _emotion(self, label: Any, key: str, where: str) -> Emotion | None:
        if label is None:
            return None
        remedy = "correct it or leave it out"
        if not isinstance(label, str):
            self._findings.fault("unknown emotion label", f"{where}: {key!r}: must be a string", remedy)
            return None
        try:
            return parse_emotion(label)
        except UnknownEmotionError as error:
            self._findings.fault("unknown emotion label", f"{where}: {key!r}: {error}", remedy)
            return None

    def _kind(self, kind: Any, where: str) -> str | None:
        if kind is None or (isinstance(kind, str) and kind in KINDS):
            return kind
        place = f"{where}: 'kind' is {kind!r:.80}, want one of {', '.join(KINDS)}"
        self._findings.fault("unknown kind of pair", place, "correct it or leave it out")
        return None

    def _scores(self, row: Any, where: str) -> dict[str, float]:
        if row is None:
            return {}
        fault = self._findings.fault
        if not isinstance(row, dict):
            fault("broken score", f"{where}: 'scores' must map names to numbers", "write it so or leave it out")
            return {}
        scores = {}
        for name, value in row.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if is_number and is_encodable(name):
                scores[name] = float(value)
            else:
                place = f"{where}: score {name!r:.80} is {value!r:.80}, want a finite number"
                fault("broken score", place, "correct it or leave it out")
        return scores

    def _text(self, row: dict[str, Any], key: str, kind: str, where: str) -> str | None:
        return read_text(row[key], f"{key!r}", kind, where, self._findings)


__all__ = ["PAIR_KEYS", "PairFormat"]
