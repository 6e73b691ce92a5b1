"""Chat models on the text alone: any causal language model with a chat template, as a row beside ours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from compressor.chat import Message, chat_format
from compressor.progress import Progress
from epo.asking.questions import Question
from epo.data.replies import Reply
from epo.evaluation.contestants import Generation
from epo.evaluation.suite import Answers, Kind, Task
from epo.preferences.local_chat import LocalChat
from epo.ranks import gather_shares, share

_FALLBACK_LENGTH = 2048  # where a configuration does not say how much its model can read


@dataclass(frozen=True, kw_only=True)
class ChatSystem:
    """One row to be: a chat model that reads what was said, and hears and sees nothing.

    Attributes:
        name: of the row.
        model: any causal language model, where it should run.
        tokenizer: the model's, with a chat template.
        system_prompt: stands before the dialogue; empty leaves it out.
        kind: of the row.
        is_sampled: whether replies are drawn at temperature 1 too.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    system_prompt: str = ""
    kind: Kind = "main"
    is_sampled: bool = True

    def answer(self, task: Task, generation: Generation) -> Answers:
        """Answer greedily, and at temperature 1 where it is sampled; every rank does its share and gets all."""
        questions = self._questions(share(task.gold), task.seed, generation.max_new_tokens)
        greedy = gather_shares(self._write(questions, 0.0, generation))
        sampled = gather_shares(self._write(questions, 1.0, generation)) if self.is_sampled else None
        return Answers(self.name, greedy, sampled, kind=self.kind)

    def messages(self, reply: Reply, num_dropped: int = 0) -> list[Message]:
        """Return what leads to a reply as messages, without so many of the oldest turns."""
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        turns = (*reply.history[num_dropped:], reply.current)
        return [*system, *({"role": turn.speaker, "content": turn.text} for turn in turns)]

    def _questions(self, replies: Sequence[Reply], seed: int, max_new_tokens: int) -> list[Question]:
        """Return one question a reply; where the model could not read all of a history, its oldest turns give way."""
        chat = chat_format(self.tokenizer)
        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or _FALLBACK_LENGTH
        room = longest - max_new_tokens
        questions = []
        for reply in replies:
            dropped = 0
            while dropped < len(reply.history) and len(chat.encode_prompt(self.messages(reply, dropped))) > room:
                dropped += 1
            questions.append(Question(self.messages(reply, dropped), seed))
        return questions

    def _write(self, questions: Sequence[Question], temperature: float, generation: Generation) -> list[str]:
        """Return a reply for each question, empty where the model said nothing."""
        chat = LocalChat(self.name, self.model, self.tokenizer, temperature, generation.max_new_tokens)
        progress = Progress(self.name, len(questions), "replies")
        replies = [""] * len(questions)
        for first in range(0, len(questions), generation.batch_size):
            part = questions[first : first + generation.batch_size]
            for place, text in _in_order(chat.answers(part)):
                replies[first + place] = text
            progress.advance(len(part))
        progress.close()
        return replies


def _in_order(answers: Iterator[Any]) -> list[tuple[int, str]]:
    return [(place, "" if text is None else text) for place, text in answers]


__all__ = ["ChatSystem"]
