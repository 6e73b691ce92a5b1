"""A tiny model that is served on a free port of this machine, by the real server."""

import http.client
import json
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Served:
    """The server of an exhibit, asked as its own page asks."""

    exhibit: Any
    port: int
    folder: Path

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, visit=None, **headers):
        """Return the status, the headers and the body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Origin": self.origin} | ({} if visit is None else {"X-Visit": visit})
        sent |= {name.replace("_", "-"): text for name, text in headers.items()}
        body = json.dumps(body) if isinstance(body, dict) else body
        connection.request(method, path, body, {name: text for name, text in sent.items() if text is not None})
        answer = connection.getresponse()
        said = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return said

    def told(self, method, path, body=None, visit=None, **headers):
        """Return the status and what was said, as JSON, or the events as (kind, what)."""
        status, got, text = self.ask(method, path, body, visit, **headers)
        if not got["content-type"].startswith("text/event-stream"):
            return status, json.loads(text)
        lines = [event.split("\n") for event in text.decode().split("\n\n")[:-1]]
        return status, [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in lines]

    def begin(self):
        """Begin a visit and return its secret."""
        status, said = self.told("POST", "/api/visit")
        assert status == 200
        return said["visit"]


@pytest.fixture
def serve(make_model, tmp_path):
    """Serve a tiny model; keyword arguments change the exhibit or, as `most`, how many visits there may be."""
    import uvicorn

    from epo.demo.exhibit import Exhibit
    from epo.demo.server import make_app
    from epo.demo.visits import Visits
    from epo.evaluation.live_talk import LiveTalk
    from launch.processes.ends import explain

    begun = []

    def start(most=3, samples=(), max_upload_bytes=2**20, model_and_processor=None, **settings):
        model, processor = make_model() if model_and_processor is None else model_and_processor
        folder = tmp_path / "uploads"
        folder.mkdir()
        words = {"max_new_tokens": 6} | settings
        visits = Visits(lambda show: LiveTalk(model, processor, show, **words), folder, most)
        exhibit = Exhibit("a tiny model", visits, samples, explain, processor.clips.max_audio_seconds, max_upload_bytes)
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(make_app(exhibit), lifespan="off", log_config=None, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        begun.append((server, thread))
        return Served(exhibit, listener.getsockname()[1], folder)

    yield start
    for server, thread in begun:
        server.should_exit = True
        thread.join(timeout=20)
