"""Messages: what one row of a file of rankings says was said, whichever way it is written down."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from epo.data.characters import comparison_form, read_text
from epo.data.findings import Findings

Role = Literal["system", "user", "assistant"]

# As chat templates, ShareGPT and OpenAssistant call them.
_ROLES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatbot": "assistant",
}  # fmt: skip
# Anthropic's HH-RLHF writes a conversation as one string; each turn opens with a blank line and who speaks.
_MARKED_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant|System):[ \n]?")
_OPENS_MARKED = re.compile(r"\s*(Human|Assistant|System):")


@dataclass(frozen=True)
class Message:
    """One message of a conversation, its text mended."""

    role: Role
    text: str

    @property
    def key(self) -> str:
        """What two messages share that say the same."""
        return f"{self.role}: {comparison_form(self.text)}"


def read_messages(value: Any, plain: Role, what: str, where: str, findings: Findings) -> tuple[Message, ...] | None:
    r"""Return the messages that a value holds.

    Args:
        value: a list of objects with `role` and `content` (or `from` and `value`), such a list as a JSON text, a string
            of turns marked `\n\nHuman: ` and `\n\nAssistant: `, or the words of one message.
        plain: whose words those are.
        what: the name of the value, for messages.
        where: its place.
        findings: hears of what cannot be read.

    Returns:
        At least one message; None where there was a fault.
    """
    if isinstance(value, str):
        if value.lstrip().startswith("[{"):
            value = _from_json(value)
        elif _OPENS_MARKED.match(value) and (value.startswith("\n\n") or len(_MARKED_TURN.findall(value)) > 1):
            return _read_marked(value, what, where, findings)
    if not isinstance(value, list):
        text = read_text(value, what, "ranking without words", where, findings)
        return None if text is None else (Message(plain, text),)
    if not value:
        findings.fault("ranking without words", f"{where}: {what} is an empty list", "write the messages")
        return None
    read = [_read_message(row, f"{what}[{index}]", where, findings) for index, row in enumerate(value)]
    messages = tuple(message for message in read if message is not None)
    return messages if len(messages) == len(read) else None


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read_marked(text: str, what: str, where: str, findings: Findings) -> tuple[Message, ...] | None:
    """Read turns with marks; the last one may be a bare `Assistant:`, as prompts end."""
    _, *pieces = _MARKED_TURN.split(text)
    turns = list(zip(pieces[::2], pieces[1::2], strict=True))
    if len(turns) > 1 and turns[-1][0] == "Assistant" and not turns[-1][1].strip():
        turns.pop()
    read = [_read_message({"role": name, "content": words}, what, where, findings) for name, words in turns]
    messages = tuple(message for message in read if message is not None)
    return messages if len(messages) == len(read) else None


def _read_message(row: Any, what: str, where: str, findings: Findings) -> Message | None:
    if not isinstance(row, dict):
        place = f"{where}: {what} is {row!r:.60}, want an object with 'role' and 'content'"
        findings.fault("message that is no object", place, "write it so")
        return None
    name, content = row.get("role", row.get("from")), row.get("content", row.get("value"))
    role = _ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        place = f"{where}: {what} has role {name!r:.60}, want one of {', '.join(_ROLES)}"
        findings.fault("message of an unknown role", place, "rename it, or leave such conversations out")
        return None
    if isinstance(content, list):  # parts, as models that see take them
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if not parts or len(parts) < len(content) or not all(isinstance(part, str) for part in parts):
            place = f"{where}: {what} has parts other than text"
            findings.fault("message that is not text alone", place, "only words can be imported")
            return None
        content = "\n".join(str(part) for part in parts)
    text = read_text(content, what, "message without words", where, findings)
    return None if text is None else Message(role, text)


__all__ = ["Message", "Role", "read_messages"]
