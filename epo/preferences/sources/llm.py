"""Source `llm`: a language model rewrites the gold reply for the counter emotion."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from compressor.progress import show_progress
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.answer_cache import AnswerCache, question_key
from epo.preferences.endpoint import ChatClient, Endpoint, EndpointError, UnusableAnswer
from epo.preferences.source import PairSource, SourceContext, SourceError, keys_of_parts

if TYPE_CHECKING:
    from epo.preferences.local_chat import LocalChat

_PROMPT = "llm_prompt_v1.j2"
_ASKS = 3  # how often a question is asked that is answered with nonsense
_NONSENSE_IN_A_ROW = 20  # then the endpoint is not what it is taken for
_OF_AN_ENDPOINT = ("llm_key_variable", "llm_timeout_s", "llm_tries", "llm_first_pause_s")
_OF_A_MODEL_HERE = ("llm_dtype",)


@dataclass(frozen=True, kw_only=True)
class LlmSettings:
    """Keys of source `llm`."""

    llm_base_url: str | None = field(default=None, metadata={"help": "such as http://127.0.0.1:8000/v1"})
    llm_model: str = field(
        default="",
        metadata={
            "help": "its name there; without llm_base_url a folder or hub name", "role": "part",
        },
    )  # fmt: skip
    llm_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of a model loaded here"})
    llm_key_variable: str = field(
        default="OPENAI_API_KEY", metadata={"help": "environment variable with the key", "role": "cosmetic"}
    )
    llm_temperature: float = field(default=0.7, metadata={"help": "of sampling"})
    llm_max_tokens: int = field(default=256, metadata={"help": "longest rewritten reply"})
    llm_timeout_s: float = field(default=60.0, metadata={"help": "seconds to wait for an answer", "role": "cosmetic"})
    llm_tries: int = field(
        default=6, metadata={"help": "times one request is sent before giving up", "role": "cosmetic"}
    )
    llm_first_pause_s: float = field(
        default=1.0, metadata={"help": "pause before the second try; then doubled", "role": "cosmetic"}
    )
    llm_concurrency: int = field(default=8, metadata={"help": "requests at a time", "role": "cosmetic"})
    llm_max_requests: int = field(default=10_000, metadata={"help": "most requests of a run", "role": "cosmetic"})
    context_turns: int = field(default=5, metadata={"help": "turns before the reply that the prompt shows"})

    def __post_init__(self) -> None:
        """Refuse to ask nobody, and keys that whoever is asked would ignore; one left at its default says nothing."""
        if self.llm_model == "":
            raise SourceError("source llm wants llm_model, and llm_base_url unless the model is to be loaded here")
        if self.context_turns < 1:
            raise SourceError(f"context_turns is {self.context_turns}, want 1 or more")
        idle: tuple[str, ...] = _OF_AN_ENDPOINT
        owner = "an endpoint, and llm_base_url names none"
        if self.llm_base_url is not None:
            idle, owner = _OF_A_MODEL_HERE, "a model loaded here, and llm_base_url names an endpoint"
        for key in fields(self):
            if key.name in idle and getattr(self, key.name) != key.default:
                raise SourceError(f"key {key.name} belongs to {owner}: leave it out")


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


def _make(settings: LlmSettings, context: SourceContext) -> LlmSource:
    chat = _load_chat(settings) if settings.llm_base_url is None else _chat_client(settings, settings.llm_base_url)
    cache = AnswerCache(context.folder / "llm_cache.jsonl")
    volume = Volume(settings.llm_concurrency, settings.llm_max_requests)
    return LlmSource(chat, volume, cache, settings.context_turns, context.seed)


def _chat_client(settings: LlmSettings, base_url: str) -> ChatClient:
    endpoint = Endpoint(
        base_url,
        settings.llm_model,
        settings.llm_key_variable,
        settings.llm_temperature,
        settings.llm_max_tokens,
        settings.llm_timeout_s,
        settings.llm_tries,
        settings.llm_first_pause_s,
    )
    return ChatClient(endpoint, settings.llm_concurrency)


def _load_chat(settings: LlmSettings) -> "LocalChat":
    """Load the model that rewrites replies in this process."""
    import torch

    from epo.model.parts import load_llm, load_tokenizer
    from epo.preferences.local_chat import LocalChat

    model = load_llm(settings.llm_model, settings.llm_dtype)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    tokenizer = load_tokenizer(settings.llm_model, ())
    if tokenizer.chat_template is None:
        raise SourceError(f"llm_model {settings.llm_model}: has no chat template; name an instruction-tuned model")
    return LocalChat(settings.llm_model, model, tokenizer, settings.llm_temperature, settings.llm_max_tokens)


def _check(settings: LlmSettings) -> None:
    """Refuse an endpoint's address that cannot be used."""
    if settings.llm_base_url is not None:
        _chat_client(settings, settings.llm_base_url)


SOURCE = PairSource(
    about="a language model rewrites the chosen reply",
    settings=LlmSettings,
    make=_make,
    check=_check,
    parts=lambda settings: keys_of_parts(settings) if settings.llm_base_url is None else (),
    keeps_content=True,
)
