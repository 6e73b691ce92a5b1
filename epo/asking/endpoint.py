"""One question to an OpenAI-compatible chat endpoint: retries with backoff, and errors that never show the key."""

import ipaddress
import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from urllib3.util.retry import Retry

from compressor.chat import Message
from epo.redaction import redact, remember, secret_values

_RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
_LONGEST_PAUSE_S = 60.0


class EndpointError(ValueError):
    """An endpoint that cannot be used; the message says what it answered and how to go on."""


class UnusableAnswer(Exception):
    """An answer with no reply in it, which asking again may cure."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how patiently.

    `base_url` ends before `/chat/completions`, as in `http://127.0.0.1:8000/v1`. The key is read from the environment
    variable `key_variable`; where that is not set none is sent. A user and password in the address
    (`https://user:password@host/v1`) are sent as such instead of the key. `tries` bounds how often one question is
    sent, with pauses that double from `first_pause_s` up to a minute, or as long as the endpoint itself asks for.
    `address_key` is what the user set the address by, for errors.
    """

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 0.7
    max_tokens: int = 256
    timeout_s: float = 60.0
    tries: int = 6
    first_pause_s: float = 1.0
    address_key: str = "llm_base_url"


class ChatClient:
    """Asks an endpoint; may be shared by threads."""

    def __init__(self, endpoint: Endpoint, connections: int) -> None:
        """Prepare, without sending anything.

        Args:
            endpoint: where to ask.
            connections: how many threads will ask at a time.

        Raises:
            EndpointError: the address is no http address, or would carry the key unencrypted to another machine.
        """
        self.endpoint = endpoint
        self.name = redact(f"{endpoint.base_url} ({endpoint.model})")
        self.identity: dict[str, Any] = {
            "model": endpoint.model,
            "temperature": endpoint.temperature,
            "max_tokens": endpoint.max_tokens,
        }
        self._key = os.environ.get(endpoint.key_variable)
        address, self._login = _split_login(endpoint.base_url)
        remember([] if self._key is None else [self._key])
        remember(secret_values({"base_url": endpoint.base_url}))
        _check_address(endpoint, self._key is not None or self._login is not None)
        self._url = address.rstrip("/") + "/chat/completions"
        self._session = requests.Session()
        retry = Retry(
            total=endpoint.tries - 1,
            backoff_factor=endpoint.first_pause_s,
            backoff_max=_LONGEST_PAUSE_S,
            backoff_jitter=endpoint.first_pause_s / 2,
            status_forcelist=_RETRIED,
            allowed_methods=None,  # a repeated question does no harm, though it is a POST
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=connections))

    def ask(self, messages: Sequence[Message], seed: int, pictures: Sequence[bytes] = ()) -> str:
        """Return the endpoint's reply to a conversation whose last message is the user's.

        Args:
            messages: of the conversation.
            seed: sent along.
            pictures: JPEG files that the last message is about, sent behind its words as data URLs.

        Raises:
            UnusableAnswer: it answered, but with nothing a reply could be read from.
            EndpointError: it cannot be reached, keeps failing, or refuses.
        """
        body = self.identity | {"messages": _with_pictures(messages, pictures), "seed": seed}
        try:
            answer = self._session.post(
                self._url, json=body, auth=self._sign, timeout=self.endpoint.timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            raise EndpointError(f"{self.name}: no answer after {self.endpoint.tries} tries ({_kind(error)})") from None
        if answer.status_code != 200:
            raise EndpointError(f"{self.name}: {self._explain(answer)}")
        return _read_reply(answer)

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # Through `auth`, or a .netrc of the user's would replace the key.
        if self._login is not None:
            return self._login(request)
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def _explain(self, answer: requests.Response) -> str:
        if answer.status_code in (401, 403):  # such answers may quote the key
            return f"status {answer.status_code}; put a valid key into the variable {self.endpoint.key_variable}"
        text = redact(" ".join(answer.text.split()))[:200]
        tries = f" after {self.endpoint.tries} tries" if answer.status_code in _RETRIED else ""
        return f"status {answer.status_code}{tries}: {text}"


def _with_pictures(messages: Sequence[Message], pictures: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return messages whose last one holds pictures behind its words, in the form of OpenAI's vision models."""
    sent: list[dict[str, Any]] = [dict(message) for message in messages]
    if pictures:
        urls = (f"data:image/jpeg;base64,{b64encode(picture).decode('ascii')}" for picture in pictures)
        shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        sent[-1]["content"] = [{"type": "text", "text": sent[-1]["content"]}, *shown]
    return sent


def _read_reply(answer: requests.Response) -> str:
    try:
        body: Any = answer.json()
        text = body["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise UnusableAnswer("no choices[0].message.content in it") from None
    if not isinstance(text, str) or text.strip() == "":
        raise UnusableAnswer("an empty reply")
    return text.strip()


def _split_login(url: str) -> tuple[str, HTTPBasicAuth | None]:
    """Return an address without the user and password it may hold, and those."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None
    login = HTTPBasicAuth(unquote(parts.username).encode(), unquote(parts.password or "").encode())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), login


def _check_address(endpoint: Endpoint, has_key: bool) -> None:
    parts, shown = urlsplit(endpoint.base_url), redact(repr(endpoint.base_url))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointError(f"{endpoint.address_key} is {shown}, want such as http://127.0.0.1:8000/v1")
    if has_key and parts.scheme == "http" and not _is_loopback(parts.hostname):
        what = f"the key in {endpoint.key_variable}" if parts.username is None else "its password"
        raise EndpointError(
            f"{endpoint.address_key} {shown} would carry {what} unencrypted to another machine; use https, or "
            f"{'unset the variable' if parts.username is None else 'leave it out'} where none is needed"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _kind(error: requests.RequestException) -> str:
    """Name an error by its class alone: its text repeats the address and, in places, headers."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return type(error if reason is None else reason).__name__
