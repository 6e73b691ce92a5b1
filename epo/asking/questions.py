"""Questions to a chat model, and who answers them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from compressor.chat import Message


class UnusablePictures(Exception):
    """Pictures that nobody can be asked about: the question gets no answer, and the others go on."""


class Pictures(Protocol):
    """Pictures that go with a question; read when it is asked, so that many questions hold few of them."""

    @property
    def identity(self) -> str:
        """What they are made from, by content: an answer is kept by it, so it need not be read to find one."""
        ...

    def read(self) -> Sequence[bytes]:
        """Return JPEG files in their order; may be called from any thread.

        Raises:
            UnusablePictures: they cannot be read, or show nothing to ask about.
        """
        ...


@dataclass(frozen=True)
class Question:
    """What is asked once.

    Attributes:
        messages: of the conversation, the last one the user's.
        seed: of sampling: the same question with another seed asks for another answer.
        pictures: that the last message is about; only an endpoint can be asked about them.
    """

    messages: Sequence[Message]
    seed: int
    pictures: Pictures | None = None


Answer = tuple[int, str | None]
"""The place of a question, and what was answered: None where nothing usable was."""


class Chat(Protocol):
    """A model to ask: `LocalChat`, or an endpoint through `EndpointChat`."""

    identity: dict[str, Any]
    """What its answers depend on besides the question."""

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """Yield an answer to each question, in any order, as they come."""
        ...


__all__ = ["Answer", "Chat", "Pictures", "Question", "UnusablePictures"]
