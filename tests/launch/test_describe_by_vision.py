"""`data describe-faces --source vision`: clips of the built-in corpus described by a server on this machine."""

import base64
import contextlib
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from endpoint_stub import KEY
from PIL import Image

from epo.asking.endpoint import EndpointError
from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.decoding.limits import MediaLimits
from epo.data.decoding.video import decode_video
from epo.data.describers.vision import VisionOptions
from epo.data.descriptions import with_descriptions
from epo.data.dialogue import DataError, read_dialogues
from launch.data_verbs import describing_faces, showing
from launch.processes.ends import is_user_error

SMALL = BuiltinCorpus(
    num_train=2, num_train_with_clips=1, num_validation=1, num_test=0, num_train_speakers=1, num_validation_speakers=1
)
SAID = "The brows rise and the lips part."


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_builtin_corpus(tmp_path_factory.mktemp("drawn"), SMALL, workers=1, progress=False)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch, stub):
    """Work in an empty folder, track nothing, and let the server describe."""
    monkeypatch.chdir(tmp_path)
    stub.say = lambda body: SAID

    @contextlib.contextmanager
    def record(*args):
        yield SimpleNamespace(log_metrics=lambda values: None, log_artifact=lambda path: None)

    monkeypatch.setattr(describing_faces, "open_run", record)


def describe(data, stub, *more, out="out"):
    flags = {"llm_base_url": stub.url, "llm_model": "eyes-7b", "llm_key_variable": "TEST_KEY", "llm_tries": "2"}
    argv = [word for name, value in (flags | {"llm_first_pause_s": "0.001"}).items() for word in (f"--{name}", value)]
    describing_faces.run(["--data", str(data), "--out", out, "--source", "vision", *argv, *more])


def clips_of(data):
    return [t.clip for d in read_dialogues(data) for t in d.turns if t.clip is not None and t.clip.video is not None]


def lines_of(name, out="out"):
    return [json.loads(line) for line in Path(out, name).read_text().splitlines()]


