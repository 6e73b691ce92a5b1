"""Topical-Chat: one JSON object a split, dialogue id -> conversation, plain or gzipped; text only.

Source: Gopalakrishnan et al. 2019, https://github.com/alexa/Topical-Chat.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epo.data.characters import is_encodable
from epo.data.corpora.corpus import Corpus
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.rows import read_members
from epo.data.corpora.turns import alternate_roles, read_label
from epo.data.dialogue import DataError, Dialogue, Split, Turn
from epo.data.labels import LabelMap

_SPLITS: dict[str, Split] = {
    "train": "train",
    "valid_freq": "validation",
    "valid_rare": "validation",
    "test_freq": "test",
    "test_rare": "test",
}
_LABELS = LabelMap(
    "topical_chat",
    "Topical-Chat: the seven, and curiosity, which counts as neutral (our choice).",
    {
        "angry": "angry", "disgusted": "disgust", "fearful": "fearful", "happy": "happy", "neutral": "neutral",
        "sad": "sad", "surprised": "surprised", "curious to dive deeper": "neutral",
    },
)  # fmt: skip


def read_topical_chat(root: Path, media: MediaFolder, report: ImportReport) -> Iterator[Dialogue]:
    """Yield the dialogues of `{train,valid_freq,...}.json[.gz]`; the agent who opens is the user."""
    files = {own: _find(root, own) for own in _SPLITS}
    if not any(files.values()):
        raise DataError(f"{root}: none of {', '.join(_SPLITS)}.json[.gz]; see docs/corpora.md for the layout")
    for own, path in files.items():
        if path is None:
            report.note("split file missing", str(root / f"{own}.json"))
            continue
        seen: set[str] = set()
        for key, conversation in read_members(path, report):
            where = f"{path}: {key}"
            if key in seen:
                report.fault("dialogue comes twice", where, "give each its own id")
                continue
            seen.add(key)
            turns = _turns(conversation, where, report)
            if turns:
                yield Dialogue(id=f"topical_chat-{own}-{key}", turns=turns, split=_SPLITS[own])


def _find(root: Path, own: str) -> Path | None:
    candidates = (root / f"{own}.json", root / f"{own}.json.gz")
    return next((path for path in candidates if path.is_file()), None)


def _turns(conversation: Any, where: str, report: ImportReport) -> tuple[Turn, ...]:
    content = conversation.get("content") if isinstance(conversation, dict) else None
    if not isinstance(content, list):
        report.fault("dialogue without 'content'", where, "download the file again")
        return ()
    rows: list[tuple[str, str, str, str]] = []
    for index, turn in enumerate(content):
        turn_where = f"{where}: turn {index}"
        fields = [turn.get(key) if isinstance(turn, dict) else None for key in ("agent", "message", "sentiment")]
        agent, message, sentiment = fields
        if not (isinstance(agent, str) and isinstance(message, str) and isinstance(sentiment, str)):
            report.fault("turn without agent, message or sentiment", turn_where, "complete the turn")
        elif not is_encodable(message):
            report.fault("row is not UTF-8", turn_where, "convert the file with `iconv -t UTF-8`")
        elif not message.strip():
            report.fault("utterance is empty", turn_where, "write the words")
        else:
            rows.append((agent, message.strip(), sentiment, turn_where))
    roles = alternate_roles([agent for agent, *_ in rows])
    return tuple(
        Turn(role, message, read_label(sentiment, _LABELS, turn_where, report), name=agent)
        for role, (agent, message, sentiment, turn_where) in zip(roles, rows, strict=True)
    )


CORPORA = (
    Corpus(
        "topical_chat",
        "Topical-Chat: written conversations with a sentiment a turn, text only",
        "CDLA-Sharing-1.0",
        read_topical_chat,
        _LABELS,
    ),
)

__all__ = ["CORPORA", "read_topical_chat"]
