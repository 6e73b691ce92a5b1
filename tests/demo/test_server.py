"""The demo's server, asked over a real connection: a whole talk, refusals in one line, bounds, and what is kept."""

import json
import threading

import pytest

from epo.demo.samples import choose_samples
from epo.emotions import EMOTIONS


def kinds(events):
    return [kind for kind, _ in events]


def test_a_talk_with_an_upload(serve, corpus):
    """A clip is perceived whole and in part, words are answered in pieces, and the memory grows; then all is anew."""
    served = serve()
    visit = served.begin()
    status, events = served.told("POST", "/api/clip", (corpus / "0.wav").read_bytes(), visit)
    assert (status, kinds(events)) == (200, ["perceived"] + ["moment"] * 4)  # one second, a quarter each
    perceived = events[0][1]
    assert (perceived["sense"], perceived["notes"]) == ("heard", []) and perceived["seconds"] == pytest.approx(1)
    assert set(perceived["shares"]) == {"fused", "audio"} and len(perceived["shares"]["fused"]) == len(EMOTIONS)
    assert [moment["seconds"] for _, moment in events[1:]] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert events[-1][1]["shares"] == perceived["shares"]

    status, events = served.told("POST", "/api/say", {"words": " Hello there. "}, visit)
    assert status == 200 and set(kinds(events[:-2])) == {"piece"} and kinds(events[-2:]) == ["reply", "memory"]
    (size,) = events[-1][1]
    assert size == {"turns": 2, "vectors": 4, "num_bytes": 4 * 32 * 4, "text_tokens": size["text_tokens"]}
    status, events = served.told("POST", "/api/say", {"words": "Again."}, visit)
    assert [size["vectors"] for size in events[-1][1]] == [4, 8]

    status, state = served.told("GET", "/api/talk", visit=visit)
    assert [(turn["speaker"], turn["clip"]) for turn in state["turns"]] == [
        ("user", True), ("assistant", False), ("user", False), ("assistant", False)
    ]  # fmt: skip
    assert state["turns"][0]["text"] == "Hello there." and len(state["memory"]) == 2
    assert len(list(served.folder.glob("*/*"))) == 1
    assert served.told("POST", "/api/restart", visit=visit) == (200, {"turns": [], "memory": []})
    assert list(served.folder.glob("*/*")) == []


def test_replies_are_those_of_a_conversation_and_talks_do_not_hear_of_each_other(serve, make_model, corpus):
    from epo.data.dialogue import Clip, Turn
    from epo.evaluation.conversation import Conversation

    model, processor = make_model()
    served = serve(model_and_processor=(model, processor))
    visits = served.begin(), served.begin()
    plain = [Conversation(model, processor, max_new_tokens=6) for _ in visits]
    path = corpus / "0.mp4"
    for number, words in ((0, "Hello there."), (1, "Who are you?"), (0, "And then?"), (1, "Why?")):
        clip = Clip(video=path) if words == "And then?" else None
        if clip is not None:
            assert served.told("POST", "/api/clip", path.read_bytes(), visits[number])[0] == 200
        _, events = served.told("POST", "/api/say", {"words": words}, visits[number])
        expected = plain[number].say(Turn("user", words, clip=clip))
        assert events[-2] == ("reply", {"text": expected.text, "emotion": expected.emotion})


def test_a_sample_is_perceived_and_played(serve, dialogues):
    samples = choose_samples(dialogues)
    served = serve(samples=samples)
    visit = served.begin()
    _, about = served.told("GET", "/api/about")
    assert [sample["words"] for sample in about["samples"]] == [turn.text for turn in samples]
    assert about["max_seconds"] == 4 and about["emotions"] == list(EMOTIONS)
    _, events = served.told("POST", "/api/sample", {"sample": 0}, visit)
    assert events[0][0] == "perceived"
    assert served.told("POST", "/api/drop", visit=visit) == (200, {})
    status, headers, body = served.ask("GET", "/samples/0")
    assert (status, headers["content-type"]) == (200, "video/mp4") and body[4:8] == b"ftyp"
    for number in (len(samples), -1, "0", True, None, "../../etc/passwd"):
        status, said = served.told("POST", "/api/sample", {"sample": number}, visit)
        assert status == 404 and f"there are {len(samples)}" in said["error"]
    assert served.ask("GET", f"/samples/{len(samples)}")[0] == 404


def test_mistakes_are_one_line_and_cost_nothing(serve, corpus):
    served = serve(max_upload_bytes=100_000)
    visit = served.begin()
    cut = (corpus / "0.mp4").read_bytes()[:500]
    for body, line in (
        (b"no clip at all", "the recording: is no media file"),
        (cut, "the recording: "),
        (b"#EXTM3U\nfile:///etc/passwd\n", "the recording: "),
    ):
        status, events = served.told("POST", "/api/clip", body, visit)
        assert status == 200 and kinds(events) == ["error"]
        assert events[0][1]["error"].startswith(line) and "\n" not in events[0][1]["error"]
        assert str(served.folder) not in events[0][1]["error"]
    for path, body, status, line in (
        ("/api/clip", b"", 400, "the recording is empty"),
        ("/api/clip", b"0" * 100_001, 413, "larger than 0.0953674 MiB; take a shorter one"),
        ("/api/say", {"words": ""}, 400, "nothing is said"),
        ("/api/say", {"words": 3}, 400, "words: 3, want a text"),
        ("/api/say", {}, 400, "words: None, want a text"),
        ("/api/say", b"[]", 400, "no JSON object"),
        ("/api/say", b"\xff{", 400, "no JSON object"),
        ("/api/say", {"words": "x" * 70_000}, 413, "too long; want at most 64 KiB"),
    ):
        got, said = served.told("POST", path, body, visit)
        assert got == status and line in said["error"], (path, said)
    for words, line in (("<|memory|>", "<|memory|>"), ("word " * 5_000, "more than max_prompt_tokens")):
        _, events = served.told("POST", "/api/say", {"words": words}, visit)
        assert kinds(events) == ["error"] and line in events[0][1]["error"]
    assert list(served.folder.glob("*/*")) == []
    _, events = served.told("POST", "/api/say", {"words": "Hello."}, visit)
    assert events[-1][1][0]["turns"] == 2


