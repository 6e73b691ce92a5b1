"""Prompts and replies of a language model that reads words alone, the history written out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from compressor.chat import ChatFormat, chat_format
from compressor.fitting import PromptTooLong
from epo.data.findings import DataError
from epo.data.replies import Reply
from epo.prompts.emotion_label import reply_text
from epo.prompts.layout import Layout
from epo.prompts.part import Asked


@dataclass(frozen=True)
class TextPrompts:
    """Writes them in the order of the whole model's prompts.

    Attributes:
        tokenizer: with a chat template.
        layout: of the whole model; its memories are written out here.
        max_prompt_tokens: longest prompt; the oldest turns give way.
    """

    tokenizer: PreTrainedTokenizerBase
    layout: Layout = field(default_factory=Layout)
    max_prompt_tokens: int = 4096

    @property
    def chat(self) -> ChatFormat:
        """How the language model is talked to.

        Raises:
            ChatTemplateError: its tokenizer has no chat template that fits.
        """
        return chat_format(self.tokenizer)

    def encode_prompt(self, reply: Reply, names_emotion: bool, kept: Sequence[int] | None = None) -> list[int]:
        """Return the ids of the prompt of a reply.

        Args:
            reply: with what leads to it.
            names_emotion: whether the user's emotion, if known, is told as a word.
            kept: indices of the history's turns to show; None shows all that fit.

        Raises:
            DataError: the current turn alone is too long; names the dialogue.
        """
        history = reply.history if kept is None else tuple(reply.history[i] for i in kept)
        asked = Asked(history, reply.current, names_emotion=names_emotion)
        try:
            return self._layout.encode(self.chat, asked, self.max_prompt_tokens)[1]
        except PromptTooLong as error:
            raise DataError(f"dialogue {reply.dialogue_id!r}, turn {reply.turn - 1}: {error}") from error

    def encode_reply(self, reply: Reply) -> list[int]:
        """Return the ids of the labelled reply, closed as the chat template closes the assistant's turn."""
        return self.chat.encode_reply(reply_text(reply.text, reply.emotion))

    @cached_property
    def _layout(self) -> Layout:
        return self.layout.as_text()


__all__ = ["TextPrompts"]
