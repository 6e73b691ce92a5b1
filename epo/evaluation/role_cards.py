"""Role cards: who a played user is, what happened to them, and what they feel; and how a chat model plays them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.chat import Message
from epo.data.dialogue import DataError, Turn
from epo.data.findings import Findings, StopAtFault
from epo.data.lines import read_lines
from epo.emotions import Emotion, UnknownEmotionError, parse_emotion

_WANT = 'want {"id": "c1", "who": "a nurse of 40", "situation": "...", "emotion": "sad"}'
_BEGIN = "(You meet somebody who listens. Begin: tell what is on your mind.)"


@dataclass(frozen=True)
class RoleCard:
    """One user to be played.

    Attributes:
        id: names the talk.
        who: the person, in words.
        situation: what happened.
        emotion: what the person feels as the talk begins.
    """

    id: str
    who: str
    situation: str
    emotion: Emotion

    def question(self, turns: Sequence[Turn]) -> list[Message]:
        """Ask for the user's next turn: whoever plays them is the assistant of this conversation."""
        system = (
            f"You play a person in a talk. You are {self.who}. {self.situation} You feel {self.emotion}. Say only what "
            "this person says next, in one to three short sentences of everyday speech, without a name before them. "
            "Answer what the other says, let your feelings change only for a reason, do not comfort the other, and "
            "never say that you play."
        )
        roles = {"user": "assistant", "assistant": "user"}
        said = [{"role": roles[turn.speaker], "content": turn.text} for turn in turns]
        return [{"role": "system", "content": system}, {"role": "user", "content": _BEGIN}, *said]


def read_cards(path: Path, findings: Findings | None = None) -> list[RoleCard]:
    """Read cards from JSON lines, such as ESC-Eval's (arXiv 2406.14952) brought into these keys.

    Args:
        path: one object a line: `id`, `who`, `situation`, `emotion`, all text; further keys are passed over.
        findings: hears of faults; None stops at the first.

    Raises:
        DataError: the file is missing, a line is malformed, an emotion is none of the seven, an id repeats, or there is
            no card.
    """
    listener = StopAtFault() if findings is None else findings
    cards: dict[str, RoleCard] = {}
    for where, row in read_lines(path, listener):
        card = _read_card(row, where, listener)
        if card is not None and card.id in cards:
            listener.fault("card comes twice", f"{where}: card {card.id!r} comes twice", "give each its own id")
        elif card is not None:
            cards[card.id] = card
    if not cards:
        raise DataError(f"{path}: holds no card; {_WANT}")
    return list(cards.values())


def _read_card(row: dict[str, Any], where: str, findings: Findings) -> RoleCard | None:
    for key in ("id", "who", "situation", "emotion"):
        value = row.get(key)
        if not isinstance(value, str) or not value.strip():
            came = "is missing" if key not in row else f"is {value!r:.60}"
            findings.fault("line is no card", f"{where}: {key!r} {came}", _WANT)
            return None
    try:
        emotion = parse_emotion(row["emotion"])
    except UnknownEmotionError as error:
        findings.fault("unknown emotion", f"{where}: {error}", "name the nearest")
        return None
    return RoleCard(row["id"], row["who"].strip().rstrip("."), row["situation"].strip(), emotion)


__all__ = ["RoleCard", "read_cards"]
