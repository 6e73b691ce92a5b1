"""Check and show: all faults of a file at once, with their lines, and a page that needs no other file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epo.data.checking import check_file
from epo.data.dialogue import Clip, DataError, read_dialogues
from epo.data.dropping import write_sound
from epo.data.examination_pool import _report_of_crash
from epo.data.isolation import Crash
from epo.data.pages.showing import find_dialogue, format_dialogue, write_page


def turn(**extra):
    return {"speaker": "user", "text": "Hi."} | extra


def write(folder: Path, *lines) -> Path:
    path = folder / "dialogues.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def make_wav(path: Path, seconds: float = 1.0) -> Path:
    soundfile.write(path, 0.5 * np.sin(np.arange(int(8000 * seconds)) / 5), 8000)
    return path


def test_all_faults_of_a_file_are_listed(tmp_path):
    make_wav(tmp_path / "good.wav")
    (tmp_path / "empty.wav").touch()
    content = make_wav(tmp_path / "whole.wav", seconds=4).read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[: len(content) // 3])
    path = write(
        tmp_path,
        {"id": "a", "turns": [turn(clip={"audio": "good.wav"}), turn(clip={"audio": "cut.wav"})]},
        {"id": "b", "split": "dev", "turns": [turn(speaker="x", text=" ", emotion="bored"), turn(clip={})], "z": 1},
        "not json",
        {"id": "a", "turns": [turn(clip={"audio": "empty.wav"})]},
        {"id": "c", "turns": [turn(clip={"audio": "../x.wav", "video": "gone.mp4", "end_s": -1})]},
    )
    result = check_file(path)
    expected = [
        rf"{path}:1: turn 1: .*cut\.wav: .*cut off",
        rf"{path}:2: unknown key 'z'",
        rf"{path}:2: 'split' is 'dev'",
        rf"{path}:2: turn 0: 'speaker' is 'x'",
        rf"{path}:2: turn 0: 'text' is empty",
        rf"{path}:2: turn 0: unknown emotion 'bored'",
        rf"{path}:2: turn 1: 'clip' has neither",
        rf"{path}:3: not JSON",
        rf"{path}:4: dialogue id 'a' appears twice, first in line 1; give each its own id",
        rf"{path}:5: turn 0: 'end_s' is -1",
        rf"{path}:5: turn 0: audio: '\.\./x\.wav' leaves the folder",
        rf"{path}:5: turn 0: video: 'gone\.mp4' does not exist",
    ]
    assert len(result.faults) == len(expected), result.faults
    for fault, pattern in zip(result.faults, expected, strict=True):
        assert re.match(pattern, fault), fault
    assert result.as_json()["ok"] is False
    assert (result.num_dialogues, result.num_clips) == (1, 2)


def test_any_number_of_workers_finds_the_same(tmp_path):
    make_wav(tmp_path / "a.wav", seconds=0.5)
    rows = [
        {"id": f"d{index}", "turns": [turn(clip={"audio": "a.wav", "end_s": 0.1 + index / 100})]} for index in range(9)
    ]
    path = write(tmp_path, *rows)
    parallel = check_file(path, workers=2)
    assert (parallel.num_dialogues, parallel.num_clips, parallel.faults) == (9, 9, [])
    assert check_file(path, workers=1, fresh=True) == parallel


def test_a_second_check_decodes_only_what_changed(tmp_path):
    make_wav(tmp_path / "a.wav"), make_wav(tmp_path / "b.wav")
    path = write(tmp_path, {"id": "d", "turns": [turn(clip={"audio": "a.wav"}), turn(clip={"audio": "b.wav"})]})
    record = tmp_path / "examined.jsonl"
    assert check_file(path, workers=1).faults == [] and len(record.read_text().splitlines()) == 2
    record.write_text(record.read_text()[:-30])  # as a check leaves it that was killed while it wrote
    assert check_file(path, workers=1).faults == [] and len(record.read_text().splitlines()) == 3
    (tmp_path / "b.wav").write_bytes(b"RIFF nothing of the kind")
    assert ["turn 1" in fault for fault in check_file(path, workers=1).faults] == [True]
    assert len(record.read_text().splitlines()) == 4
    assert check_file(path, workers=1, fresh=True) == check_file(path, workers=1)


def test_what_training_can_live_with_is_a_note(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    path = write(tmp_path, {"id": "d", "turns": [turn(clip={"audio": "a.wav"})]})
    result = check_file(path, workers=1)
    assert result.faults == [] and result.notes == [f"{path}:1: turn 0: the sound is silent (-120 dBFS)"]


def test_a_clip_that_ends_its_worker_is_named():
    report = _report_of_crash(Clip(audio=Path("a.wav")), Crash("ended the process (SIGSEGV)"))
    assert report.faults == ("a.wav: decoding it ended the process (SIGSEGV); convert the file or remove it",)


def test_what_is_at_fault_is_dropped_into_another_file(tmp_path):
    make_wav(tmp_path / "good.wav")
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing of the kind")
    path = write(
        tmp_path,
        {"id": "a", "turns": [turn(clip={"audio": "good.wav"}), turn(clip={"audio": "bad.wav"}, emotion="bored")]},
        "not json",
        {"id": "b", "turns": [turn(text=" ")]},
        {"id": "c", "turns": [turn(clip={"audio": "gone.wav"}), turn(text=" "), turn(speaker="assistant")]},
    )
    assert check_file(path, workers=1).faults
    report = write_sound(path, tmp_path / "sound.jsonl")
    assert check_file(tmp_path / "sound.jsonl", workers=1).faults == []
    kept = list(read_dialogues(tmp_path / "sound.jsonl"))
    assert [[item.clip is not None for item in dialogue.turns] for dialogue in kept] == [[True, False], [False, False]]
    assert report.faults["clip cannot be used"] == 1 and report.faults.total() == 7
    for target in (path, tmp_path / "else" / "sound.jsonl"):
        with pytest.raises(DataError, match="name another file in"):
            write_sound(path, target)


def test_nothing_left_writes_nothing(tmp_path):
    path = write(tmp_path, "not json")
    with pytest.raises(DataError, match="nothing in it can be used"):
        write_sound(path, tmp_path / "sound.jsonl")
    assert not (tmp_path / "sound.jsonl").exists()


def test_a_folder_means_its_dialogues_file(tmp_path):
    write(tmp_path, {"id": "a", "turns": [turn()]})
    assert check_file(tmp_path).as_json() == {
        "ok": True,
        "dialogues": 1,
        "turns": 1,
        "clips": 0,
        "faults": [],
        "notes": [],
    }
    with pytest.raises(DataError, match="no such file"):
        check_file(tmp_path / "else")


def test_a_dialogue_is_shown_as_text(tmp_path):
    make_wav(tmp_path / "a.wav")
    turns = [turn(emotion="sad", clip={"audio": "a.wav", "end_s": 0.5}), turn(speaker="assistant", text="Oh.")]
    write(tmp_path, {"id": "a", "turns": turns, "facts": {"1": ["Ada"]}, "split": "test"})
    text = format_dialogue(find_dialogue(tmp_path, "a"))
    assert text.splitlines() == [
        "a (test, en)",
        "  0 user      sad       Hi.",
        f"{'':24}audio {tmp_path}/a.wav, from 0 s to 0.5 s",
        "  1 assistant -         Oh.",
        f"{'':24}facts: Ada",
    ]


def test_a_page_holds_words_waveform_and_faults_and_escapes_them(tmp_path):
    make_wav(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"RIFF nothing of the kind")
    turns = [turn(text="<script>alert(1)</script>", clip={"audio": "a.wav"}), turn(clip={"audio": "b.wav"})]
    write(tmp_path, {"id": "a&b", "turns": turns})
    write_page(find_dialogue(tmp_path, "a&b"), tmp_path / "pages" / "page.html")
    page = (tmp_path / "pages" / "page.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "a&amp;b" in page
    assert page.count("<path d=") == 1 and page.count('<audio controls preload="none" src="data:audio/mp4;base64,') == 1
    assert "is no media file" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_an_unknown_id_names_one_that_exists(tmp_path):
    write(tmp_path, {"id": "first", "turns": [turn()]})
    with pytest.raises(DataError, match="no dialogue 'last'; the first one is 'first'"):
        find_dialogue(tmp_path, "last")
