"""What makes two runs the same thing: settings that matter, contents of files and parts; and what does not."""

import json
import os
import shutil
from pathlib import Path

import pytest

from launch.folder import digests
from launch.folder.digests import KeptDigests, clips_digest, corpus_digest, part_record
from launch.folder.identity import Identity, changes, identify, layout_changes


@pytest.fixture
def data(tmp_path):
    """A dialogues file with one recording."""
    folder = tmp_path / "corpus"
    (folder / "media").mkdir(parents=True)
    (folder / "media" / "a.wav").write_bytes(b"RIFF one")
    turn = {"speaker": "user", "text": "Hi.", "clip": {"audio": "media/a.wav"}}
    (folder / "dialogues.jsonl").write_text(json.dumps({"id": "d", "turns": [turn]}) + "\n")
    return folder / "dialogues.jsonl"


@pytest.fixture
def part(tmp_path):
    """A trained part with records and checkpoints beside it."""
    folder = tmp_path / "sft"
    (folder / "checkpoint-2").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "checkpoint-2" / "model.safetensors").write_bytes(b"half")
    return folder


def identity(data, part, reads_clips=True, num_ranks=2, **changed):
    values = {"data": str(data), "model": str(part), "beta": 0.1, "save_steps": 5, "output_dir": "out"}
    return identify(values | changed, {"beta": 0.1, "gamma": 0.5}, num_ranks, reads_clips)


def test_the_same_files_elsewhere_are_the_same(data, part, tmp_path):
    before = identity(data, part)
    shutil.copytree(data.parent, tmp_path / "moved")
    shutil.copytree(part, tmp_path / "moved-part")
    after = identity(tmp_path / "moved" / "dialogues.jsonl", tmp_path / "moved-part")
    assert changes(before, after) == []


@pytest.mark.parametrize(
    ("changed", "reasons"),
    [
        ({"beta": 0.2}, ["beta: 0.1 -> 0.2"]),
        ({"save_steps": 7, "output_dir": "elsewhere", "logging_steps": 1}, []),
        ({"per_device_train_batch_size": 4}, []),
        ({"gamma": 0.5}, []),  # a key that the project got since, at its default
        ({"gamma": 0.7}, ["gamma: 0.5 -> 0.7"]),
    ],
)
def test_a_setting_counts_where_it_matters(data, part, changed, reasons):
    assert changes(identity(data, part), identity(data, part, **changed)) == reasons


def test_a_key_that_is_gone_counts_unless_it_stood_at_its_default(data, part):
    with_gamma = identity(data, part, gamma=0.7)
    assert changes(with_gamma, identity(data, part)) == ["gamma: 0.7 -> 0.5"]


def test_content_counts_and_says_which(data, part):
    before = identity(data, part)
    data.write_text(data.read_text().replace("Hi.", "Ho."))
    assert changes(before, identity(data, part)) == [f"data: {data} has changed"]
    before = identity(data, part)
    (part / "model.safetensors").write_bytes(b"WEIGHTS")
    assert changes(before, identity(data, part)) == [f"model: {part} has changed"]


def test_a_corrected_recording_counts_for_who_hears_it(data, part):
    """Of the same length, as a corrected take has."""
    hears, reads = identity(data, part), identity(data, part, reads_clips=False)
    (data.parent / "media" / "a.wav").write_bytes(b"RIFF two")
    assert changes(hears, identity(data, part)) == [f"data: a recording named in {data} has changed"]
    assert changes(reads, identity(data, part, reads_clips=False)) == []


def test_records_and_checkpoints_beside_a_part_do_not_count(data, part):
    before = identity(data, part)
    for name in ("stage.json", "provenance.json", "trainer_state.json", "report.html"):
        (part / name).write_text("{}")
    (part / "checkpoint-2" / "model.safetensors").write_bytes(b"more")
    assert changes(before, identity(data, part)) == []


