"""The demo's server: its page, the talks behind it, and nothing else.

A reply comes in pieces and goes one way, so server-sent events do: one request, one stream, no socket to guard.
Starlette and uvicorn serve them, which MLflow needs anyway; a toolkit of ready-made widgets (Gradio) would bring dozens
of packages and a page whose fonts and scripts come from elsewhere, and could be opened to the network by one flag.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epo.data.findings import DataError
from epo.demo.exhibit import Exhibit
from epo.demo.guard import App, guard
from epo.demo.visits import Visit, VisitError
from epo.extras import require_extra

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

VISIT_HEADER = "x-visit"
"""Holds the secret of a visit; a page elsewhere could not send it unasked, as it could a cookie."""
_FILES = {"talk.html": "text/html", "talk.css": "text/css", "talk.js": "text/javascript"}
_MOST_JSON_BYTES = 2**16


def make_app(exhibit: Exhibit) -> App:
    """Return the ASGI application of an exhibit.

    Raises:
        MissingExtraError: Starlette is not installed.
    """
    require_extra("the demo", "starlette")
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def refuse(request: Any, error: Any) -> Response:
        return JSONResponse({"error": exhibit.line(error)}, error.status if isinstance(error, VisitError) else 500)

    server = _Server(exhibit)
    return guard(
        Starlette(
            routes=[
                Route("/", server.page),
                Route("/{name:str}", server.page),
                Route("/samples/{number:int}", server.sample),
                Route("/api/about", server.about),
                Route("/api/visit", server.begin, methods=["POST"]),
                Route("/api/talk", server.talk),
                Route("/api/clip", server.clip, methods=["POST"]),
                Route("/api/sample", server.choose, methods=["POST"]),
                Route("/api/drop", server.drop, methods=["POST"]),
                Route("/api/say", server.say, methods=["POST"]),
                Route("/api/restart", server.restart, methods=["POST"]),
            ],
            exception_handlers={
                VisitError: refuse,
                DataError: refuse,
                OSError: refuse,
                ClientDisconnect: lambda request, error: Response(status_code=400),
            },
        )
    )


class _Server:
    """Answers requests about an exhibit."""

    def __init__(self, exhibit: Exhibit) -> None:
        self._exhibit = exhibit

    async def page(self, request: "Request") -> "Response":
        from starlette.responses import Response

        name = request.path_params.get("name", "talk.html")
        if name not in _FILES:
            return Response(status_code=404)
        return Response((Path(__file__).parent / name).read_bytes(), media_type=_FILES[name])

    def sample(self, request: "Request") -> "Response":
        from starlette.responses import Response

        return Response(self._exhibit.preview(request.path_params["number"]), media_type="video/mp4")

    async def about(self, request: "Request") -> "Response":
        return _json(self._exhibit.about())

    def begin(self, request: "Request") -> "Response":
        return _json({"visit": self._exhibit.visits.begin()})

    async def talk(self, request: "Request") -> "Response":
        return _json(self._exhibit.state(self._visit(request)))

    async def clip(self, request: "Request") -> "Response":
        visit, exhibit = self._visit(request), self._exhibit
        with visit.alone():
            path = await visit.keep_upload(request.stream(), exhibit.max_upload_bytes, exhibit.max_talk_bytes)
        return _events(exhibit.listen(visit, path))

    async def choose(self, request: "Request") -> "Response":
        said = await _said(request)
        return _events(self._exhibit.listen_to_sample(self._visit(request), said.get("sample")))

    async def drop(self, request: "Request") -> "Response":
        self._exhibit.drop(self._visit(request))
        return _json({})

    async def say(self, request: "Request") -> "Response":
        words = (await _said(request)).get("words")
        if not isinstance(words, str):
            raise VisitError(f"words: {words!r:.40}, want a text")
        return _events(self._exhibit.say(self._visit(request), words.strip()))

    def restart(self, request: "Request") -> "Response":
        visit = self._visit(request)
        self._exhibit.restart(visit)
        return _json(self._exhibit.state(visit))

    def _visit(self, request: "Request") -> Visit:
        return self._exhibit.visits.get(request.headers.get(VISIT_HEADER, ""))


async def _said(request: "Request") -> dict[str, Any]:
    """Read a small JSON object.

    Raises:
        VisitError: it is none, or not small.
    """
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_JSON_BYTES:
            raise VisitError(f"that is too long; want at most {_MOST_JSON_BYTES // 1024} KiB of words", 413)
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise VisitError("the request is no JSON object")
    return said


def _json(said: Any) -> "Response":
    from starlette.responses import JSONResponse

    return JSONResponse(said)


def _events(stream: Any) -> "Response":
    from starlette.responses import StreamingResponse

    return StreamingResponse(stream, media_type="text/event-stream")


__all__ = ["VISIT_HEADER", "make_app"]
