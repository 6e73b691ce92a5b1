"""Summaries: the language model writes the history down in as many tokens as memories take up, and reads that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compressor.chat import ChatFormat, Message, chat_format
from compressor.fitting import newest_that_fit
from compressor.utterance import Utterance
from epo.asking.answer_cache import AnswerCache, question_key
from epo.asking.questions import Question
from epo.data.replies import Reply
from epo.evaluation.memory_quality import HistoryReader, QualityTest
from epo.model.parts import embedding_fingerprint
from epo.preferences.local_chat import LocalChat
from epo.prompts.histories import history_of

_ASKED = (
    "Here is the beginning of a conversation between a user and an assistant.\n\n{lines}\n\nSum it up for somebody who "
    "goes on with it, in at most {count} words. Keep names, numbers and how the user felt. Write the summary alone."
)
_WORDS_A_TOKEN = 0.75
"""What is asked for; that it is not exceeded is seen to by the tokens."""


@dataclass(frozen=True)
class Summary:
    """What a language model made of a history.

    Attributes:
        text: its words; empty where it said nothing.
        num_left_out: oldest turns that it could not be shown, for want of positions.
    """

    text: str
    num_left_out: int


class SummaryWriter:
    """Asks a language model for summaries, greedily, and keeps each one."""

    def __init__(self, name: str, llm: Any, tokenizer: Any, cache: AnswerCache | None = None) -> None:
        """Take a model that is where it should run.

        Args:
            name: what it was loaded from.
            llm: the frozen language model.
            tokenizer: its own, with a chat template.
            cache: of summaries that were written before, by everything they depend on.
        """
        self._name, self._llm, self._tokenizer, self._cache = name, llm, tokenizer, cache
        self._made_by = embedding_fingerprint(llm)

    def write(self, histories: Sequence[Sequence[Utterance]], budgets: Sequence[int]) -> list[Summary]:
        """Return a summary of each history, of as many tokens at most as its budget."""
        asked = [self._ask(turns, budget) for turns, budget in zip(histories, budgets, strict=True)]
        texts: dict[int, str] = {}
        for budget in sorted(set(budgets)):
            places = [place for place, own in enumerate(budgets) if own == budget]
            texts |= zip(places, self._answers([asked[place][0] for place in places], budget), strict=True)
        return [Summary(texts[place], left_out) for place, (_, left_out) in enumerate(asked)]

    def _ask(self, turns: Sequence[Utterance], budget: int) -> tuple[list[Message], int]:
        """Return the question, with the newest turns that the model has positions for, and how many it lacks."""
        limit = getattr(self._llm.config.get_text_config(), "max_position_embeddings", None)
        chat: ChatFormat = chat_format(self._tokenizer)
        lines = [turn.line for turn in turns]

        def write(count: int) -> list[int]:
            return chat.encode_prompt(_question(lines[len(lines) - count :], budget))

        found = newest_that_fit([len(line) for line in lines], write, None if limit is None else limit - budget)
        count = 0 if found is None else found[0]
        return _question(lines[len(lines) - count :], budget), len(lines) - count

    def _answers(self, asked: Sequence[list[Message]], budget: int) -> list[str]:
        """Return what the model writes, each question asked once."""
        chat = LocalChat(self._name, self._llm, self._tokenizer, temperature=0.0, max_tokens=budget)
        keys = [question_key(chat=chat.identity, made_by=self._made_by, messages=messages) for messages in asked]
        known = {key: None if self._cache is None else self._cache.get(key) for key in keys}
        new = {key: messages for key, messages in zip(keys, asked, strict=True) if known[key] is None}
        for place, text in chat.answers([Question(messages, 0) for messages in new.values()]) if new else ():
            key = list(new)[place]
            known[key] = "" if text is None else " ".join(text.split())
            if self._cache is not None:
                self._cache.put(key, known[key] or "")
        return [known[key] or "" for key in keys]


def summary_report(
    test: QualityTest, reader: HistoryReader, writer: SummaryWriter, num_memory_tokens: int
) -> dict[str, Any]:
    """Return the report of a reader that is told the history by its own summary, in the place of memories.

    The prompt is never longer than that with memories: words are taken off the summary's end until it fits.

    Args:
        test: the replies.
        reader: the frozen language model; the writer's.
        writer: of the summaries.
        num_memory_tokens: k, the tokens a turn that a summary may take up.

    Returns:
        That of `QualityTest.report`, with `summary_words`, a mean, and `num_cut`, replies of whose history the model
        could not be shown all.
    """
    turns = [history_of(reply, reader.layout, names_emotion=True).turns for reply in test.replies]
    summaries = writer.write(turns, [num_memory_tokens * len(past) for past in turns])
    told = [
        _prompt(reader, reply, summary.text.split(" "), len(reader.as_memory(reply, num_memory_tokens)))
        for reply, summary in zip(test.replies, summaries, strict=True)
    ]
    return test.report(test.scores_after([ids for ids, _ in told])) | {
        "summary_words": sum(count for _, count in told) / len(told),
        "num_cut": sum(summary.num_left_out > 0 for summary in summaries),
    }


def _prompt(reader: HistoryReader, reply: Reply, words: list[str], room: int) -> tuple[list[int], int]:
    """Return a prompt of at most so many tokens with words of a summary where memories stand, and how many words."""
    fixed = history_of(reply, reader.layout, names_emotion=True).fixed
    for count in range(len(words), 0, -1):
        if not words[0]:
            break
        ids = reader.chat.encode_prompt(fixed.messages((), " ".join(words[:count]) + "\n"))
        if len(ids) <= room:
            return ids, count
    return reader.chat.encode_prompt(fixed.messages()), 0


def _question(lines: Sequence[str], budget: int) -> list[Message]:
    count = max(1, int(_WORDS_A_TOKEN * budget))
    return [{"role": "user", "content": _ASKED.format(lines="\n".join(lines), count=count)}]


__all__ = ["Summary", "SummaryWriter", "summary_report"]
