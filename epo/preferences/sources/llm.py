"""Source `llm`: a language model rewrites the gold reply for the counter emotion."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from epo.asking.answer_cache import AnswerCache
from epo.asking.endpoint_keys import EndpointKeys
from epo.asking.kept_chat import KeptChat
from epo.asking.questions import Chat, Question
from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.rewriting import read_rewriting, rewriting_question, worked_examples
from epo.preferences.source import PairSource, SourceContext, SourceError, keys_of_parts

if TYPE_CHECKING:
    from epo.preferences.local_chat import LocalChat

_SEEDS = 10_000  # apart, so that the candidates of one seed are not those of the next
_OF_AN_ENDPOINT = (
    "llm_key_variable", "llm_timeout_s", "llm_tries", "llm_first_pause_s", "llm_concurrency", "llm_max_requests",
)  # fmt: skip
_OF_A_MODEL_HERE = ("llm_dtype",)


@dataclass(frozen=True, kw_only=True)
class LlmSettings(EndpointKeys):
    """Keys of source `llm`."""

    llm_model: str = field(
        default="",
        metadata={
            "help": "its name there; without llm_base_url a folder or hub name", "role": "part",
        },
    )  # fmt: skip
    llm_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of a model loaded here"})
    llm_candidates: int = field(default=4, metadata={"help": "rewritten replies to choose from, each"})
    context_turns: int = field(default=0, metadata={"help": "turns before the reply that the question shows"})

    def __post_init__(self) -> None:
        """Refuse to ask nobody, and keys that whoever is asked would ignore; one left at its default says nothing."""
        super().__post_init__()
        if self.llm_model == "":
            raise SourceError("source llm wants llm_model, and llm_base_url unless the model is to be loaded here")
        if self.context_turns < 0:
            raise SourceError(f"context_turns is {self.context_turns}, want 0 (none) or more")
        if not 1 <= self.llm_candidates <= _SEEDS:
            raise SourceError(f"llm_candidates is {self.llm_candidates}, want 1 to {_SEEDS}")
        if self.llm_temperature == 0 and self.llm_candidates > 1:
            raise SourceError(
                f"llm_candidates is {self.llm_candidates}, but all are the same at llm_temperature 0: set it to 1, or "
                "llm_temperature above 0"
            )
        idle: tuple[str, ...] = _OF_AN_ENDPOINT
        owner = "an endpoint, and llm_base_url names none"
        if self.llm_base_url is not None:
            idle, owner = _OF_A_MODEL_HERE, "a model loaded here, and llm_base_url names an endpoint"
        for key in fields(self):
            if key.name in idle and getattr(self, key.name) != key.default:
                raise SourceError(f"key {key.name} belongs to {owner}: leave it out")


class LlmSource:
    """Asks for several rewritten replies each, and keeps every answer at once: a killed run goes on where it was."""

    name = "llm"

    def __init__(self, chat: Chat, cache: AnswerCache, num_candidates: int, context_turns: int, seed: int) -> None:
        """Prepare, without sending anything.

        Args:
            chat: whom to ask.
            cache: answers of earlier runs, and of this one.
            num_candidates: how often each rewriting is asked for.
            context_turns: turns before the reply that the question shows.
            seed: sent along; an endpoint may ignore it, the cache makes a second run the same all the same.
        """
        self.examples = worked_examples()
        self._chat = KeptChat(chat, cache, "llm")
        self._num_candidates = num_candidates
        self._context_turns = context_turns
        self._seed = seed

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Every emotion can be asked for."""
        return frozenset(EMOTIONS)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return the different rewritten replies of each; none where no usable answer came.

        Raises:
            EndpointError: the endpoint fails, or more would have to be asked than `llm_max_requests`. What was answered
                by then is kept.
        """
        asked = [self._questions(reply, emotion) for reply, emotion in zip(gold, emotions, strict=True)]
        self._chat.ask([question for questions in asked for question in questions])
        found = []
        for questions in asked:
            answers = [self._chat.answer(question) for question in questions]
            lines = [read_rewriting(answer) for answer in answers if answer is not None]
            found.append(list(dict.fromkeys(line for line in lines if line)))
        return found

    def _questions(self, reply: Reply, emotion: Emotion) -> list[Question]:
        messages = rewriting_question(reply, emotion, self._context_turns)
        return [Question(messages, self._seed * _SEEDS + number) for number in range(self._num_candidates)]


def _make(settings: LlmSettings, context: SourceContext) -> LlmSource:
    cache = AnswerCache(context.folder / "llm_cache.jsonl")
    return LlmSource(_open_chat(settings), cache, settings.llm_candidates, settings.context_turns, context.seed)


def _open_chat(settings: LlmSettings) -> Chat:
    return _load_chat(settings) if settings.llm_base_url is None else settings.open_chat(settings.llm_base_url)


def _load_chat(settings: LlmSettings) -> "LocalChat":
    """Load the model that rewrites replies in this process."""
    from epo.preferences.local_chat import load_local_chat

    name, temperature, longest = settings.llm_model, settings.llm_temperature, settings.llm_max_tokens
    return load_local_chat(name, settings.llm_dtype, temperature, longest, is_one_line=True)


def _check(settings: LlmSettings) -> None:
    """Refuse an endpoint's address that cannot be used."""
    if settings.llm_base_url is not None:
        settings.open_client(settings.llm_base_url)


SOURCE = PairSource(
    about="a language model rewrites the chosen reply",
    settings=LlmSettings,
    make=_make,
    check=_check,
    parts=lambda settings: keys_of_parts(settings) if settings.llm_base_url is None else (),
    keeps_content=True,
)
