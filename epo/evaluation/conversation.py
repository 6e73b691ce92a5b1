"""Conversations: talks that go on, each turn read once; what was said before is kept as memory tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compressor.streaming import MemoryStream, can_stream
from epo.data.cache import ClipCache
from epo.data.dialogue import Turn
from epo.evaluation.generate import generate_replies
from epo.model.family import DialogueProcessor, bare
from epo.model.heard_emotions import heard_emotions_of
from epo.prompts.emotion_label import said_turn
from epo.prompts.marks import refuse_marks


class Conversations:
    """Several talks with one model, answered together, none of which hears of another.

    A `MemoryStream` reads each turn once, so a turn costs the same however long its talk is; prompts take the memories
    it gave. Where a model keeps no such state (it reads the history as text, or its compressor reads only whole
    histories) each prompt is made from all turns: the same replies at a growing cost.

    Attributes:
        turns: what was said in each, oldest first: what was given, and the replies as turns.
    """

    def __init__(
        self,
        model: Any,
        processor: DialogueProcessor,
        count: int,
        cache: ClipCache | None = None,
        **settings: Any,
    ) -> None:
        """Begin talks.

        Args:
            model: of any model family, or a PEFT model around one.
            processor: the model's.
            count: how many talks there are.
            cache: of decoded clips; None decodes anew.
            settings: of `generate_replies`: `max_new_tokens`, `temperature`, `batch_size`.
        """
        model.eval()
        self._model, self._processor, self._settings = model, processor, settings
        self._cache = ClipCache(None) if cache is None else cache
        self._hear = heard_emotions_of(model, processor, self._cache)
        self.turns: list[list[Turn]] = [[] for _ in range(count)]
        self._stream = _stream_of(model, processor, count)
        self._memories: list[list[Tensor]] = [[] for _ in range(count)]

    def hear(self, said: Mapping[int, Sequence[Turn]]) -> None:
        """Take in turns that are not to be answered: of a talk that goes on, or a reply that another gave.

        Args:
            said: turns in order, by talk.

        Raises:
            DataError: a special token is written out in a turn, or a clip cannot be read; no talk has changed then.
        """
        refuse_marks([turn.text for turns in said.values() for turn in turns], self._processor.tokenizer)
        self._remember(said)

    def answer(self, asked: Mapping[int, Turn]) -> dict[int, Turn]:
        """Answer a turn of each of several talks; turns and replies are part of the talks from then on.

        Args:
            asked: the user's turns, by talk.

        Returns:
            The replies: words, and the label they began with where that is an emotion.

        Raises:
            DataError: a turn does not fit a prompt, a special token is written out in it, or its clip cannot be read;
                no talk has changed then.
        """
        prompts = [self._prompt(talk, turn) for talk, turn in asked.items()]
        written = generate_replies(self._model, self._processor, prompts, **self._settings)
        replies = {talk: said_turn(reply) for talk, reply in zip(asked, written, strict=True)}
        self._remember({talk: (turn, replies[talk]) for talk, turn in asked.items()})
        return replies

    def select(self, talks: Sequence[int]) -> "Conversations":
        """Return conversations of their own that go on from these: some of them, or one several times."""
        chosen = Conversations(self._model, self._processor, len(talks), self._cache, **self._settings)
        chosen.turns = [list(self.turns[talk]) for talk in talks]
        chosen._memories = [list(self._memories[talk]) for talk in talks]
        chosen._stream = None if self._stream is None else self._stream.select(talks)
        return chosen

    def memories(self, talk: int) -> Tensor | None:
        """Return the memory tokens of a talk, (k * turns, D); None where the model is told its history otherwise."""
        if self._stream is None:
            return None
        if not self._memories[talk]:
            return torch.zeros(0, bare(self._model).compressor.config.output_size, device=self._model.device)
        self._memories[talk] = [torch.cat(self._memories[talk])]
        return self._memories[talk][0]

    def _remember(self, said: Mapping[int, Sequence[Turn]]) -> None:
        told = {talk: turns if self._hear is None else self._hear(turns) for talk, turns in said.items()}
        if self._stream is not None:
            processor: Any = self._processor
            ids = {talk: processor.encode_history(turns) for talk, turns in told.items()}
            for talk, memory in self._stream.append_many(ids).items():
                self._memories[talk].append(memory)
        for talk, turns in said.items():
            self.turns[talk] += turns

    def _prompt(self, talk: int, turn: Turn) -> Any:
        clip = self._processor.clips.read(turn.clip, self._cache)
        history, memories = self.turns[talk], self.memories(talk)
        if memories is not None:
            processor: Any = self._processor
            return processor.encode_prompt(history, turn, clip, memories=memories)
        return self._processor.encode_prompt(history if self._hear is None else self._hear(history), turn, clip)


class Conversation:
    """One talk with a model: `Conversation(model, processor).say(Turn("user", "Hello!"))`."""

    def __init__(
        self, model: Any, processor: DialogueProcessor, cache: ClipCache | None = None, **settings: Any
    ) -> None:
        """Begin a talk; arguments as of `Conversations`."""
        self._talks = Conversations(model, processor, 1, cache, **settings)

    @property
    def turns(self) -> Sequence[Turn]:
        """What was said, oldest first."""
        return tuple(self._talks.turns[0])

    def say(self, turn: Turn) -> Turn:
        """Say a user's turn and return the reply; both are remembered. Raises as `Conversations.answer`."""
        return self._talks.answer({0: turn})[0]

    def hear(self, *turns: Turn) -> None:
        """Take in turns without an answer, such as an earlier part of the talk. Raises as `Conversations.hear`."""
        self._talks.hear({0: turns})


def _stream_of(model: Any, processor: Any, count: int) -> MemoryStream | None:
    """Return what reads the turns of a model that is told the past by memories and whose compressor keeps a state."""
    compressor = getattr(bare(model), "compressor", None)
    layout = getattr(processor, "layout", None)
    if compressor is None or layout is None or not layout.has_memory or not can_stream(compressor):
        return None
    return MemoryStream(compressor, count)


__all__ = ["Conversation", "Conversations"]
