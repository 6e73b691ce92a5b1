"""Asked model: the endpoint or local model that judges replies or plays a user, from the command line."""

import argparse
from typing import TYPE_CHECKING

from launch.recipe import RecipeError

if TYPE_CHECKING:
    from epo.asking.questions import Chat


def add_asked_options(parser: argparse.ArgumentParser, temperature: float) -> None:
    """Give a command line the options of a model that is asked questions."""
    group = parser.add_argument_group("who is asked: --endpoint and --model, or --local_model")
    group.add_argument("--endpoint", help="OpenAI-compatible address, such as http://127.0.0.1:8000/v1")
    group.add_argument("--model", help="its name at the endpoint")
    group.add_argument("--local_model", help="folder or hub name of a chat model to load here")
    group.add_argument("--key_variable", default="OPENAI_API_KEY", help="environment variable with the endpoint's key")
    group.add_argument("--temperature", type=float, default=temperature, help="of its answers")
    group.add_argument("--max_tokens", type=int, default=256, help="longest answer")
    group.add_argument("--timeout_s", type=float, default=60.0, help="seconds to wait for an answer")
    group.add_argument("--tries", type=int, default=6, help="times one request is sent before giving up")
    group.add_argument("--first_pause_s", type=float, default=1.0, help="before the second try; then doubled")
    group.add_argument("--concurrency", type=int, default=8, help="requests at a time")
    group.add_argument("--max_requests", type=int, default=10_000, help="most requests of a run")


def open_asked(given: argparse.Namespace) -> "Chat":
    """Return the model of `add_asked_options`; an endpoint is not spoken to yet.

    Raises:
        RecipeError: neither or both are named, or a number makes no sense.
        EndpointError: the address cannot be used.
        ChatTemplateError: the local model has no chat template.
    """
    if (given.endpoint is None) == (given.local_model is None):
        raise RecipeError("want either --endpoint URL with --model NAME, or --local_model FOLDER")
    if (given.endpoint is None) != (given.model is None):
        raise RecipeError("--endpoint and --model belong together; a model to be loaded here is --local_model FOLDER")
    for name in ("max_tokens", "tries", "concurrency", "max_requests"):
        if getattr(given, name) < 1:
            raise RecipeError(f"--{name} is {getattr(given, name)}, want 1 or more")
    if not 0 <= given.temperature < float("inf"):
        raise RecipeError(f"--temperature is {given.temperature}, want 0 or more")
    if given.endpoint is None:
        from epo.preferences.local_chat import load_local_chat

        return load_local_chat(given.local_model, "float32", given.temperature, given.max_tokens)
    from epo.asking.endpoint import ChatClient, Endpoint
    from epo.asking.endpoint_chat import EndpointChat, Volume

    endpoint = Endpoint(
        given.endpoint, given.model, given.key_variable, given.temperature, given.max_tokens, given.timeout_s,
        given.tries, given.first_pause_s, address_key="--endpoint",
    )  # fmt: skip
    volume = Volume(given.concurrency, given.max_requests, limit_key="--max_requests")
    return EndpointChat(ChatClient(endpoint, given.concurrency), volume)


__all__ = ["add_asked_options", "open_asked"]
