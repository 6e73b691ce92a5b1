"""Prompt part: what one piece of a prompt is made from, where it stands, and whether it gives way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from epo.data.dialogue import Turn
from epo.registry import Registry, modules_of


@dataclass(frozen=True)
class Asked:
    """What a prompt is written from: the turns so far, never the reply to come.

    Attributes:
        history: turns before the current one, oldest first.
        current: the user's turn to answer.
        num_audio_tokens: how many vectors come for the clip's sound; None where there is none.
        num_video_tokens: the same for its picture.
        names_emotion: whether the user's emotion may be told as a word, in place of a clip.
        system_prompt: the recipe's own words to the model, empty for none; a layout fills it in.
    """

    history: Sequence[Turn]
    current: Turn
    num_audio_tokens: int | None = None
    num_video_tokens: int | None = None
    names_emotion: bool = False
    system_prompt: str = ""


@dataclass(frozen=True)
class Text:
    """A part that is written into one message and never gives way.

    The parts of a message are joined as they are: a part ends with the blank or line break that is to stand after it.

    Attributes:
        role: of the message: the system's, or the user's that is to be answered.
        render: returns the text, empty where there is nothing to say.
        may_hold_marks: whether it writes placeholders or other special tokens, which are refused in anyone's words.
    """

    role: Literal["system", "user"]
    render: Callable[[Asked], str]
    may_hold_marks: bool = False


@dataclass(frozen=True)
class Past:
    """The part that tells the history. Where the prompt is too long, the oldest turns give way, whole.

    Attributes:
        is_memory: k placeholders a turn, in the user's message; else the turns themselves, messages before it.
    """

    is_memory: bool


Part = Text | Past

PARTS: Registry[Part] = Registry("prompt part", "epo.prompt_parts", lambda: modules_of("epo.prompts.parts", "PART"))
"""Parts by name: ours are the modules of `epo.prompts.parts`."""

__all__ = ["PARTS", "Asked", "Part", "Past", "Text"]
