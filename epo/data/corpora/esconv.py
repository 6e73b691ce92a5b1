"""ESConv: a seeker of support and a supporter, whose every turn has a strategy.

Source: Liu et al. 2021, arXiv 2106.01144; https://github.com/thu-coai/Emotional-Support-Conversation.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epo.data.characters import is_encodable
from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.dialogue import DataError, Dialogue, Speaker, Turn
from epo.data.lines import STRICT_DECODER, name_other_encoding

# ESConv.json says seeker and supporter, FailedESConv.json speaker and listener.
_ROLES: dict[str, Speaker] = {
    "seeker": "user",
    "speaker": "user",
    "usr": "user",
    "supporter": "assistant",
    "listener": "assistant",
    "sys": "assistant",
}


def read_esconv(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `ESConv.json`; they have no published split and no feeling a turn.

    The seeker is the user. Turns of one person in a row stay apart, since each has its own strategy. The situation,
    with the problem and the feeling the seeker named before, is the background: a feeling of the whole dialogue is
    none of a single turn.
    """
    path = root / "ESConv.json"
    if not path.is_file():
        raise DataError(f"{path}: no such file; see docs/corpora.md for the layout of esconv")
    try:
        raw = path.read_bytes()
        if name_other_encoding(path, raw[:4], report):
            return
        content = STRICT_DECODER.decode(raw.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); download the file again") from None
    if not isinstance(content, list):
        raise DataError(f"{path}: want a list of dialogues; is this the file as downloaded?")
    for index, entry in enumerate(content):
        where = f"{path}: dialogue {index}"
        turns = _turns(entry, where, report)
        if turns:
            yield Dialogue(f"esconv-{index}", turns, background=_background(entry, where, report))


def _turns(entry: Any, where: str, report: ImportReport) -> tuple[Turn, ...]:
    rows = entry.get("dialog") if isinstance(entry, dict) else None
    if not isinstance(rows, list):
        report.fault("dialogue without 'dialog'", where, "download the file again")
        return ()
    turns = []
    for index, row in enumerate(rows):
        fields = row if isinstance(row, dict) else {}
        speaker, text, annotation = (fields.get(key) for key in ("speaker", "content", "annotation"))
        at = f"{where}: turn {index}"
        if not isinstance(text, str) or not isinstance(speaker, str) or speaker not in _ROLES:
            report.fault("turn without content or a known speaker", at, "complete the turn")
        elif not is_encodable(text):
            report.fault("row is not UTF-8", at, "convert the file with `iconv -t UTF-8`")
        elif not text.strip():
            report.fault("utterance is empty", at, "write the words")
        else:
            strategy = annotation.get("strategy") if isinstance(annotation, dict) else None
            strategy = _string(strategy, "strategy", at, report)
            if _ROLES[speaker] == "assistant" and not strategy:
                report.note("supporter's turn without a strategy", at)
            turns.append(Turn(_ROLES[speaker], text.strip(), name=speaker, strategy=strategy or None))
    return tuple(turns)


def _background(entry: dict[str, Any], where: str, report: ImportReport) -> str | None:
    situation, problem, feeling = (
        _string(entry.get(key), key, where, report) for key in ("situation", "problem_type", "emotion_type")
    )
    named = ", ".join(part for part in (problem, feeling) if part)
    return " ".join(part for part in (situation, f"({named})" if named else "") if part) or None


def _string(value: Any, key: str, where: str, report: ImportReport) -> str:
    """Return a string without blanks around it, "" where there is none; anything else is a fault."""
    if value is not None and not isinstance(value, str):
        report.fault(f"{key} is no string", f"{where}: {value!r:.40}", "write it as a string or leave it out")
    return value.strip() if isinstance(value, str) else ""


CORPORA = (
    Corpus(
        "esconv",
        "ESConv: 1,300 conversations of emotional support with strategies, text only",
        "for academic research only",
        read_esconv,
    ),
)

__all__ = ["CORPORA", "read_esconv"]
