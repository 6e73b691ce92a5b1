"""Rankings: rows of `prompt`, `chosen` and `rejected`, as TRL and most preference data sets have them."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from epo.data.findings import DataError, Findings
from epo.preferences.messages import Message, Role, read_messages

COLUMNS = ("prompt", "chosen", "rejected", "score_chosen", "score_rejected", "margin")
"""What a ranking is made of; `prompt` may be absent where both replies are whole conversations, the scores always."""


@dataclass(frozen=True)
class Ranking:
    """Two replies to one conversation, one preferred.

    Attributes:
        prompt: the conversation: system messages first, the last one the user's.
        chosen: the better reply.
        rejected: the other.
        scores: those of the file.
    """

    prompt: tuple[Message, ...]
    chosen: Message
    rejected: Message
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def dialogue_id(self) -> str:
        """The same for the same conversation, whatever its blanks, case and forms of characters."""
        return f"prompt-{_digest(message.key for message in self.prompt)}"

    @property
    def group(self) -> str:
        """The same for conversations that begin with the same words of the user."""
        return f"opening-{_digest([next(message.key for message in self.prompt if message.role == 'user')])}"


class RankingFormat:
    """Reads rows of one file of rankings."""

    def __init__(self, columns: Mapping[str, str], findings: Findings) -> None:
        """Read rows whose columns are named.

        Args:
            columns: for each of `COLUMNS` its name in the file; that of one without an entry is its own.
            findings: hears of what is left out.
        """
        self._names = {key: columns.get(key, key) for key in COLUMNS}
        self._findings = findings

    def read(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Ranking]:
        """Yield the rankings of (place, row).

        Raises:
            DataError: the first row has no columns for the two replies; or a fault, and the findings say to stop.
        """
        for index, (where, row) in enumerate(rows):
            if index == 0:
                self._require_columns(row, where)
            ranking = self._ranking(row, where)
            if ranking is not None:
                yield ranking

    def _require_columns(self, row: Mapping[str, Any], where: str) -> None:
        missing = [key for key in ("chosen", "rejected") if self._names[key] not in row]
        if missing:
            there = ", ".join(f"{name!r:.40}" for name in list(row)[:20])
            raise DataError(
                f"{where}: no column {', '.join(repr(self._names[key]) for key in missing)}; there are {there}; "
                f"say which they are, such as --columns {','.join(f'{key}=NAME' for key in missing)}"
            )

    def _ranking(self, row: Mapping[str, Any], where: str) -> Ranking | None:
        chosen, rejected = (self._messages(row, key, where) for key in ("chosen", "rejected"))
        has_prompt = row.get(self._names["prompt"]) is not None
        prompt = self._messages(row, "prompt", where) if has_prompt else ()
        if chosen is None or rejected is None or prompt is None:
            return None
        if len(chosen) > 1 or len(rejected) > 1:
            parted = self._part(prompt, chosen, rejected, where)
            if parted is None:
                return None
            prompt, chosen, rejected = parted
        if not self._is_conversation(prompt, where) or not self._are_replies(chosen, rejected, where):
            return None
        scores = self._scores(row, where)
        return None if scores is None else Ranking(prompt, chosen[0], rejected[0], scores)

    def _messages(self, row: Mapping[str, Any], key: str, where: str) -> tuple[Message, ...] | None:
        plain: Role = "user" if key == "prompt" else "assistant"
        return read_messages(row.get(self._names[key]), plain, f"{self._names[key]!r}", where, self._findings)

    def _part(
        self, prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...], where: str
    ) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]] | None:
        """Part two whole conversations where they begin to differ; both must end there, with one reply."""
        shared = 0
        for one, other in zip(chosen, rejected, strict=False):
            if one.key != other.key:
                break
            shared += 1
        if shared == len(chosen) == len(rejected):
            self._findings.note("replies that are the same: left out", where)
            return None
        if not len(chosen) == len(rejected) == shared + 1:
            place = f"{where}: 'chosen' and 'rejected' are the same for {shared} messages, of {len(chosen)} and "
            place += f"{len(rejected)}"
            self._findings.fault("conversations that part before their last reply", place, "only replies can be ranked")
            return None
        before = chosen[:shared]
        if prompt and (not before or before[-1].key != prompt[-1].key):
            place = f"{where}: 'prompt' is not what 'chosen' and 'rejected' share"
            self._findings.fault("prompt of another conversation", place, "correct it or leave the column out")
            return None
        has_system = any(message.role == "system" for message in before)
        system = () if has_system else tuple(message for message in prompt if message.role == "system")
        return (*system, *before), chosen[shared:], rejected[shared:]

    def _is_conversation(self, prompt: tuple[Message, ...], where: str) -> bool:
        said = [message.role for message in prompt]
        opening = sum(role == "system" for role in said)
        if not said or said[-1] != "user":
            place = f"{where}: the prompt ends with {said[-1] if said else 'nothing'}"
            self._findings.fault("prompt that does not end with the user", place, "a reply answers a user's message")
            return False
        if "system" in said[opening:]:
            self._findings.fault("system message in mid-conversation", where, "put it first")
            return False
        return True

    def _are_replies(self, chosen: tuple[Message, ...], rejected: tuple[Message, ...], where: str) -> bool:
        if chosen[0].role != "assistant" or rejected[0].role != "assistant":
            self._findings.fault("reply that is not the assistant's", where, "correct its role")
            return False
        if chosen[0].key == rejected[0].key:
            self._findings.note("replies that are the same: left out", where)
            return False
        return True

    def _scores(self, row: Mapping[str, Any], where: str) -> dict[str, float] | None:
        """Return the scores of a row; None where they are no numbers, equal, or against the ranking."""
        scores = {}
        for key in ("score_chosen", "score_rejected", "margin"):
            value = row.get(self._names[key])
            if value is None or value == "":
                continue
            number = _as_number(value)
            if number is None:
                place = f"{where}: {self._names[key]!r} is {value!r:.60}, want a finite number"
                self._findings.fault("score that is no number", place, "correct it or leave it out")
                return None
            scores[key] = number
        margin = scores.get("margin", scores.get("score_chosen", math.inf) - scores.get("score_rejected", -math.inf))
        if margin == 0:
            self._findings.note("tie: left out", where)
            return None
        if margin < 0:
            place = f"{where}: the rejected reply has the higher score"
            self._findings.fault("ranking against its own scores", place, "swap the replies or correct the scores")
            return None
        return scores


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _digest(keys: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(keys).encode()).hexdigest()[:16]


__all__ = ["COLUMNS", "Ranking", "RankingFormat"]