def test_an_input_that_comes_or_goes_counts(data, part):
    assert changes(identity(data, part), identity(data, part, pairs=str(data))) == [f"pairs: none -> {data}"]
    assert changes(identity(data, part), identity(data, part, model=None)) == [f"model: {part} -> none"]


def test_a_part_that_is_not_named_is_none_and_not_the_working_folder(data, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = identity(data, part, face_detector="")
    (tmp_path / "notes.json").write_text("{}")
    assert changes(before, identity(data, part, face_detector="")) == [] and "face_detector" not in before.inputs
    assert not (tmp_path / ".digests.json").exists()


def test_a_checkpoint_belongs_to_its_layout(data, part):
    before = identity(data, part, per_device_train_batch_size=4)
    after = identity(data, part, num_ranks=1, per_device_train_batch_size=8)
    assert layout_changes(before, after) == ["num_ranks: 2 -> 1", "per_device_train_batch_size: 4 -> 8"]


def test_an_identity_is_kept_as_json(data, part):
    found = identity(data, part)
    assert Identity(**json.loads(json.dumps(found.as_json()))) == found


def test_digests_are_kept_and_made_anew_where_a_file_changed(tmp_path, monkeypatch):
    read = []
    from launch.folder import digests

    monkeypatch.setattr(digests, "file_digest", lambda path, real=digests.file_digest: read.append(path) or real(path))
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(b"12345")
    first = KeptDigests(tmp_path).of(files)
    assert KeptDigests(tmp_path).of(files) == first and len(read) == 2
    status = files[0].stat()
    files[0].write_bytes(b"54321")
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))  # a tool that keeps the time of change
    assert KeptDigests(tmp_path).of(files)[0] != first[0] and read[2:] == [files[0]]


def test_a_folder_that_cannot_be_written_to_and_a_damaged_note_are_no_obstacle(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    (tmp_path / ".digests.json").write_text("{broken")
    expected = KeptDigests(tmp_path).of([file])
    (tmp_path / ".digests.json").unlink()
    (tmp_path / ".digests.json").mkdir()  # nobody can write there, not even root
    assert KeptDigests(tmp_path).of([file]) == expected


def test_clips_outside_the_folder_or_missing_are_absent(data):
    before = clips_digest(data)
    row = json.loads(data.read_text())
    row["turns"][0]["clip"] = {"audio": "../../etc/passwd", "video": "/etc/passwd"}
    data.write_text(json.dumps(row) + "\nnot json\n{}\n[]\n")
    assert clips_digest(data) != before
    (data.parent / "media" / "a.wav").unlink()
    assert clips_digest(data) == clips_digest(data)


def test_a_part_by_name_is_its_name_and_cached_revision(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert part_record("org/model") == {"content": "org/model@"}
    refs = tmp_path / "models--org--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc123")
    assert part_record("org/model") == {"content": "org/model@abc123", "revision": "abc123"}
    monkeypatch.setattr(digests, "hub_answers", lambda: True)
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download", lambda name, file, revision: (refs / revision).write_text("def456")
    )
    assert part_record("org/model@v1")["content"] == "org/model@def456"
    commit = "0123456789" * 4
    assert part_record(f"org/model@{commit}") == {"content": f"org/model@{commit}", "revision": commit}


def test_a_corpus_changes_with_its_files_but_not_with_what_is_imported_below_it(tmp_path):
    (tmp_path / "dialogues.jsonl").write_text("{}")
    out = tmp_path / "imported"
    before = corpus_digest(tmp_path, without=out)
    out.mkdir()
    (out / "dialogues.jsonl").write_text("{}")
    assert corpus_digest(tmp_path, without=out) == before
    (tmp_path / "dialogues.jsonl").write_text("{ }")
    assert corpus_digest(tmp_path, without=out) != before


def test_a_missing_file_is_an_error_of_the_caller(part):
    with pytest.raises(FileNotFoundError):
        identity(Path("gone.jsonl"), part)