def pictures_in(body):
    text, *shown = body["messages"][-1]["content"]
    assert text["type"] == "text" and {part["type"] for part in shown} == {"image_url"}
    urls = [part["image_url"]["url"] for part in shown]
    assert all(url.startswith("data:image/jpeg;base64,") for url in urls)
    return text["text"], [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def test_each_clip_is_asked_about_once_and_its_sentence_says_where_it_comes_from(drawn, stub, capsys):
    clips = clips_of(drawn)
    describe(drawn, stub, "--num_frames", "4")
    assert len(stub.requests) == len(clips) >= 4
    path, headers, body = stub.requests[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"]) == ("eyes-7b", 0.0)
    lines = lines_of("descriptions.jsonl")
    assert len(lines) == len(clips) and {line["description"] for line in lines} == {SAID}
    line = lines[0]
    assert (line["source"], line["model"], line["prompt"]) == ("vision", "eyes-7b", "face-1")
    at_8_hz = MediaLimits(video_fps=8, max_frames=1000, max_side_px=64)  # as the corpus is drawn
    length_s = len(decode_video(clips[0].video, 0.0, None, at_8_hz)) / 8
    assert line["frames_s"] == pytest.approx([i * length_s / 4 for i in range(4)], abs=1e-3) and length_s > 1
    shown = [pictures_in(body) for _, _, body in stub.requests]
    times = ", ".join(f"{time_s:.2f}" for time_s in line["frames_s"])
    (pictures,) = [pictures for text, pictures in shown if times in text][:1]
    frames = decode_video(clips[0].video, 0.0, None, MediaLimits(video_fps=25, max_frames=4, max_side_px=512))
    assert len(pictures) == 4 and pictures[0].size == (frames.shape[2], frames.shape[1])
    left = {(line["dialogue_id"], line["turn"]): line for line in lines_of("left_out.jsonl")}
    assert all(line["reason"] == "clip without a picture" for line in left.values())
    described = with_descriptions(list(read_dialogues(drawn)), "out/descriptions.jsonl")
    assert sum(t.description == SAID for d in described for t in d.turns) == len(clips)
    showing.run([str(drawn), line["dialogue_id"], "--descriptions", "out/descriptions.jsonl", "--html", "page.html"])
    page = Path("page.html").read_text()
    assert f"Described: {SAID} (vision, eyes-7b, prompt face-1, frames at {times} s)" in page
    files = [path for path in Path("out").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()] and KEY not in capsys.readouterr().out


def test_an_answer_is_kept_by_the_clips_content_the_question_and_the_model(drawn, stub, tmp_path):
    describe(drawn, stub)
    num = len(stub.requests)
    moved = shutil.copytree(drawn.parent, tmp_path / "moved") / drawn.name  # the same clips under other names
    describe(moved, stub)
    assert len(stub.requests) == num
    describe(moved, stub, "--num_frames", "3")
    assert len(stub.requests) == 2 * num
    describe(moved, stub, "--llm_model", "other")
    assert len(stub.requests) == 3 * num
    clip = clips_of(moved)[0].video
    clip.write_bytes(clips_of(moved)[1].video.read_bytes())  # another clip's picture, which was asked about already
    describe(moved, stub)
    assert len(stub.requests) == 3 * num and len(lines_of("descriptions.jsonl")) == num


def test_an_endpoint_that_goes_down_half_way_keeps_what_was_answered(drawn, stub):
    num = len(clips_of(drawn))
    stub.misbehave = lambda number: (503, {}, "down") if number > 2 else None
    with pytest.raises(EndpointError, match="503 after 2 tries: down; answers so far are kept, run the same") as caught:
        describe(drawn, stub, "--llm_concurrency", "1")
    assert is_user_error(caught.value) and "\n" not in str(caught.value)
    assert not Path("out/descriptions.jsonl").exists() and len(lines_of("vision_cache.jsonl")) == 2
    stub.misbehave, before = lambda number: None, len(stub.requests)
    describe(drawn, stub, "--llm_concurrency", "1")
    assert len(stub.requests) - before == num - 2 and len(lines_of("descriptions.jsonl")) == num
    describe(drawn, stub, "--llm_concurrency", "1")  # done: nothing is asked, nothing is written
    assert len(stub.requests) - before == num - 2


def test_no_more_is_asked_than_may_be(drawn, stub):
    with pytest.raises(EndpointError, match="llm_max_requests is 2; nothing of them was sent"):
        describe(drawn, stub, "--llm_max_requests", "2")
    assert stub.requests == []


def test_what_is_no_description_is_counted_named_and_not_kept(drawn, stub, capsys):
    answers = iter(["The lips curve into a happy smile.", "I cannot help with that.", "NO FACE"])
    stub.say = lambda body: next(answers, SAID)
    describe(drawn, stub, "--llm_concurrency", "1")
    printed = capsys.readouterr().out
    assert "left out: 1 x sentence that names an emotion" in printed and "'happy' in 'The lips" in printed
    assert "left out: 1 x refusal" in printed and "left out: 1 x clip without a face" in printed
    assert len(lines_of("descriptions.jsonl")) == len(clips_of(drawn)) - 3
    left = [line for line in lines_of("left_out.jsonl") if line["reason"] != "clip without a picture"]
    assert len(left) == 3 and all(repr(line["dialogue_id"]) in line["place"] for line in left)


def test_clips_that_cannot_be_shown_are_not_asked_about(drawn, stub, tmp_path, capsys):
    data = shutil.copytree(drawn.parent, tmp_path / "damaged") / drawn.name
    first, second, *others = clips_of(data)
    first.video.write_bytes(b"")
    second.video.write_bytes(second.video.read_bytes()[:400])
    describe(data, stub)
    assert f"left out: 2 x clip whose picture cannot be decoded ({first.video}" in capsys.readouterr().out
    assert len(stub.requests) == len(others)


def test_a_detector_that_finds_no_face_saves_the_question(drawn, stub):
    pytest.importorskip("cv2")
    with pytest.raises(DataError, match="no clip could be described by source vision"):
        describe(drawn, stub, "--face_detector", "haarcascade_russian_plate_number")  # there is none
    assert stub.requests == []
    assert {line["reason"] for line in lines_of("left_out.jsonl")} >= {"clip without a face"}


def test_answers_with_nothing_in_them_are_asked_for_thrice_and_counted(drawn, stub, capsys):
    stub.misbehave = lambda number: (200, {}, "{}") if number <= 3 else None
    describe(drawn, stub, "--llm_concurrency", "1")
    assert "left out: 1 x clip without a usable answer" in capsys.readouterr().out
    num = len(clips_of(drawn))
    assert len(stub.requests) == num + 2
    describe(drawn, stub, "--llm_concurrency", "1", "--fresh", "true")
    assert len(stub.requests) == num + 3 and len(lines_of("descriptions.jsonl")) == num


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "source vision wants llm_base_url, such as .*, and llm_model"),
        ({"llm_base_url": "https://x/v1"}, "source vision wants llm_base_url"),
        ({"llm_base_url": "x:1", "llm_model": "m"}, "llm_base_url is 'x:1', want such as"),
        (
            {"llm_base_url": "http://example.org/v1", "llm_model": "m", "llm_key_variable": "TEST_KEY"},
            "would carry the key in TEST_KEY unencrypted to another machine; use https",
        ),
        ({"llm_base_url": "https://x/v1", "llm_model": "m", "num_frames": 1}, "num_frames is 1, want 2 or more"),
        ({"llm_base_url": "https://x/v1", "llm_model": "m", "frame_side_px": 8}, "frame_side_px is 8, want 16 or more"),
        ({"llm_base_url": "https://x/v1", "llm_model": "m", "llm_tries": 0}, "llm_tries is 0, want 1 or more"),
        ({"llm_base_url": "https://x/v1", "llm_model": "m", "llm_timeout_s": 0.0}, "llm_timeout_s is 0.0, want more"),
        ({"llm_base_url": "https://x/v1", "llm_model": "m", "llm_temperature": -1.0}, "llm_temperature is -1.0, want"),
    ],
)
def test_options_that_cannot_be_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        VisionOptions(**keys)
