"""The samples of a report: chosen evenly, with media that play from disk, and nothing broken on the page."""

import base64
import io
import json
import re
from dataclasses import replace

import av
import pytest

from epo.data.dialogue import Clip, Turn
from epo.evaluation import sample_media
from epo.evaluation.evaluating import evaluate
from epo.evaluation.report import merge_report, render_html, write_report
from epo.evaluation.sample_media import placed_clips, with_sample_media

EVIL = "</pre><script>alert(1)</script>"
PLAYS = """
  Promise.all([...document.querySelectorAll("video, audio")].map((player) => new Promise((done) => {
    player.onerror = () => done(player.currentSrc.slice(0, 60) + ": " + player.error.message);
    player.onloadeddata = () => done([player.tagName, player.duration > 0.4, player.videoWidth > 0]);
    player.load();
    player.play().catch(() => 0);
  })))
"""
PICTURES = """
  Promise.all([...document.images].map((image) => image.decode().then(() => image.naturalWidth > 0, () => image.src)))
"""


def sources(page):
    return re.findall(r'(?:src|href)="([^"]*)"', page)


@pytest.fixture
def report(examples, tmp_path):
    """A report of six replies: to a clip, a short voice, a voice alone, a face alone, nothing, and a broken file."""
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    gold = [*examples[:5], replace(examples[5], current=Turn("user", EVIL, "sad", Clip(tmp_path / "broken.wav")))]
    found = evaluate([f"Reply {i} {EVIL}" for i in range(6)], gold, ["diversity"])
    return found | {"examples": with_sample_media(found["examples"], gold, tmp_path)}


def test_samples_are_taken_evenly_and_told_with_what_leads_to_them(examples):
    many = [replace(examples[i % 12], dialogue_id=f"d{i}", history=examples[1].history * 8) for i in range(45)]
    shown = evaluate([f"Reply {i}." for i in range(45)], many, ["diversity"])["examples"]
    assert [row["dialogue_id"] for row in shown] == [f"d{i * 45 // 20}" for i in range(20)]
    assert [row["replies"]["model"] for row in shown] == [f"Reply {i * 45 // 20}." for i in range(20)]
    assert (len(shown[0]["history"]), shown[0]["num_earlier_turns"]) == (20, 12) and shown[0]["prompt"] is None
    assert shown[0]["history"][-1] == {"speaker": "assistant", "emotion": None, "text": "That sounds tiring."}


def test_the_prompt_is_that_of_the_first_model(make_model, examples, tmp_path):
    model, processor = make_model()
    report = evaluate(model, examples[8:9], ["lengths"], processor=processor, cache_dir=tmp_path)
    (sample,) = report["examples"]
    runs = re.findall(r"<\|(\w+)\|> × (\d+)", sample["prompt"])
    counts = {name: int(number) for name, number in runs}
    assert counts["memory"] == report["rows"][0]["history_tokens"] and counts["video"] > 1
    assert "We spoke again, part 8." in sample["prompt"]


def test_every_clip_has_what_there_is_of_it(report, tmp_path):
    clips = [example["clip"] for example in report["examples"]]
    assert [clip and (clip["kind"], len(clip["frames"]), clip["waveform"] is not None) for clip in clips] == [
        ("video", 4, True), ("video", 4, True), ("audio", 0, True), ("video", 4, False), None, ("audio", 0, False)
    ]  # fmt: skip
    assert clips[5]["source"] == "" and len(clips[5]["faults"]) == 1 and "broken.wav" in clips[5]["faults"][0]
    addresses = [a for clip in clips if clip for a in (clip["source"], *(f["source"] for f in clip["frames"])) if a]
    files = {f"report_media/{path.name}" for path in (tmp_path / "report_media").iterdir()}
    assert set(addresses) == files and len(files) == 4 + 3 * 4
    assert sum((tmp_path / name).stat().st_size for name in files) < 100_000


def test_media_of_an_earlier_report_are_taken_away_and_nothing_else(report, examples, tmp_path):
    (tmp_path / "report_media" / "mine.txt").write_text("kept")
    (row,) = with_sample_media([{"dialogue_id": "d2", "turn": examples[2].turn}], examples, tmp_path)
    left = {path.name for path in (tmp_path / "report_media").iterdir()}
    assert left == {"00.mp4", "mine.txt"} and row["clip"]["source"] == "report_media/00.mp4"


def test_a_small_page_holds_its_media_itself(report, tmp_path):
    write_report(tmp_path, report)
    page = (tmp_path / "report.html").read_text()
    assert len(sources(page)) == 4 + 3 * 4 and all(source.startswith("data:") for source in sources(page))
    video = next(source for source in sources(page) if source.startswith("data:video/mp4"))
    with av.open(io.BytesIO(base64.b64decode(video.split(",")[1]))) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}
    assert "<script>" not in page and "base64" not in (tmp_path / "report.json").read_text()


def test_a_large_one_links_its_players_and_says_which_are_gone(report, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_media, "_MOST_EMBEDDED_BYTES", 10)
    write_report(tmp_path, report)
    page = (tmp_path / "report.html").read_text()
    linked = [source for source in sources(page) if not source.startswith("data:")]
    assert linked == [f"report_media/0{i}.mp4" for i in range(4)]
    (tmp_path / "report_media" / "01.mp4").unlink()
    merge_report(tmp_path, {"seconds": 1.0})
    page = (tmp_path / "report.html").read_text()
    assert "report_media/01.mp4 is not there" in page and 'src="report_media/01.mp4"' not in page
    assert len(json.loads((tmp_path / "report.json").read_text())["examples"][1]["clip"]["faults"]) == 0


@pytest.mark.parametrize(
    "address",
    ["../secret.mp4", "report_media/../secret.mp4", "/etc/passwd", "report_media/link.jpg", "report_media/11.mp4"],
)
def test_no_address_leads_out_of_the_folder(address, report, tmp_path):
    (tmp_path / "secret.mp4").write_text("secret")
    (tmp_path / "report_media" / "11.mp4").symlink_to(tmp_path / "secret.mp4")
    clip = report["examples"][0]["clip"] | {"source": address, "frames": [{"source": address, "time_s": 0.0}]}
    (placed,) = placed_clips([{"clip": clip}], tmp_path)
    assert placed["source"] == "" and placed["faults"] == [f"{address} is not there"]
    assert placed["frames"] == [{"source": "", "time_s": 0.0}]


def test_a_page_for_no_folder_shows_numbers_alone(report):
    page = render_html(report)
    assert sources(page) == [] and page.count('aria-label="waveform"') == 3 and "is not there" not in page


@pytest.mark.slow
@pytest.mark.parametrize("is_linked", [False, True])
def test_in_a_browser_everything_plays_and_nothing_is_cut_off(report, chromium, tmp_path, monkeypatch, is_linked):
    if is_linked:
        monkeypatch.setattr(sample_media, "_MOST_EMBEDDED_BYTES", 10)
    write_report(tmp_path, report)
    for width in (360, 1000, 1600):
        for is_dark in (False, True):
            page = chromium.page((tmp_path / "report.html").as_uri(), width, dark=is_dark)
            page.run('document.querySelectorAll("details").forEach((one) => one.open = true)')
            assert page.cut_off() == [] and page.errors() == []
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 31)"
    video, voice = ["VIDEO", True, True], ["AUDIO", True, False]
    assert page.run(PLAYS) == [video, video, voice, video]
    assert page.run(PICTURES) == [True] * 12
