"""Source `llm`: a language model rewrites the gold reply for the counter emotion."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from compressor.progress import show_progress
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.answer_cache import AnswerCache, question_key
from epo.preferences.endpoint import EndpointError, UnusableAnswer

_PROMPT = "llm_prompt_v1.j2"
_ASKS = 3  # how often a question is asked that is answered with nonsense
_NONSENSE_IN_A_ROW = 20  # then the endpoint is not what it is taken for


@dataclass(frozen=True)
class Volume:
    """How much may be asked: questions at a time, and in all, retries of nonsense included."""

    concurrency: int = 8
    max_requests: int = 10_000


class Chat(Protocol):
    """A model to ask: `ChatClient` or `LocalChat`."""

    name: str
    """Who is asked, for messages."""

    identity: dict[str, Any]
    """What its answers depend on besides prompt and seed."""

    def ask(self, prompt: str, seed: int) -> str:
        """Return the reply to one user message; threads may ask at the same time."""


class LlmSource:
    """Asks for one rewritten reply each, and keeps every answer at once: a killed run goes on where it was."""

    name = "llm"

    def __init__(self, chat: Chat, volume: Volume, cache: AnswerCache, context_turns: int, seed: int) -> None:
        """Prepare, without sending anything.

        Args:
            chat: whom to ask.
            volume: how much.
            cache: answers of earlier runs, and of this one.
            context_turns: turns before the reply that the prompt shows.
            seed: sent along; an endpoint may ignore it, the cache makes a second run the same all the same.
        """
        self._chat = chat
        self._volume = volume
        self._cache = cache
        self._context_turns = context_turns
        self._seed = seed
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sent = 0
        self._nonsense_in_a_row = 0
        loader = FileSystemLoader(Path(__file__).parent)
        self._template = Environment(
            loader=loader, undefined=StrictUndefined, trim_blocks=True, autoescape=False
        ).get_template(_PROMPT)

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Every emotion can be asked for."""
        return frozenset(EMOTIONS)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return one rewritten reply each; none where the endpoint answered with nothing usable three times.

        Raises:
            EndpointError: the endpoint fails, or more would have to be asked than `max_requests`. What was answered
                by then is kept.
        """
        prompts = [self._prompt(reply, emotion) for reply, emotion in zip(gold, emotions, strict=True)]
        new = sorted({prompt for prompt in prompts if self._cache.get(self._key(prompt)) is None}, key=prompts.index)
        if self._sent + len(new) > self._volume.max_requests:
            raise EndpointError(
                f"{self._sent + len(new)} questions would have to be asked, llm_max_requests is "
                f"{self._volume.max_requests}; nothing was sent for this split: raise it, or build fewer pairs"
            )
        self._ask_all(new)
        answers = [self._cache.get(self._key(prompt)) for prompt in prompts]
        return [[] if answer is None else [answer] for answer in answers]

    def _ask_all(self, prompts: Sequence[str]) -> None:
        with ThreadPoolExecutor(self._volume.concurrency) as threads:
            try:
                for _ in show_progress(threads.map(self._ask, prompts), "llm", "replies", total=len(prompts)):
                    pass
            except BaseException as error:
                self._stopped.set()
                threads.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, EndpointError):
                    raise EndpointError(f"{error}; answers so far are kept, run the same command to go on") from None
                raise

    def _ask(self, prompt: str) -> None:
        for attempt in range(_ASKS):
            if self._stopped.is_set():
                return
            self._count_request()
            try:
                text = self._chat.ask(prompt, self._seed + attempt)
            except EndpointError:
                self._stopped.set()
                raise
            except UnusableAnswer as problem:
                self._count_nonsense(problem)
            else:
                self._nonsense_in_a_row = 0
                self._cache.put(self._key(prompt), text)
                return

    def _count_request(self) -> None:
        with self._lock:
            if self._sent >= self._volume.max_requests:
                raise EndpointError(f"llm_max_requests {self._volume.max_requests} reached; raise it")
            self._sent += 1

    def _count_nonsense(self, problem: UnusableAnswer) -> None:
        with self._lock:
            self._nonsense_in_a_row += 1
            if self._nonsense_in_a_row >= _NONSENSE_IN_A_ROW:
                raise EndpointError(
                    f"{self._chat.name}: {_NONSENSE_IN_A_ROW} answers in a row were unusable, the last "
                    f"held {problem}; is it an OpenAI-compatible chat endpoint?"
                ) from None

    def _prompt(self, reply: Reply, emotion: Emotion) -> str:
        turns = reply.last_turns(self._context_turns)
        return self._template.render(gold=reply, turns=turns, emotion=emotion).strip()

    def _key(self, prompt: str) -> str:
        return question_key(**self._chat.identity, seed=self._seed, prompt=prompt)
