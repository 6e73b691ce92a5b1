"""Pages about data: waveforms by hand, previews that play, an index that links what is there, nothing unescaped."""

import base64
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
import soundfile

from epo.data.checking import LIMITS, check_file
from epo.data.dialogue import Clip, Dialogue, Turn, read_dialogues
from epo.data.examination_pool import ExaminationRecord
from epo.data.media import Media
from epo.data.pages.clip_view import embed, view_clip
from epo.data.pages.corpus_page import write_corpus_page
from epo.data.pages.preview import encode_preview, is_playable
from epo.data.pages.showing import format_dialogue, write_page
from epo.data.pages.waveform import HEIGHT, WIDTH, draw_waveform


def numbers(path: str) -> np.ndarray:
    return np.array([[float(n) for n in point.split()] for point in path.strip("MZ").split("L")])


def test_a_waveform_fills_its_height_whatever_its_loudness():
    tone = np.sin(np.arange(16000) / 7).astype(np.float32)
    loud, faint = draw_waveform(0.5 * tone, 16000), draw_waveform(0.005 * tone, 16000)
    assert loud.path == faint.path
    assert loud.full_scale == pytest.approx(0.5, abs=1e-3) and loud.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert loud.rms_dbfs == pytest.approx(-9.03, abs=0.01) and faint.rms_dbfs == pytest.approx(-49.03, abs=0.01)
    ys = numbers(loud.path)[:, 1]
    assert ys.min() == pytest.approx(-0.5, abs=0.11) and ys.max() == pytest.approx(HEIGHT + 0.5, abs=0.11)


def test_a_waveform_stands_where_its_sound_does():
    samples = np.zeros(1200, np.float32)
    samples[600:1200] = 0.25
    points = numbers(draw_waveform(samples, 600, start_s=3.0).path)[:WIDTH]
    assert (points[: WIDTH // 2, 1] == HEIGHT / 2 - 0.5).all() and (points[WIDTH // 2 :, 1] == -0.5).all()


@pytest.mark.parametrize(
    ("start_s", "seconds", "first", "last", "count"),
    [
        (0.0, 1.0, (0.0, "0"), (WIDTH, "1"), 11),
        (2.95, 2.0, (15.0, "3"), (555.0, "4.8"), 10),
        (0, 0.01, (0, "0"), (WIDTH, "0.01"), 11),
    ],
)
def test_time_marks_are_round_and_count_from_the_file_s_beginning(start_s, seconds, first, last, count):
    marks = draw_waveform(np.ones(int(seconds * 8000), np.float32), 8000, start_s).marks
    assert len(marks) == count
    for (place, words), (due, text) in ((marks[0], first), (marks[-1], last)):
        assert place == pytest.approx(due, abs=0.01) and words == text


def test_silence_and_one_sample_can_be_drawn():
    silent = draw_waveform(np.zeros(100, np.float32), 100)
    assert silent.full_scale == 1.0 and silent.rms_dbfs == -120 and len(numbers(silent.path)) == 200
    assert len(numbers(draw_waveform(np.ones(1, np.float32), 100).path)) == 2


@pytest.mark.parametrize("shape", [(13, 17), (1, 1), (240, 135)])
def test_a_preview_holds_sound_and_pictures_of_any_size(shape):
    frames = np.zeros((24, *shape, 3), np.uint8)
    frames[12:] = 200
    media = Media(0.3 * np.sin(np.arange(32000) / 9).astype(np.float32), frames)
    with av.open(io.BytesIO(encode_preview(media, 16000, 12))) as container:
        video = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
        assert container.streams.video[0].codec_context.name == "h264"
    assert len(video) == 24 and max(video[:12]) < 40 and min(video[12:]) > 160
    with av.open(io.BytesIO(encode_preview(Media(media.waveform, None), 16000, 12))) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) / 16000 == pytest.approx(2.0, abs=0.15) and np.abs(sound[4000:28000]).max() == pytest.approx(
        0.3, abs=0.05
    )


def test_only_what_all_browsers_play_is_linked(corpus, tmp_path):
    assert is_playable(corpus / "0.wav") and is_playable(corpus / "0.mp4")
    with av.open(corpus / "0.mp4") as source, av.open(tmp_path / "a.avi", "w") as target:
        stream = target.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode(None))
    assert not is_playable(tmp_path / "a.avi") and not is_playable(tmp_path / "gone.wav")
    with av.open(tmp_path / "deep.mp4", "w") as target:
        stream = target.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p10le"
        target.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p10le")))
        target.mux(stream.encode(None))
    assert not is_playable(tmp_path / "deep.mp4")


