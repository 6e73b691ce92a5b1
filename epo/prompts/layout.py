"""Layout: the order of a prompt's parts, the only place where it is written, and prompts that follow it.

Compressor, SFT, EPO and evaluation all render their prompts here. What fits is found by `compressor.fitting`, and the
chat template is talked to by `compressor.chat`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from compressor.chat import ChatFormat
from compressor.fitting import FixedParts, memory_prompt, text_prompt
from epo.data.findings import DataError
from epo.prompts.marks import PLACEHOLDERS
from epo.prompts.part import PARTS, Asked, Part, Past, Text
from epo.prompts.past_turns import utterance_of
from epo.registry import UnknownNameError

LAYOUT = ("system", "memory", "clip", "emotion_word", "words")
"""The order of the published model's prompt; a part that has nothing to say is absent."""


class LayoutError(DataError):
    """Parts that make no prompt; names the part."""


@dataclass(frozen=True)
class Layout:
    """The parts of a prompt in their order.

    Attributes:
        names: of parts: ours or, from another package, an entry point of `epo.prompt_parts`.
        system_prompt: what the part `system` says.
        history_emotions: whether past turns tell their emotion, where they have one.
    """

    names: Sequence[str] = LAYOUT
    system_prompt: str = ""
    history_emotions: bool = False

    def __post_init__(self) -> None:
        """Refuse parts that make no prompt.

        Raises:
            LayoutError: a name is unknown or comes twice, the history is told twice, or nothing is asked.
        """
        parts = self._parts.values()
        if sum(isinstance(part, Past) for part in parts) > 1:
            told = [name for name, part in self._parts.items() if isinstance(part, Past)]
            raise LayoutError(f"prompt_parts: {' and '.join(told)} both tell the history; leave one of them out")
        if not any(isinstance(part, Text) and part.role == "user" for part in parts):
            raise LayoutError(
                f"prompt_parts: {', '.join(self.names) or 'none'}: nothing in it asks for a reply; add 'words'"
            )

    @property
    def has_memory(self) -> bool:
        """Whether the history is told by memory tokens."""
        return any(isinstance(part, Past) and part.is_memory for part in self._parts.values())

    def as_text(self) -> "Layout":
        """Return the same layout with the history written out in place of its memories."""
        return replace(self, names=tuple("turns" if name == "memory" else name for name in self.names))

    def words(self, asked: Asked) -> list[str]:
        """Return what the parts say that may hold no special token: anyone's words, whether said or read in a file."""
        asked = replace(asked, system_prompt=self.system_prompt)
        texts = (part for part in self._parts.values() if isinstance(part, Text))
        return [part.render(asked) for part in texts if not part.may_hold_marks]

    def fixed(self, asked: Asked) -> FixedParts:
        """Render all parts but the history."""
        asked = replace(asked, system_prompt=self.system_prompt)
        system, before, after, is_past = "", "", "", not any(isinstance(part, Past) for part in self._parts.values())
        for part in self._parts.values():
            if isinstance(part, Past):
                is_past = True
            elif part.role == "system":
                system += part.render(asked)
            elif is_past:
                after += part.render(asked)
            else:
                before += part.render(asked)
        return FixedParts(system, before, after)

    def encode(
        self,
        chat: ChatFormat,
        asked: Asked,
        limit: int | None,
        num_memory_tokens: int = 0,
        placeholders: Sequence[str] = PLACEHOLDERS,
    ) -> tuple[int, list[int]]:
        """Write a prompt with as much of the history as fits, the newest turns of it.

        However long the dialogue, with memories one prompt is rendered, and as text a few of about the limit's length.

        Args:
            chat: of the language model.
            asked: what to write.
            limit: most tokens; None for no limit.
            num_memory_tokens: k, where there are memories.
            placeholders: tokens of which not one may get lost on the way.

        Returns:
            How many turns of the history are told, and the ids.

        Raises:
            PromptTooLong: it does not fit without any history either.
            ChatTemplateError: the chat template refuses the turns.
        """
        fixed = self.fixed(asked)
        past = next((part for part in self._parts.values() if isinstance(part, Past)), None)
        if past is not None and past.is_memory:
            return memory_prompt(chat, fixed, len(asked.history), num_memory_tokens, limit, placeholders)
        told = () if past is None else asked.history
        messages = [utterance_of(turn, self.history_emotions).message for turn in told]
        return text_prompt(chat, fixed, messages, limit, placeholders)

    @cached_property
    def _parts(self) -> dict[str, Part]:
        """The parts by name, in their order."""
        names: Any = self.names
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise LayoutError(f"prompt_parts: {names!r:.80} is no list of names; write ['system', 'memory', 'words']")
        twice = [name for name in names if list(names).count(name) > 1]
        if twice:
            raise LayoutError(f"prompt_parts: {twice[0]!r} comes twice; take one out")
        return {name: _part(name) for name in names}


def question(chat: ChatFormat, words: str) -> list[int]:
    """Return the ids of a question that belongs to no dialogue, asked of a language model that only reads."""
    return text_prompt(chat, FixedParts(after=words), [], None)[1]


def _part(name: str) -> Part:
    try:
        part: Any = PARTS.get(name)
    except UnknownNameError as error:
        raise LayoutError(f"prompt_parts: {error}; install the package that brings it, or correct the name") from error
    if not isinstance(part, Text | Past):
        raise LayoutError(
            f"prompt_parts: {name!r} is a {type(part).__name__}, want a Text or a Past of epo.prompts.part"
        )
    return part


__all__ = ["LAYOUT", "Layout", "LayoutError", "question"]
