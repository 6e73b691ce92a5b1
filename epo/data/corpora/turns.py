"""What every reader does to a row: give its speaker a role, its label one of our seven, its times in seconds."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.dialogue import Dialogue, Speaker
from epo.data.labels import LabelMap
from epo.emotions import Emotion, UnknownEmotionError

Reader = Callable[[Path, MediaFolder, ImportReport], Iterator[Dialogue]]
"""(corpus folder, where its clips go, what is counted) -> its dialogues, one at a time."""

_CLOCK = re.compile(r"(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d{1,3}))?")


def alternate_roles(speakers: Sequence[str]) -> list[Speaker]:
    """Return user or assistant for each turn: the first speaker is the user, each change of speaker the other role.

    With two speakers each keeps one role throughout. With more, a turn still has the other role than the turn of
    someone else before it, so that every reply answers another person (our choice; papers do not say).
    """
    roles: list[Speaker] = []
    for index, speaker in enumerate(speakers):
        if index == 0:
            roles.append("user")
        elif speaker == speakers[index - 1]:
            roles.append(roles[-1])
        else:
            roles.append("assistant" if roles[-1] == "user" else "user")
    return roles


def read_label(label: str, labels: LabelMap, where: str, report: ImportReport) -> Emotion | None:
    """Return the emotion of a corpus label; None, and counted, where the label is unknown or left out.

    Raises:
        DataError: an unknown label, and `report` says to stop.
    """
    try:
        emotion = labels.read(label)
    except UnknownEmotionError as error:
        report.fault("unknown emotion label", f"{where}: {error}", "correct the label")
        return None
    if emotion is None:
        report.note(f"label {label.strip().lower()!r} has no counterpart: turn kept without emotion", where)
    return emotion


def parse_clock(text: str) -> float | None:
    """Return the seconds of `00:14:38,127` or `0:10:44.769`, or None where the text is no such time."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


__all__ = ["Reader", "alternate_roles", "parse_clock", "read_label"]