def test_frames_carry_their_times_and_a_fault_of_one_half_leaves_the_other(corpus, tmp_path):
    view = view_clip(Clip(corpus / "0.wav", corpus / "0.mp4", start_s=0.25), embed)
    assert [frame.time_s for frame in view.frames] == pytest.approx([0.25 + i / 12 for i in (0, 2, 3, 5, 6, 8)])
    assert (
        view.kind == "video" and view.source.startswith("data:video/mp4;base64,") and view.files == ("0.wav", "0.mp4")
    )
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    half = view_clip(Clip(tmp_path / "broken.wav", corpus / "0.mp4"), embed)
    assert len(half.faults) == 1 and half.waveform is None and half.frames and half.kind == "video"
    none = view_clip(Clip(tmp_path / "broken.wav"), embed)
    assert none.source == "" and len(none.faults) == 1


def test_one_dialogue_is_a_page_that_needs_no_other_and_plays(corpus, tmp_path):
    dialogue = next(read_dialogues(corpus / "dialogues.jsonl"))
    write_page(dialogue, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith("data:") for source in sources)
    data = next(source for source in sources if source.startswith("data:video/mp4"))
    with av.open(io.BytesIO(base64.b64decode(data.split(",")[1]))) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}


def test_machine_labels_are_told_apart():
    dialogue = Dialogue("a", (Turn("user", "Hi.", "sad", labelled_by="some-model"),))
    assert "emotion by some-model" in format_dialogue(dialogue)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """Pages of a corpus with a silent, a faint, a broken and an AVI clip, hostile words, and blanks in names."""
    folder = tmp_path_factory.mktemp("corpus with blanks")
    (folder / "media").mkdir()
    tone = np.sin(np.arange(16000) / 5)
    for name, gain in (("loud", 0.5), ("faint", 0.001), ("silent", 0.0), ("a b#1%", 0.2)):
        soundfile.write(folder / "media" / f"{name}.wav", gain * tone, 16000, subtype="FLOAT")
    (folder / "media" / "broken.wav").write_bytes(b"RIFF nothing")
    with av.open(folder / "media" / "old.avi", "w") as target:
        stream = target.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for step in range(8):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * step, np.uint8), format="rgb24")
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))
    clips = {
        "loud": {"audio": "media/loud.wav", "start_s": 0.25, "end_s": 0.75},
        "faint": {"audio": "media/faint.wav"},
        "silent": {"audio": "media/silent.wav"},
        "named": {"audio": "media/a b#1%.wav"},
        "broken": {"audio": "media/broken.wav"},
        "old": {"video": "media/old.avi"},
        "none": None,
    }
    evil = "</script><img src=x onerror=alert(1)>\u2028"
    with (folder / "dialogues.jsonl").open("w") as file:
        for place, (name, clip) in enumerate(clips.items()):
            turn = {"speaker": "user", "text": f"{evil} word{place}", "emotion": "sad", "name": "Ann"} | {"clip": clip}
            answer = {"speaker": "assistant", "text": "Oh.", "emotion": "happy" if place % 2 else "sad"}
            row = {"id": f"{name} {evil}", "split": "test" if place == 6 else "train", "turns": [turn, answer]}
            file.write(json.dumps(row) + "\n")
    check_file(folder, 1)
    out = folder / "pages"
    write_corpus_page(
        read_dialogues(folder / "dialogues.jsonl"), folder, out, ExaminationRecord(folder.resolve(), LIMITS), 6, 1
    )
    return out


def rows_of(pages: Path) -> list[dict]:
    script = (pages / "dialogues.js").read_text()
    return json.loads(script.removeprefix("const CORPUS = ").removesuffix(";\n"))["dialogues"]


def test_the_index_knows_every_dialogue_and_gives_pages_to_the_worst(pages):
    rows = rows_of(pages)
    assert [row["id"].split()[0] for row in rows] == ["loud", "faint", "silent", "named", "broken", "old", "none"]
    assert [row["loudness"] for row in rows][:3] == [pytest.approx(-9.0, abs=0.1), pytest.approx(-63, abs=0.1), -120]
    assert [(row["faulty"], row["silent"]) for row in rows] == [(0, 0), (0, 1), (0, 1), (0, 0), (1, 0), (0, 0), (0, 0)]
    assert [bool(row["page"]) for row in rows] == [True] * 6 + [False]  # "none" and "old" are alike: the first of them
    for row in rows:
        assert row["page"] == "" or (pages / row["page"]).is_file()


def test_every_address_of_the_pages_leads_to_a_file_and_none_elsewhere(pages):
    rows = rows_of(pages)
    media = [(pages, address) for row in rows for turn in row["turns"] for _, address, _ in turn[5]]
    assert [address for _, address in media].count("") == 1  # the AVI
    for page in pages.rglob("*.html"):
        media += [(page.parent, address) for address in re.findall(r'(?:src|href)="([^"]*)"', page.read_text())]
    addresses = [(folder, address) for folder, address in media if address and not address.startswith("data:")]
    assert len(addresses) > 15
    for folder, address in addresses:
        path, _, fragment = address.partition("#")
        assert (folder / unquote(path)).is_file(), address
        assert (folder / unquote(path)).resolve().is_relative_to(pages.parent)
        assert fragment in ("", "t=0.25,0.75")
    assert sum("previews/" in address for _, address in addresses) == 1  # again the AVI


