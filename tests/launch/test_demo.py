"""launch/demo.py: a served page from start to Ctrl-C, what is left behind, and settings that make no sense."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from launch import demo
from epo.data.findings import DataError
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]


LONG = ("--max_new_tokens", "300")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_page_is_served_to_this_machine_and_leaves_nothing_behind(make_model, corpus, tmp_path, number):
    model, processor = make_model()
    model.config.low_rank = None
    for part in (model, processor):
        part.save_pretrained(tmp_path / "run" / "model")
    (tmp_path / "run" / "corpus").symlink_to(corpus)
    held = tmp_path / "held"
    held.mkdir()
    process = subprocess.Popen(
        [sys.executable, ROOT / "launch" / "demo.py", "--model", "run/model", "--port", "0", *LONG], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(held)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = None
        while address is None:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            address = re.search(r"open http://127\.0\.0\.1:(\d+) in a browser", line)
        port = int(address[1])
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
        for other in {"127.0.0.2", *others}:
            with pytest.raises(OSError):
                socket.create_connection((other, port), timeout=5).close()

        def ask(method, path, body=None, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(method, path, body, {"Origin": f"http://127.0.0.1:{port}"} | headers)
            return connection.getresponse().read()

        assert b"<title>Talk to it</title>" in ask("GET", "/")
        about = json.loads(ask("GET", "/api/about"))
        assert about["model"] == "run/model" and len(about["samples"]) > 4  # of the corpus beside it
        visit = {"X-Visit": json.loads(ask("POST", "/api/visit"))["visit"]}
        assert b"event: perceived" in ask("POST", "/api/clip", (corpus / "0.wav").read_bytes(), **visit)
        assert b"event: memory" in ask("POST", "/api/say", json.dumps({"words": "Hello."}), **visit)
        assert len(list(held.glob("epo-demo-*/*/*"))) == 1
        speaking = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        sent = {"Origin": f"http://127.0.0.1:{port}"} | visit
        speaking.request("POST", "/api/say", json.dumps({"words": "And then?"}), sent)
        assert speaking.getresponse().read(6) == b"event:"
        process.send_signal(number)  # while it is answering
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and not re.search("Traceback|terminate|Cancel", output + errors), errors
    assert list(held.glob("epo-demo-*")) == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--port", "70000"], "--port is 70000, want 0 to 65535"),
        (["--max_upload_mib", "0"], "--max_upload_mib is 0, want more than 0 and at most 1024"),
        (["--max_upload_mib", "nan"], "--max_upload_mib is nan, want more than 0"),
        (["--max_talks", "0"], "--max_talks is 0, want 1 or more"),
        (["--max_new_tokens", "0"], "max_new_tokens is 0, want 1"),
        ([], "name a model: --model FOLDER"),
    ],
)
def test_settings_that_make_no_sense(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=message):
        demo.run(argv)


def test_a_port_that_is_taken_and_dialogues_that_do_not_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(RecipeError, match=f"--port {port} is taken; name another one, or 0"):
            demo.run(["--model", "model", "--port", str(port)])
    with pytest.raises(DataError, match="gone.jsonl: no such file"):
        demo.run(["--model", "model", "--dialogues", "gone.jsonl"])
    line = {"id": "a", "turns": [{"speaker": "user", "text": "Hi."}, {"speaker": "assistant", "text": "Hello."}]}
    (tmp_path / "plain.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(RecipeError, match="--dialogues plain.jsonl: no user turn has a clip and an emotion"):
        demo.run(["--model", "model", "--dialogues", "plain.jsonl"])
