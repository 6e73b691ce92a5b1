"""Endpoint keys: how a recipe names an OpenAI-compatible endpoint, and says how patiently and how much it is asked."""

from dataclasses import dataclass, field

from epo.asking.endpoint import ChatClient, Endpoint, EndpointError
from epo.asking.endpoint_chat import EndpointChat, Volume


@dataclass(frozen=True, kw_only=True)
class EndpointKeys:
    """The endpoint that is asked, how patiently and how much."""

    llm_base_url: str | None = field(default=None, metadata={"help": "such as http://127.0.0.1:8000/v1"})
    llm_model: str = field(default="", metadata={"help": "the model's name there"})
    llm_key_variable: str = field(
        default="OPENAI_API_KEY", metadata={"help": "environment variable with the key", "role": "cosmetic"}
    )
    llm_temperature: float = field(default=0.7, metadata={"help": "of sampling"})
    llm_max_tokens: int = field(default=256, metadata={"help": "longest answer"})
    llm_timeout_s: float = field(default=60.0, metadata={"help": "seconds to wait for an answer", "role": "cosmetic"})
    llm_tries: int = field(
        default=6, metadata={"help": "times one request is sent before giving up", "role": "cosmetic"}
    )
    llm_first_pause_s: float = field(
        default=1.0, metadata={"help": "pause before the second try; then doubled", "role": "cosmetic"}
    )
    llm_concurrency: int = field(default=8, metadata={"help": "requests at a time", "role": "cosmetic"})
    llm_max_requests: int = field(default=10_000, metadata={"help": "most requests of a run", "role": "cosmetic"})

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            EndpointError: names the key.
        """
        for name in ("llm_max_tokens", "llm_tries", "llm_concurrency", "llm_max_requests"):
            if getattr(self, name) < 1:
                raise EndpointError(f"{name} is {getattr(self, name)}, want 1 or more")
        if not 0 <= self.llm_temperature < float("inf"):
            raise EndpointError(f"llm_temperature is {self.llm_temperature}, want 0 or more")
        if not self.llm_timeout_s > 0:
            raise EndpointError(f"llm_timeout_s is {self.llm_timeout_s}, want more than 0")

    def open_client(self, base_url: str) -> ChatClient:
        """Return what asks one question of an endpoint; nothing is sent yet.

        Raises:
            EndpointError: the address cannot be used.
        """
        endpoint = Endpoint(
            base_url,
            self.llm_model,
            self.llm_key_variable,
            self.llm_temperature,
            self.llm_max_tokens,
            self.llm_timeout_s,
            self.llm_tries,
            self.llm_first_pause_s,
        )
        return ChatClient(endpoint, self.llm_concurrency)

    def open_chat(self, base_url: str) -> EndpointChat:
        """Return what asks many questions at a time; nothing is sent yet.

        Raises:
            EndpointError: the address cannot be used.
        """
        return EndpointChat(self.open_client(base_url), Volume(self.llm_concurrency, self.llm_max_requests))


__all__ = ["EndpointKeys"]
