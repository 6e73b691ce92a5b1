"""The cascade: a recogniser's emotion and words as text, answered by a language model that neither hears nor sees.

Source: AV-EmoDialog (arXiv 2412.17292) compares itself with one; rows and prompt, `(label) words`, are our choice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compressor.chat import ChatFormat
from epo.data.replies import Reply
from epo.emotions import Emotion
from epo.evaluation.contestants import Generation
from epo.evaluation.generate import generate_replies
from epo.evaluation.suite import Answers
from epo.prompts.text_prompts import TextPrompts
from epo.ranks import gather_shares, share


@dataclass(frozen=True)
class TextOnly:
    """What generation asks of a processor, for prompts of text alone."""

    chat: ChatFormat

    def batch_context(self, prompts: Sequence[Any]) -> dict[str, Any]:
        """Return nothing: nothing stands behind placeholders."""
        return {}


@dataclass(frozen=True)
class _Prompt:
    input_ids: list[int]


@dataclass(frozen=True)
class Cascade:
    """A language model that reads an emotion as a word and the words.

    Attributes:
        llm: the language model.
        prompts: written for it; they show the user's emotion where it is known.
        generation: how replies are generated.
    """

    llm: Any
    prompts: TextPrompts
    generation: Generation

    def rows(
        self, gold: Sequence[Reply], recognised: Sequence[Emotion | None] | None, heard: Sequence[Reply] | None
    ) -> Iterator[Answers]:
        """Answer with the gold label and words, the upper bound, and with what was recognised of either.

        Args:
            gold: the replies to give, their current turns as they were labelled and written.
            recognised: emotion of each current turn by its clip; None leaves those rows out.
            heard: the same replies after the words that were recognised; None leaves that row out.
        """
        yield self._answer("cascade, gold label + gold words", gold)
        if recognised is None:
            return
        yield self._answer("cascade, recognised label + gold words", _felt(gold, recognised))
        if heard is not None:
            yield self._answer("cascade, recognised label + recognised words", _felt(heard, recognised))

    def _answer(self, name: str, replies: Sequence[Reply]) -> Answers:
        prompts = [_Prompt(self.prompts.encode_prompt(reply, names_emotion=True)) for reply in share(replies)]
        settings = (self.generation.batch_size, self.generation.max_new_tokens)
        mine = generate_replies(self.llm, TextOnly(self.prompts.chat), prompts, *settings, label=name)  # type: ignore[arg-type]  # of a processor it takes these two alone
        return Answers(name, gather_shares(mine))


def _felt(replies: Sequence[Reply], emotions: Sequence[Emotion | None]) -> list[Reply]:
    return [replace(r, current=replace(r.current, emotion=e)) for r, e in zip(replies, emotions, strict=True)]


__all__ = ["Cascade", "TextOnly"]
