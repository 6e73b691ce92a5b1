"""Questions to a chat model, and who answers them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from compressor.chat import Message


@dataclass(frozen=True)
class Question:
    """What is asked once.

    Attributes:
        messages: of the conversation, the last one the user's.
        seed: of sampling: the same question with another seed asks for another answer.
    """

    messages: Sequence[Message]
    seed: int


Answer = tuple[int, str | None]
"""The place of a question, and what was answered: None where nothing usable was."""


class Chat(Protocol):
    """A model to ask: `LocalChat`, or an endpoint through `EndpointChat`."""

    identity: dict[str, Any]
    """What its answers depend on besides the question."""

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """Yield an answer to each question, in any order, as they come."""
        ...


__all__ = ["Answer", "Chat", "Question"]
