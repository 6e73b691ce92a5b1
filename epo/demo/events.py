"""Server-sent events: what work tells while it is done, in the order it happens (WHATWG HTML, 9.2)."""

import json
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

Tell = Callable[[str, Any], None]
"""Takes the kind of an event and what it says, as JSON can hold it."""


def write_event(kind: str, said: Any) -> bytes:
    """Return an event as it goes over the wire; JSON is one line, whatever it holds."""
    return f"event: {kind}\ndata: {json.dumps(said)}\n\n".encode()


def stream_events(work: Callable[[Tell], None], explain: Callable[[BaseException], str]) -> Iterator[bytes]:
    """Do work in a thread of its own from now on, and return what it tells; it is done even where nobody listens.

    Args:
        work: tells of itself.
        explain: puts an error into one line, which is told as the event `error`.
    """
    told: SimpleQueue[bytes | None] = SimpleQueue()

    def do() -> None:
        try:
            work(lambda kind, said: told.put(write_event(kind, said)))
        except Exception as error:
            told.put(write_event("error", {"error": explain(error)}))
        finally:
            told.put(None)

    threading.Thread(target=do, daemon=True).start()
    return iter(told.get, None)


__all__ = ["Tell", "stream_events", "write_event"]
