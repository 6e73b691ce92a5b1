"""Guard: lets a browser on this machine in, from the demo's own page, and no other page and no other name.

A server on loopback is reached by every page that a person has open: by its address, and by a name that its owner lets
point to 127.0.0.1 (DNS rebinding). So the Host must be loopback's own, and what changes anything must come from a page
of that very host and port.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

HOSTS = ("127.0.0.1", "localhost")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "camera=(self), microphone=(self)",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def refusal(method: str, headers: MutableMapping[str, str]) -> str | None:
    """Return why a request is not answered, None where it is.

    Args:
        method: of HTTP.
        headers: by lower-case name.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    name, _, port = host.partition(":")
    if name not in HOSTS or (port and not port.isdecimal()):
        return f"this page is served to this machine alone, as http://{HOSTS[0]}; the request names another host"
    is_changing = method not in ("GET", "HEAD")
    if (origin is not None or is_changing) and origin != f"http://{host}":
        return "the request comes from another page, or from none; open the demo's own page"
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "the request comes from another site; open the demo's own page"
    return None


def guard(app: App) -> App:
    """Return an ASGI application that refuses what `refusal` names, and lets browsers load nothing from elsewhere."""

    async def guarded(scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), text.encode()) for name, text in _HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *ours]
            await send(message)

        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no socket to talk to
            await send({"type": "websocket.close", "code": 1008})
            return
        pairs = [(name.decode("latin-1").lower(), text.decode("latin-1")) for name, text in scope["headers"]]
        fault = refusal(scope["method"], dict(pairs))
        if [name for name, _ in pairs].count("host") != 1:
            fault = "the request names no host, or several"
        if fault is None:
            await app(scope, receive, send_with_headers)
            return
        body = json.dumps({"error": fault}).encode()
        start = {"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"application/json")]}
        await send_with_headers(start)
        await send({"type": "http.response.body", "body": body})

    return guarded


__all__ = ["HOSTS", "guard", "refusal"]
