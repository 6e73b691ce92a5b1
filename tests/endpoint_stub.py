"""A server on this machine that speaks the OpenAI wire format, and misbehaves when told to."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-very-secret"


class Stub(ThreadingHTTPServer):
    """Says `say(body)`, unless `misbehave(number of the request)` returns (status, headers, body) or "hang"."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.misbehave = lambda number: None
        self.say = rewrite
        self.requests = []
        self.lock = threading.Lock()
        self.busy = self.most_busy = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            number = len(self.server.requests)
            self.server.busy += 1
            self.server.most_busy = max(self.server.most_busy, self.server.busy)
        time.sleep(0.01)
        answer = self.server.misbehave(number)
        with self.server.lock:
            self.server.busy -= 1
        if answer == "hang":
            time.sleep(0.6)
        self.respond(*(good(self.server.say(body)) if answer in (None, "hang") else answer))

    def respond(self, status, headers, text):
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())
        except BrokenPipeError:
            pass  # the client lost patience, as it should

    def log_message(self, *args):
        pass


def rewrite(body):
    """Echo the reply to be rewritten, so that the answer depends on the question alone."""
    asked = body["messages"][-1]["content"]
    reply = asked.split("Line (")[1].split("): ", 1)[1].split("\n")[0]
    return f" GRR {reply} "


def good(text):
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextmanager
def serving():
    with Stub() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()