def test_words_cannot_become_markup(pages):
    for page in pages.rglob("*.html"):
        assert "onerror=alert(1)>" not in page.read_text()
    assert "innerHTML" not in (pages / "index.html").read_text()
    assert "\u2028" not in (pages / "dialogues.js").read_text()
    assert not re.search(r"https?://", (pages / "index.html").read_text())


_DOCUMENT = """
  class Element {
    constructor(tag) { this.tag = tag; this.children = []; this.text = ""; this.value = ""; this.heard = {}; }
    append(...added) { this.children.push(...added); }
    replaceChildren(...added) { this.children = added; }
    addEventListener(kind, action) { this.heard[kind] = action; }
    set textContent(text) { this.text = String(text); }
    set innerHTML(text) { throw new Error("words as HTML: " + text); }
    all(tag) { return [...(this.tag === tag ? [this] : []), ...this.children.flatMap((child) => child.all(tag))]; }
    words() { return [this.text, ...this.children.map((child) => child.words())].join("|"); }
  }
  const fields = {};
  const document = {
    getElementById: (id) => fields[id] = fields[id] || new Element("field"), createElement: (tag) => new Element(tag),
  };
  document.getElementById("order").value = "file";
"""


def run_page(pages: Path, folder: Path, asks: str):
    """Run the index's own scripts in Node, with the least of a document that they need; return what `asks` prints."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js runs the page's script in this test, and it is not installed")
    script = re.findall(r"<script>\n(.*?)</script>", (pages / "index.html").read_text(), re.DOTALL)[0]
    (folder / "run.js").write_text(_DOCUMENT + (pages / "dialogues.js").read_text() + script + asks)
    done = subprocess.run([node, str(folder / "run.js")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_search_finds_and_sorts(pages, tmp_path):
    asks = """
      const names = (...values) => find(...values).map((dialogue) => dialogue.id.split(" ")[0]);
      console.log(JSON.stringify([
        names("WORD3", "", "", "", "file"), names("ann", "test", "", "", "file"), names("", "", "3", "", "file"),
        names("", "", "5", "assistant", "file"), names("", "", "", "", "loudness"), names("", "", "-1", "", "file"),
        names("word0 nothing", "", "", "", "file"), names("", "", "5", "", "emotion"),
      ]));
    """
    assert run_page(pages, tmp_path, asks) == [
        ["named"], ["none"], ["faint", "named", "old"], ["loud", "silent", "broken", "none"],
        ["broken", "silent", "faint", "named", "loud", "old", "none"], [], [],
        ["loud", "silent", "broken", "none", "faint", "named", "old"],
    ]  # fmt: skip


def test_rows_open_to_turns_that_play(pages, tmp_path):
    asks = """
      const rows = fields.rows.children;
      rows.forEach((row) => { row.open = true; row.heard.toggle(); row.heard.toggle(); });
      console.log(JSON.stringify({
        found: fields.found.text, more: fields.more.hidden, turns: rows.map((row) => row.all("div").length),
        sources: rows.map((row) => [...row.all("audio"), ...row.all("video")].map((player) => player.src)),
        links: rows.map((row) => row.all("a").length), words: rows.map((row) => row.words()),
      }));
    """
    page = run_page(pages, tmp_path, asks)
    assert page["found"] == "7 found, 7 shown" and page["more"] is True
    assert page["turns"] == [2] * 7 and page["links"] == [1] * 6 + [0]
    assert page["sources"][:4] == [
        ["../media/loud.wav#t=0.25,0.75"], ["../media/faint.wav"], ["../media/silent.wav"],
        ["../media/a%20b%231%25.wav"],
    ]  # fmt: skip
    assert page["sources"][5] == [] and "old.avi: browsers do not play this kind" in page["words"][5]
    assert (
        "1 faulty" in page["words"][4] and "1 silent" in page["words"][2] and "quietest -120 dBFS" in page["words"][2]
    )
    assert all("</script><img src=x" in words for words in page["words"])  # as words, not as markup


def test_many_rows_come_a_page_at_a_time(tmp_path):
    dialogues = [
        Dialogue(f"d{i}", (Turn("user", f"word {('even', 'odd')[i % 2]}"),), split="train") for i in range(120)
    ]
    record = ExaminationRecord(tmp_path, LIMITS)
    assert write_corpus_page(dialogues, tmp_path / "f", tmp_path / "pages", record, 0, 1) == (0, [])
    asks = """
      const states = [fields.found.text];
      fields.more.heard.click(); states.push(fields.found.text);
      fields.more.heard.click(); states.push(fields.found.text, fields.more.hidden);
      fields.query.value = "odd WORD"; search(); states.push(fields.found.text, fields.rows.children.length);
      console.log(JSON.stringify(states));
    """
    assert run_page(tmp_path / "pages", tmp_path, asks) == [
        "120 found, 50 shown", "120 found, 100 shown", "120 found, 120 shown", True, "60 found, 50 shown", 50
    ]  # fmt: skip
