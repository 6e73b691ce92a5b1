"""A chat model whose answers are kept as they come, so that a run that was killed asks only what is still open."""

from collections.abc import Sequence

from compressor.progress import show_progress
from epo.asking.answer_cache import AnswerCache, question_key
from epo.asking.questions import Chat, Question


class KeptChat:
    """Asks a chat model each question once, however many runs it takes."""

    def __init__(self, chat: Chat, cache: AnswerCache, label: str) -> None:
        """Prepare, without asking anything.

        Args:
            chat: whom to ask.
            cache: answers of earlier runs, and of this one.
            label: what the asking is called while it is shown.
        """
        self._chat, self._cache, self._label = chat, cache, label

    def ask(self, questions: Sequence[Question], unit: str = "replies", is_shown: bool = True) -> None:
        """Ask what has no answer yet, equal questions once, and keep each answer before the next is waited for.

        Args:
            questions: in any order.
            unit: what an answer is, in the plural, to be shown.
            is_shown: False shows nothing.

        Raises:
            EndpointError: the endpoint fails, or more would have to be asked than may be; what came is kept.
        """
        new = {key: question for question in questions if self._cache.get(key := self._key(question)) is None}
        keys = list(new)
        answers = self._chat.answers(list(new.values()))
        for place, text in show_progress(answers, self._label, unit, total=len(keys), is_shown=is_shown):
            if text is not None:
                self._cache.put(keys[place], text)

    def answer(self, question: Question) -> str | None:
        """Return the answer to a question; None where it was not asked, or nothing usable came."""
        return self._cache.get(self._key(question))

    def _key(self, question: Question) -> str:
        shown = {} if question.pictures is None else {"pictures": question.pictures.identity}
        return question_key(**self._chat.identity, seed=question.seed, messages=list(question.messages), **shown)


__all__ = ["KeptChat"]
