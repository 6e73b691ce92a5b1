"""The format of a dialogue, checked field by field: what is broken is a fault and left out, the rest is kept."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epo.data.characters import is_encodable, read_text
from epo.data.findings import Findings
from epo.data.spoken_label import without_label
from epo.emotions import UnknownEmotionError, Vad, parse_emotion

DIALOGUE_KEYS = frozenset({"id", "turns", "language", "split", "facts", "group", "background", "personas"})
TURN_KEYS = frozenset({"speaker", "text", "emotion", "clip", "name", "strategy", "description", "labelled_by", "vad"})
CLIP_KEYS = frozenset({"audio", "video", "start_s", "end_s"})
SPEAKERS = ("user", "assistant")
SPLITS = ("train", "validation", "test")


class DialogueFormat:
    """Reads decoded lines of one file."""

    def __init__(self, root: Path, findings: Findings) -> None:
        """Read rows whose media lie below a folder.

        Args:
            root: real path of that folder.
            findings: hears of each fault; where it returns, the field, turn or dialogue is left out.
        """
        self._root, self._findings = root, findings

    def read(self, row: Any, where: str) -> dict[str, Any] | None:
        """Return what is usable of a decoded line: the keyword arguments of a `Dialogue`, turns and clips likewise.

        A dialogue goes whole only where it has no id or no usable turn.
        """
        findings = self._findings
        if not isinstance(row, dict):
            findings.fault("line is not a JSON object", f"{where}: want a JSON object with 'id' and 'turns'", "mend it")
            return None
        self._unknown_keys(row, DIALOGUE_KEYS, where)
        name = self._text(row.get("id"), "'id'", "dialogue without an id", where)
        sound: dict[str, Any] = {"id": name}
        sound["language"] = self._optional(row, "language", where) or "en"
        for key in ("group", "background"):
            sound[key] = self._optional(row, key, where)
        sound["split"] = split = row.get("split")
        if split is not None and split not in SPLITS:
            place = f"{where}: 'split' is {split!r:.80}, want one of {', '.join(SPLITS)}"
            findings.fault("unknown split", place, "correct it")
            sound["split"] = None
        sound["personas"] = self._personas(row.get("personas"), where)
        sound["turns"], places = self._turns(row.get("turns"), where)
        sound["facts"] = self._facts(row.get("facts"), places, where)
        return sound if name is not None and sound["turns"] else None

    def _turns(self, rows: Any, where: str) -> tuple[list[dict[str, Any]], dict[str, int | None]]:
        """Return the usable turns, and for each number in the file the index among them."""
        if not isinstance(rows, list) or not rows:
            self._findings.fault("dialogue without turns", f"{where}: 'turns' must be a non-empty list", "write them")
            return [], {}
        turns: list[dict[str, Any]] = []
        places: dict[str, int | None] = {}
        for index, row in enumerate(rows):
            turn = self._turn(row, f"{where}: turn {index}")
            places[str(index)] = None if turn is None else len(turns)
            if turn is not None:
                turns.append(turn)
        if not turns:
            place = f"{where}: none of its {len(rows)} turns can be used"
            self._findings.fault("dialogue without a usable turn", place, "mend one, or drop the dialogue")
        return turns, places

    def _turn(self, row: Any, where: str) -> dict[str, Any] | None:
        if not isinstance(row, dict):
            place = f"{where}: want an object with 'speaker' and 'text'"
            self._findings.fault("turn is no JSON object", place, "write one, or drop the turn")
            return None
        if not row.keys() <= TURN_KEYS:
            self._unknown_keys(row, TURN_KEYS, where)
        speaker = row.get("speaker")
        if speaker not in SPEAKERS:
            place = f"{where}: 'speaker' is {speaker!r:.80}, want 'user' or 'assistant'"
            self._findings.fault("turn of an unknown speaker", place, "say whose turn it is")
        text = self._text(row.get("text"), "'text'", "empty utterance", where)
        turn = {"speaker": speaker, "text": text}
        for key in row:
            if key == "emotion":
                turn[key] = self._emotion(row[key], where)
            elif key == "clip":
                turn[key] = self._clip(row[key], where)
            elif key == "vad":
                turn[key] = self._vad(row[key], where)
            elif key in TURN_KEYS and key not in turn:
                turn[key] = self._optional(row, key, where)
        if turn.get("labelled_by") is not None and row.get("emotion") is None:
            place = f"{where}: 'labelled_by' names who gave the emotion, but there is none"
            self._findings.fault("labelled_by without emotion", place, "leave it out")
        if turn.get("emotion") is None:
            turn.pop("labelled_by", None)
        elif text is not None:
            turn["text"] = without_label(text, "'text'", where, self._findings)
        return turn if text is not None and speaker in SPEAKERS else None

    def _emotion(self, label: Any, where: str) -> str | None:
        if label is None:
            return None
        if not isinstance(label, str):
            self._findings.fault("unknown emotion label", f"{where}: 'emotion' must be a string", "correct the label")
            return None
        try:
            return parse_emotion(label)
        except UnknownEmotionError as error:
            self._findings.fault("unknown emotion label", f"{where}: {error}", "correct the label")
            return None

    def _vad(self, values: Any, where: str) -> Vad | None:
        if values is None:
            return None
        is_list = isinstance(values, list) and len(values) == 3
        if is_list and all(type(value) in (int, float) and abs(value) <= 1 for value in values):  # false for NaN
            return float(values[0]), float(values[1]), float(values[2])
        place = f"{where}: 'vad' is {values!r:.80}, want [valence, arousal, dominance], each from -1 to 1"
        self._findings.fault("broken vad", place, "map the corpus's scale there, such as (x - 3) / 2 for 1 to 5")
        return None

    def _clip(self, row: Any, where: str) -> dict[str, Any] | None:
        if row is None:
            return None
        fault = self._findings.fault
        if not isinstance(row, dict):
            fault("broken clip", f"{where}: 'clip' must be an object with 'audio' and/or 'video'", "write one")
            return None
        self._unknown_keys(row, CLIP_KEYS, where)
        times = self._times(row.get("start_s"), row.get("end_s"), where)
        if row.get("audio") is None and row.get("video") is None:
            fault("broken clip", f"{where}: 'clip' has neither 'audio' nor 'video'", "leave it out")
        paths = {kind: self._path(row.get(kind), f"{where}: {kind}") for kind in ("audio", "video")}
        if times is None or (paths["audio"] is None and paths["video"] is None):
            return None
        return {**paths, "start_s": times[0], "end_s": times[1]}

    def _times(self, start_s: Any, end_s: Any, where: str) -> tuple[float, float | None] | None:
        """Return where a span begins and ends, in seconds; None, and a fault, where that is not to be known."""
        start_s = 0.0 if start_s is None else start_s
        if not _is_time(start_s) or start_s < 0:
            place = f"{where}: 'start_s' is {start_s!r:.80}, want seconds >= 0"
        elif end_s is not None and not (_is_time(end_s) and end_s > start_s):
            place = f"{where}: 'end_s' is {end_s!r:.80}, want > 'start_s'"
        else:
            return float(start_s), None if end_s is None else float(end_s)
        self._findings.fault("broken time of a clip", place, "correct it")
        return None

    def _path(self, value: Any, where: str) -> Path | None:
        """Return the real path of a file below the root."""
        if value is None:
            return None
        fault = self._findings.fault
        if not isinstance(value, str) or "\0" in value or not is_encodable(value):
            fault("broken clip", f"{where}: must be a relative path", "write one")
            return None
        try:
            real = Path(os.path.realpath(self._root / value))
            is_file = real.is_file()
        except OSError:  # a name longer than the file system allows
            real, is_file = self._root, False
        if os.path.isabs(value) or not real.is_relative_to(self._root):
            remedy = "put the media below it and write a relative path"
            fault("clip leaves the folder", f"{where}: {value!r} leaves the folder of the dialogues file", remedy)
        elif not is_file:
            remedy = "restore the file or remove it from the clip"
            fault("clip does not exist", f"{where}: {value!r} does not exist", remedy)
        else:
            return real
        return None

    def _facts(self, row: Any, places: Mapping[str, int | None], where: str) -> dict[int, tuple[str, ...]]:
        """Return the facts by index of the usable turns; those of a turn that is left out go with it."""
        if row is None:
            return {}
        if not isinstance(row, dict):
            place = f"{where}: 'facts' must map a turn number to a list of strings"
            self._findings.fault("broken facts", place, "write it so")
            return {}
        facts = {}
        for key, values in row.items():
            if key not in places:
                place = f"{where}: 'facts' names turn {key!r:.80}, but there are {len(places)} turns counted from 0"
                self._findings.fault("facts of no turn", place, "correct the number")
                continue
            texts = self._texts(values, f"'facts' of turn {key!r}", "broken facts", where)
            turn = places[key]
            if turn is not None and texts:
                facts[turn] = texts
        return facts

    def _personas(self, row: Any, where: str) -> dict[str, tuple[str, ...]]:
        if row is None:
            return {}
        if not isinstance(row, dict) or not row.keys() <= set(SPEAKERS):
            place = f"{where}: 'personas' must map 'user' or 'assistant' to a list of sentences"
            self._findings.fault("broken personas", place, "write it so")
            return {}
        return {key: self._texts(row[key], f"'personas' of the {key}", "broken personas", where) for key in row}

    def _texts(self, values: Any, what: str, kind: str, where: str) -> tuple[str, ...]:
        if not isinstance(values, list):
            place = f"{where}: {what} must be a list of non-empty strings"
            self._findings.fault(kind, place, "write it so")
            return ()
        texts = (read_text(value, f"a member of {what}", kind, where, self._findings) for value in values)
        return tuple(text for text in texts if text is not None)

    def _optional(self, row: dict[str, Any], key: str, where: str) -> str | None:
        value = row.get(key)
        return None if value is None else self._text(value, f"'{key}'", f"empty {key}", where)

    def _text(self, value: Any, what: str, kind: str, where: str) -> str | None:
        return read_text(value, what, kind, where, self._findings)

    def _unknown_keys(self, row: dict[str, Any], known: frozenset[str], where: str) -> None:
        unknown = sorted(row.keys() - known)
        if unknown:
            names = ", ".join(f"{key!r:.80}" for key in unknown[:8])
            place = f"{where}: unknown key {names}; known are {', '.join(sorted(known))}"
            self._findings.fault("unknown key", place, "take it out")


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e9  # also false for NaN


__all__ = ["DIALOGUE_KEYS", "SPEAKERS", "SPLITS", "TURN_KEYS", "DialogueFormat"]
