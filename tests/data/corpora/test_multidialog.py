"""MultiDialog: rows joined with audio taken out of archives, which may be hostile or damaged."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import soundfile

from epo.data.corpora.multidialog import read_multidialog
from epo.data.dialogue import DataError


def row(conversation, utterance, who, emotion="Neutral", audio=None):
    return {
        "conv_id": conversation,
        "utterance_id": utterance,
        "from": who,
        "audio": f"{conversation}/{utterance}.wav" if audio is None else audio,
        "value": f"Words {utterance}.",
        "emotion": emotion,
        "original_full_path": "x",
    }


ROWS = [row("t1", 0, "human", "Surprising"), row("t1", 1, "gpt", "Disgusting"), row("t2", 0, "human", "Fear")]


@pytest.fixture
def wav_bytes(make_wav, tmp_path) -> bytes:
    return make_wav(tmp_path / "tone.wav", seconds=0.25).read_bytes()


def write_split(root: Path, own: str, rows: list, members: dict[str, bytes], number="0000", links=()) -> Path:
    metadata = root / "metadata" / own / f"{own}_metadata_{number}.jsonl"
    metadata.parent.mkdir(parents=True, exist_ok=True)
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    archive = root / "data" / own / f"{own}_chunks_{number}.tar.gz"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def test_rows_and_audio_meet(tmp_path, import_from, wav_bytes):
    root = tmp_path / "multidialog"
    members = {
        "t1/0.wav": wav_bytes,  # as the metadata names it
        "./valid_freq/t1/1.wav": wav_bytes,  # with folders before it
        "t9/unneeded.wav": wav_bytes,
    }
    write_split(root, "valid_freq", ROWS, members)
    imported = import_from(read_multidialog, root)
    dialogue = imported.dialogue("multidialog-valid_freq-t1")
    assert dialogue.split == "validation"
    assert [(turn.speaker, turn.emotion) for turn in dialogue.turns] == [
        ("user", "surprised"),
        ("assistant", "disgust"),
    ]
    assert all(soundfile.info(turn.clip.audio).duration == 0.25 for turn in dialogue.turns)
    assert imported.dialogue("multidialog-valid_freq-t2").turns[0].clip is None
    assert imported.report.notes["clip missing"] == 1
    assert imported.card["hours"] == round(0.5 / 3600, 3)
    written = sorted(path.name for path in (imported.out / "media").rglob("*") if path.is_file())
    assert written == ["0.wav", "1.wav"]


def test_a_dialogue_may_go_on_in_the_next_chunk(tmp_path, import_from, wav_bytes):
    root = tmp_path / "multidialog"
    write_split(root, "train", [row("t1", 0, "human")], {"t1/0.wav": wav_bytes}, "0000")
    write_split(root, "train", [row("t1", 1, "gpt")], {"t1/1.wav": wav_bytes}, "0001")
    (dialogue,) = import_from(read_multidialog, root).dialogues
    assert [turn.clip is not None for turn in dialogue.turns] == [True, True]


@pytest.mark.parametrize("name", ["../evil.wav", "/evil.wav", "t1/../../evil.wav"])
def test_nothing_is_written_outside_the_output(name, tmp_path, import_from, wav_bytes):
    root = tmp_path / "multidialog"
    write_split(
        root,
        "train",
        [row("t1", 0, "human", audio=name), row("t1", 1, "gpt")],
        {name: wav_bytes, "t1/1.wav": wav_bytes},
    )
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    imported = import_from(read_multidialog, root, on_error="skip")
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(imported.out)} == before
    assert not list(tmp_path.rglob("evil.wav"))
    assert [turn.clip is not None for turn in imported.dialogues[0].turns] == [False, True]


def test_links_in_an_archive_are_refused(tmp_path, import_from, wav_bytes):
    root = tmp_path / "multidialog"
    write_split(root, "train", [row("t1", 0, "human")], {}, links=[("t1/0.wav", "/etc/hostname")])
    with pytest.raises(DataError, match="archive member leaves the folder or is a link"):
        import_from(read_multidialog, root)


def test_a_cut_archive_keeps_what_came_before(tmp_path, import_from, wav_bytes):
    root = tmp_path / "multidialog"
    members = {f"t1/{index}.wav": wav_bytes + bytes(index) * 50_000 for index in range(4)}
    archive = write_split(root, "train", [row("t1", index, "human") for index in range(4)], members)
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match="archive is damaged"):
        import_from(read_multidialog, root)
    imported = import_from(read_multidialog, root, on_error="skip")
    assert imported.dialogues[0].turns[0].clip is not None


def test_what_is_there_is_not_taken_out_again(tmp_path, import_from, wav_bytes):
    root = tmp_path / "multidialog"
    write_split(root, "train", ROWS[:2], {"t1/0.wav": wav_bytes, "t1/1.wav": wav_bytes})
    first = import_from(read_multidialog, root)
    files = sorted((first.out / "media").rglob("*.wav"))
    times = [path.stat().st_mtime_ns for path in files]
    files[1].unlink()
    import_from(read_multidialog, root)
    assert files[0].stat().st_mtime_ns == times[0]
    assert files[1].stat().st_mtime_ns > times[1]


def test_video_is_found_beside_the_audio(tmp_path, import_from, wav_bytes, make_video):
    root = tmp_path / "multidialog"
    write_split(root, "train", [row("t1", 0, "human")], {"t1/0.wav": wav_bytes})
    make_video(root / "video" / "train" / "t1" / "0.mp4")
    clip = import_from(read_multidialog, root).dialogues[0].turns[0].clip
    assert clip.audio.suffix == ".wav" and clip.video.suffix == ".mp4"


def test_metadata_alone_gives_text(tmp_path, import_from):
    root = tmp_path / "multidialog"
    write_split(root, "test_rare", ROWS, {}).unlink()
    imported = import_from(read_multidialog, root)
    assert imported.card["dialogues"]["test"] == 2
    assert imported.report.notes["archive missing: its turns have no audio"] == 1


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ('{"conv_id": 1}', "row lacks one of"),
        ("not json", "line is not JSON"),
        (json.dumps(row("t1", 1, "narrator")), "'from' is neither gpt nor human"),
        (json.dumps(row("t1", 1, "gpt", emotion="Bored")), "unknown emotion label"),
    ],
)
def test_a_broken_row_is_named(broken, kind, tmp_path, import_from):
    root = tmp_path / "multidialog"
    archive = write_split(root, "train", [row("t1", 0, "human")], {})
    archive.unlink()
    with (root / "metadata" / "train" / "train_metadata_0000.jsonl").open("a") as file:
        file.write(broken + "\n")
    with pytest.raises(DataError, match=rf"train_metadata_0000\.jsonl:2.*{kind}"):
        import_from(read_multidialog, root)
