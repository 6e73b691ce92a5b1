"""Builds the source of rejected replies that a preferences recipe names; heavy ones are imported when named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epo.emotions import Emotion
from epo.preferences.builder import Source
from epo.preferences.opposite_random import OppositeRandomSource
from epo.preferences.policy import Writer
from epo.preferences.scores import Examiner
from launch.recipe import RecipeError

if TYPE_CHECKING:
    from epo.preferences.endpoint import ChatClient
    from epo.preferences.local_chat import LocalChat


# Keys that act in some sources only; of those of `llm` some act through an endpoint only, some on a loaded model.
_SOURCES_OF: dict[str, tuple[str, ...]] = {
    "embedding_model": ("retrieve",),
    "context_turns": ("retrieve", "llm"),
    "cache_dir": ("policy",),
}
_OF_AN_ENDPOINT = ("llm_key_variable", "llm_timeout_s", "llm_tries", "llm_first_pause_s")
_OF_A_MODEL_HERE = ("llm_dtype",)


def refuse_idle_keys(recipe: Any, defaults: Mapping[str, Any]) -> None:
    """Refuse keys that this recipe's source would ignore; one left at its default says nothing.

    Args:
        recipe: of `PreferencesRecipe`, or its keys as attributes.
        defaults: of its keys.

    Raises:
        RecipeError: names the first such key, whose it is, and what to do.
    """
    if recipe.marginals != "near" and recipe.max_dropped_share != defaults["max_dropped_share"]:
        raise RecipeError(
            f"key max_dropped_share belongs to marginals: near; this recipe's are {recipe.marginals}: leave it out"
        )
    if recipe.coherence_model is None and recipe.coherence_dtype != defaults["coherence_dtype"]:
        raise RecipeError("key coherence_dtype belongs to coherence_model, and none is named: leave it out")
    for key, default in defaults.items():
        owners = _owners(key)
        if owners == () or getattr(recipe, key) == default:
            continue
        if recipe.source not in owners:
            raise RecipeError(
                f"key {key} belongs to source {' and '.join(owners)}; this recipe's source is {recipe.source}, which "
                "ignores it: leave it out"
            )
        if key in _OF_AN_ENDPOINT and recipe.llm_base_url is None:
            raise RecipeError(f"key {key} belongs to an endpoint, and llm_base_url names none: leave it out")
        if key in _OF_A_MODEL_HERE and recipe.llm_base_url is not None:
            raise RecipeError(
                f"key {key} belongs to a model loaded here, and llm_base_url names an endpoint: leave it out"
            )


def _owners(key: str) -> tuple[str, ...]:
    if key in _SOURCES_OF:
        return _SOURCES_OF[key]
    return tuple(source for source in ("llm", "policy") if key.startswith(f"{source}_"))


def make_source(recipe: Any, examiner: Examiner) -> Source:
    """Return the source of a `PreferencesRecipe`.

    Raises:
        RecipeError: a key that this source needs is missing.
        EndpointError: the endpoint's address cannot be used.
    """
    if recipe.source == "rewrite":
        from epo.preferences.rewrite import RewriteSource

        return RewriteSource(recipe.seed)
    if recipe.source == "opposite_random":
        return OppositeRandomSource(recipe.seed)
    if recipe.source == "llm":
        return _llm(recipe)
    if recipe.source == "policy":
        return _policy(recipe)
    from epo.preferences.retrieve import RetrieveSource

    return RetrieveSource(recipe.embedding_model, examiner, recipe.context_turns)


def _llm(recipe: Any) -> Source:
    from epo.preferences.answer_cache import AnswerCache
    from epo.preferences.llm import LlmSource, Volume

    if recipe.llm_model is None:
        raise RecipeError("source llm wants llm_model, and llm_base_url unless the model is to be loaded here")
    chat = _local_chat(recipe) if recipe.llm_base_url is None else _chat_client(recipe)
    cache = AnswerCache(Path(recipe.output_dir) / "llm_cache.jsonl")
    volume = Volume(recipe.llm_concurrency, recipe.llm_max_requests)
    return LlmSource(chat, volume, cache, recipe.context_turns, recipe.seed)


def _local_chat(recipe: Any) -> "LocalChat":
    """Load the model that rewrites replies in this process."""
    import torch

    from epo.model.parts import load_llm, load_tokenizer
    from epo.preferences.local_chat import LocalChat

    model = load_llm(recipe.llm_model, recipe.llm_dtype)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    tokenizer = load_tokenizer(recipe.llm_model, ())
    if tokenizer.chat_template is None:
        raise RecipeError(f"llm_model {recipe.llm_model}: has no chat template; name an instruction-tuned model")
    return LocalChat(recipe.llm_model, model, tokenizer, recipe.llm_temperature, recipe.llm_max_tokens)


def _chat_client(recipe: Any) -> "ChatClient":
    from epo.preferences.endpoint import ChatClient, Endpoint

    endpoint = Endpoint(
        recipe.llm_base_url,
        recipe.llm_model,
        recipe.llm_key_variable,
        recipe.llm_temperature,
        recipe.llm_max_tokens,
        recipe.llm_timeout_s,
        recipe.llm_tries,
        recipe.llm_first_pause_s,
    )
    return ChatClient(endpoint, recipe.llm_concurrency)


def _policy(recipe: Any) -> Source:
    from epo.preferences.answer_cache import AnswerCache
    from epo.preferences.policy import PolicySource

    if recipe.policy_model is None:
        raise RecipeError("source policy wants policy_model, a folder written by launch/sft.py")
    weights = sorted(Path(recipe.policy_model).glob("*.safetensors"))
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in weights]
    identity = f"{stamps} plain {recipe.policy_temperature} {recipe.policy_max_new_tokens} {recipe.policy_dtype}"
    cache = AnswerCache(Path(recipe.output_dir) / "policy_cache.jsonl")
    return PolicySource(_writer(recipe), identity, cache, recipe.policy_batch_size, recipe.seed)


def _writer(recipe: Any) -> Writer:
    """Load the model, and return what lets it write one batch."""
    import torch
    from transformers import set_seed

    from epo.data.cache import ClipCache
    from epo.data.replies import Reply
    from epo.evaluation.generate import generate_replies
    from epo.model.loading import load_model
    from epo.prompts.emotion_label import split_reply
    from epo.training.collate import PromptBuilder

    model, processor = load_model(recipe.policy_model, recipe.policy_dtype)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    build = PromptBuilder(processor, ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir)))

    def write(gold: Sequence[Reply], emotions: Sequence[Emotion], seed: int) -> list[str]:
        set_seed(seed)
        replies = generate_replies(
            model,
            processor,
            [build(reply) for reply in gold],
            len(gold),
            recipe.policy_max_new_tokens,
            recipe.policy_temperature,
            [f"({emotion})" for emotion in emotions],
        )
        return [split_reply(reply)[1] for reply in replies]

    return write
