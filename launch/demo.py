"""Talk to a model on a page in the browser, with camera and microphone: `launch/demo.py [--model FOLDER]`; `epo demo`.

The page is served to this machine alone. What is recorded goes into a temporary folder that is removed at the end.
"""

import argparse
import errno
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import stage
from launch.processes.ends import explain
from launch.recipe import RecipeError
from launch.talked_model import add_model_options, chosen, load_chosen, parse_talk

if TYPE_CHECKING:
    from epo.data.dialogue import Turn
    from epo.demo.exhibit import Exhibit

LOOPBACK = "127.0.0.1"
_GRACE_S = 3
"""How long requests may go on after the server was told to end."""


def run(argv: Sequence[str]) -> None:
    """Serve the page until Ctrl-C."""
    options = _parse(argv)
    from epo.extras import require_extra

    require_extra("the demo", "uvicorn")
    model, adapter = chosen(options.model, options.adapter)
    folder = Path(model if adapter is None else adapter)
    samples = _samples(options.dialogues, folder)
    with _bind(options.port) as listener:
        parts = load_chosen(options, "the page stands once its address is printed")
        is_over = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: is_over.set())
        with tempfile.TemporaryDirectory(prefix="epo-demo-") as uploads:
            _serve(_exhibit(options, str(folder), parts, samples, Path(uploads)), listener, is_over)


def _exhibit(
    options: argparse.Namespace,
    name: str,
    parts: tuple[Any, Any, dict[str, Any]],
    samples: "Sequence[Turn]",
    uploads: Path,
) -> "Exhibit":
    from epo.demo.exhibit import Exhibit
    from epo.demo.visits import Visits
    from epo.evaluation.live_talk import LiveTalk

    model, processor, settings = parts
    visits = Visits(lambda show: LiveTalk(model, processor, show, **settings), uploads, options.max_talks)
    max_bytes = round(options.max_upload_mib * 2**20)
    return Exhibit(name, visits, samples, explain, processor.clips.max_audio_seconds, max_bytes)


def _serve(exhibit: "Exhibit", listener: socket.socket, is_over: threading.Event) -> None:
    """Serve in a thread, where uvicorn leaves signals alone, so that replies break off before it waits for them."""
    import uvicorn

    from epo.demo.server import make_app

    config = uvicorn.Config(
        make_app(exhibit), loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=_GRACE_S,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    address = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    print(f"open {address} in a browser on this machine; Ctrl-C ends it", flush=True)
    while thread.is_alive() and not is_over.wait(1):
        pass
    exhibit.close()
    server.should_exit = True
    thread.join()


def _bind(port: int) -> socket.socket:
    """Return a socket of this machine alone.

    Raises:
        RecipeError: the port cannot be had.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen()  # so that a browser that is quick to come waits
    except OSError as error:
        listener.close()
        reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise RecipeError(f"--port {port} {reason}; name another one, or 0 for any that is free") from error
    return listener


def _samples(named: str | None, folder: Path) -> "list[Turn]":
    """Return clips to choose from: of the file that is named, else of the corpus beside the model, if there is one.

    Raises:
        DataError: the file is missing or at fault.
        RecipeError: it holds no user turn with a clip and an emotion.
    """
    beside = folder.resolve().parent / "corpus" / "dialogues.jsonl"
    if named is None and not beside.is_file():
        return []
    from epo.data.dialogue import read_dialogues
    from epo.demo.samples import choose_samples

    samples = choose_samples(read_dialogues(beside if named is None else named))
    if named is not None and not samples:
        raise RecipeError(f"--dialogues {named}: no user turn has a clip and an emotion; name another file, or none")
    return samples


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "demo", description="Talk to a model on a page that is served to this machine alone.", allow_abbrev=False
    )
    add_model_options(parser)
    parser.add_argument("--dialogues", help="dialogues.jsonl with clips to choose from; none: those beside the model")
    parser.add_argument("--port", type=int, default=8642, help="of 127.0.0.1; 0 takes any that is free")
    parser.add_argument("--max_upload_mib", type=float, default=32.0, help="largest recording")
    parser.add_argument("--max_talks", type=int, default=8, help="browser sessions that are remembered")
    options = parse_talk(parser, argv)
    if not 0 <= options.port <= 65535:
        raise RecipeError(f"--port is {options.port}, want 0 to 65535")
    if not 0 < options.max_upload_mib <= 1024:
        raise RecipeError(f"--max_upload_mib is {options.max_upload_mib:g}, want more than 0 and at most 1024")
    if options.max_talks < 1:
        raise RecipeError(f"--max_talks is {options.max_talks}, want 1 or more")
    return options


if __name__ == "__main__":
    stage.main(lambda: run(sys.argv[1:]), is_stage=False)