def test_a_long_recording_is_read_in_part_and_says_so(serve, tmp_path):
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "long.wav", np.zeros(16000 * 6), 16000)
    served = serve()
    _, events = served.told("POST", "/api/clip", (tmp_path / "long.wav").read_bytes(), served.begin())
    assert events[0][1]["seconds"] == pytest.approx(4) and len(events) == 9
    assert events[0][1]["notes"] == [
        "lasts 6.0 s, of which the first 4 s are used", "the sound is silent (-120 dBFS)"
    ]  # fmt: skip


def test_other_hosts_pages_and_secrets_are_refused(serve):
    served = serve()
    visit = served.begin()
    for headers in (
        {"Host": "evil.example"}, {"Host": f"localhost:{served.port}"}, {"Origin": "http://evil.example"},
        {"Origin": None}, {"Sec_Fetch_Site": "cross-site"},
    ):  # fmt: skip
        status, said = served.told("POST", "/api/say", {"words": "Hello."}, visit, **headers)
        assert status == 403 and set(said) == {"error"}, headers
    for secret in (None, "", "guess"):
        assert served.told("GET", "/api/talk", visit=secret)[0] == 410
    status, headers, body = served.ask("GET", "/", Origin=None)
    assert status == 200 and b"<!doctype html>" in body and visit.encode() not in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"
    for path in ("/server.py", "/..%2fserver.py", "/%2e%2e/exhibit.py", "/docs", "/samples/../talk.js", "/samples/x"):
        assert served.ask("GET", path)[0] == 404, path
    assert served.ask("GET", "/api/say")[0] == 405


def test_only_so_many_talks_are_kept_and_so_much_of_each(serve, corpus):
    served = serve(most=2, max_upload_bytes=2**15)
    first, second = served.begin(), served.begin()
    sound = (corpus / "0.wav").read_bytes()
    assert 2**14 < len(sound) < 2**15
    statuses = [served.told("POST", "/api/clip", sound, second)[0] for _ in range(9)]
    assert statuses == [200] * 8 + [413]  # eight of the largest size
    assert served.told("GET", "/api/talk", visit=first)[0] == 200  # so the second was quiet for longer
    third = served.begin()
    assert served.told("GET", "/api/talk", visit=second)[0] == 410
    assert [served.told("GET", "/api/talk", visit=visit)[0] for visit in (first, third)] == [200, 200]
    assert len(served.exhibit.visits) == 2 and len(list(served.folder.iterdir())) == 2
    assert list(served.folder.glob("*/*")) == []


def test_one_thing_at_a_time(serve):
    """While a reply is written, its visit takes nothing else and is not given up; another one waits for the model."""
    served = serve(most=1)
    key = served.begin()
    visit = served.exhibit.visits.get(key)
    with visit.alone():
        for path, body in (("/api/say", {"words": "Hello."}), ("/api/restart", None), ("/api/clip", b"x")):
            status, said = served.told("POST", path, body, key)
            assert (status, said["error"]) == (409, "one thing at a time: wait for the answer")
        assert served.told("POST", "/api/visit")[0] == 503
    answers = []
    ask = threading.Thread(target=lambda: answers.append(served.told("POST", "/api/say", {"words": "Hello."}, key)))
    with served.exhibit._model:
        ask.start()
        ask.join(timeout=0.5)
        assert ask.is_alive()
    ask.join(timeout=60)
    assert kinds(answers[0][1])[-1] == "memory"


def test_a_fault_of_ours_is_one_line_too_and_the_talk_goes_on(serve, monkeypatch, capsys):
    served = serve()
    visit = served.begin()
    with monkeypatch.context() as patch:
        patch.setattr(type(served.exhibit.visits.get(visit).talk), "say", lambda *_: 1 / 0)
        _, events = served.told("POST", "/api/say", {"words": "Hello."}, visit)
    assert events == [("error", {"error": "something went wrong (ZeroDivisionError); the terminal says more"})]
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert kinds(served.told("POST", "/api/say", {"words": "Hello."}, visit)[1])[-1] == "memory"


def test_a_closed_exhibit_breaks_off_its_reply_and_begins_no_other(serve):
    served = serve(max_new_tokens=100_000)
    key = served.begin()
    answers = []
    ask = threading.Thread(target=lambda: answers.append(served.told("POST", "/api/say", {"words": "Hello."}, key)))
    ask.start()
    while not served.exhibit._model.locked():
        ask.join(timeout=0.05)
    served.exhibit.close()
    ask.join(timeout=60)
    ended = ("error", {"error": "the demo was ended"})
    assert answers[0][1][-1] == ended
    assert served.told("POST", "/api/say", {"words": "Hello."}, key) == (200, [ended])
    assert served.told("GET", "/api/talk", visit=key)[1]["turns"] == []


def test_events_hold_any_text():
    from epo.demo.events import write_event

    said = "line\n\nevent: error\r\n \u2028 你好"
    kind, data, *rest = write_event("piece", said).decode().split("\n")
    assert kind == "event: piece" and rest == ["", ""] and json.loads(data.removeprefix("data: ")) == said
