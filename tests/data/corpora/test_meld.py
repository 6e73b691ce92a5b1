"""MELD and MELD-Dyadic: exact counts of the real files, and clips, gaps and broken rows on small ones."""

import csv
import os
from pathlib import Path

import pytest

from epo.data.corpora.meld import read_meld, read_meld_dyadic
from epo.data.dialogue import DataError
from epo.data.media import MediaLimits, decode_clip

HEADER = [
    "Sr No.",
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "StartTime",
    "EndTime",
]
MONICA, ROSS, PHOEBE = "Monica", "Ross", "Phoebe"


def row(dialogue, utterance, speaker, text="Hello there.", emotion="joy", start="00:00:01,000", end="00:00:02,500"):
    return ["1", text, speaker, emotion, "positive", dialogue, utterance, start, end]


def write_split(root: Path, own: str, rows: list, header=HEADER, suffix="_sent_emo.csv") -> Path:
    root.mkdir(exist_ok=True)
    path = root / f"{own}{suffix}"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_real_meld_is_read_to_the_utterance(shared_data, import_from):
    imported = import_from(read_meld, shared_data / "meld")
    assert imported.card["dialogues"] == {"train": 1038, "validation": 114, "test": 280}
    assert imported.card["turns"] == {"train": 9989, "validation": 1109, "test": 2610}
    assert imported.card["emotions"]["happy"] == 1743 + 163 + 402
    notes = imported.report.notes
    assert notes["gap in Utterance_ID"] == 72 + 2 + 2
    assert notes["gap in Dialogue_ID"] == 1
    assert notes["time with a one-digit hour"] == 2412 + 270 + 685
    assert notes["end is not after start"] == 1
    assert notes["utterance of more than 30 s"] == 1 + 0 + 2
    assert not imported.report.faults
    first = imported.dialogue("meld-train-0").turns
    assert first[0].text == "also I was the point person on my company’s transition from the KL-5 to GR-6 system."
    assert [turn.speaker for turn in first[:4]] == ["user", "assistant", "user", "assistant"]


def test_real_meld_dyadic_is_read_to_the_row(shared_data, import_from):
    imported = import_from(read_meld_dyadic, shared_data / "meld_dyadic")
    assert imported.card["turns"] == {"train": 12840, "validation": 1462, "test": 3400}
    assert not imported.report.faults
    assert "dialogue of more than two speakers" not in imported.report.notes


def test_clips_are_brought_along_as_links(tmp_path, import_from, make_video):
    root = tmp_path / "meld"
    write_split(root, "train", [row(0, 0, MONICA), row(0, 1, ROSS)])
    original = make_video(root / "train_splits" / "dia0_utt0.mp4")
    imported = import_from(read_meld, root)
    clip = imported.dialogues[0].turns[0].clip
    assert clip.audio == clip.video == imported.out / "media" / "train_splits" / "dia0_utt0.mp4"
    assert os.path.samefile(clip.audio, original)
    media = decode_clip(clip, MediaLimits())
    assert len(media.waveform) > 0 and len(media.frames) > 0
    assert imported.dialogues[0].turns[1].clip is None
    assert imported.report.notes["clip missing"] == 1
    assert imported.card["clips"] == {"audio": 1, "video": 1}
    assert imported.card["hours"] * 3600 == pytest.approx(0.5, abs=2.0)


def test_dyadic_clips_are_named_by_the_old_ids(tmp_path, import_from, make_video):
    root = tmp_path / "dyadic"
    header = [*HEADER, "Old_Dialogue_ID", "Old_Utterance_ID"]
    write_split(root, "dev", [[*row(0, 0, MONICA), 7, 3]], header, "_sent_emo_dya.csv")
    make_video(root / "dev_splits_complete" / "dia7_utt3.mp4")
    imported = import_from(read_meld_dyadic, root)
    assert imported.dialogue("meld_dyadic-dev-0").turns[0].clip.audio.name == "dia7_utt3.mp4"


def test_a_video_without_sound_keeps_its_pictures(tmp_path, import_from, make_video):
    root = tmp_path / "meld"
    write_split(root, "train", [row(0, 0, MONICA)])
    make_video(root / "train_splits" / "dia0_utt0.mp4", has_audio=False)
    imported = import_from(read_meld, root)
    clip = imported.dialogues[0].turns[0].clip
    assert clip.audio is None and clip.video is not None
    assert imported.report.notes["clip without audio stream"] == 1


BROKEN_CLIPS = {
    "clip is empty": lambda path, good: path.write_bytes(b""),
    "clip cannot be used": lambda path, good: path.write_bytes(good[: len(good) // 3]),
    "clip leaves the corpus folder": lambda path, good: path.symlink_to("/etc/hostname"),
}


@pytest.mark.parametrize("kind", BROKEN_CLIPS)
def test_a_broken_clip_is_named_or_counted(kind, tmp_path, import_from, make_video):
    root = tmp_path / "meld"
    write_split(root, "train", [row(0, 0, MONICA), row(0, 1, ROSS)])
    good = make_video(tmp_path / "good.mp4").read_bytes()
    (root / "train_splits").mkdir()
    (root / "train_splits" / "dia0_utt1.mp4").write_bytes(good)
    BROKEN_CLIPS[kind](root / "train_splits" / "dia0_utt0.mp4", good)
    with pytest.raises(DataError, match=f"{kind}.*--on_error skip"):
        import_from(read_meld, root)
    assert not (tmp_path / "out" / "dialogues.jsonl").exists()
    imported = import_from(read_meld, root, on_error="skip")
    assert [turn.clip is None for turn in imported.dialogues[0].turns] == [True, False]
    assert imported.report.faults[kind] >= 1


def test_a_clip_of_other_length_than_its_row_is_noted_or_left_out(tmp_path, import_from, make_video):
    root = tmp_path / "meld"
    write_split(root, "train", [row(0, 0, MONICA), row(0, 1, ROSS), row(0, 2, MONICA, end="00:00:09,000")])
    for utterance, seconds in enumerate((3.1, 4.0, 1.0)):  # rows of 1.5, 1.5 and 8 s
        make_video(root / "train_splits" / f"dia0_utt{utterance}.mp4", seconds=seconds, fps=5)
    with pytest.raises(DataError, match=r"dia0_utt1.mp4 lasts 4.\d s, its row 1.5 s: clip is much longer than its row"):
        import_from(read_meld, root)
    imported = import_from(read_meld, root, on_error="skip")
    assert [turn.clip is None for turn in imported.dialogues[0].turns] == [False, True, True]
    assert imported.report.faults == {"clip is much longer than its row": 1, "clip is much shorter than its row": 1}
    assert imported.report.notes["clip is longer than its row"] == 1


def test_an_import_that_only_opens_clips_leaves_the_rest_to_a_check(tmp_path, import_from, make_video):
    root = tmp_path / "meld"
    write_split(root, "train", [row(0, 0, MONICA), row(0, 1, ROSS)])
    content = make_video(root / "train_splits" / "dia0_utt0.mp4", seconds=1.5).read_bytes()
    (root / "train_splits" / "dia0_utt1.mp4").write_bytes(content[: len(content) // 3])
    imported = import_from(read_meld, root, on_error="skip", decode=False)
    assert [turn.clip is None for turn in imported.dialogues[0].turns] == [False, True]  # no header, no clip
    assert imported.card["hours"] == 0.0 and not (tmp_path / "out" / "examined.jsonl").exists()


def test_a_role_changes_with_the_speaker(tmp_path, import_from):
    root = tmp_path / "meld"
    speakers = [MONICA, MONICA, ROSS, PHOEBE, MONICA]
    write_split(root, "train", [row(0, index, speaker) for index, speaker in enumerate(speakers)])
    imported = import_from(read_meld, root)
    roles = [turn.speaker for turn in imported.dialogues[0].turns]
    assert roles == ["user", "user", "assistant", "user", "assistant"]
    assert imported.report.notes["dialogue of more than two speakers"] == 1


BROKEN_ROWS = {
    "unknown emotion label": (row(0, 1, ROSS, emotion="amusement"), 2),
    "utterance is empty": (row(0, 1, ROSS, text="  "), 1),
    "id is not a number": (row(0, "one", ROSS), 1),
    "utterance comes twice": (row(0, 0, ROSS), 1),
    "row has the wrong number of columns": (row(0, 1, ROSS)[:-2], 1),
}


@pytest.mark.parametrize("kind", BROKEN_ROWS)
def test_a_broken_row_stops_or_is_counted(kind, tmp_path, import_from):
    broken, turns_left = BROKEN_ROWS[kind]
    root = tmp_path / "meld"
    path = write_split(root, "train", [row(0, 0, MONICA), broken])
    with pytest.raises(DataError, match=f"{path}:3.*{kind}"):
        import_from(read_meld, root)
    imported = import_from(read_meld, root, on_error="skip")
    assert len(imported.dialogues[0].turns) == turns_left
    assert imported.card["irregularities"]["faults"] == {kind: 1}
    assert str(path) in imported.card["irregularities"]["examples"][kind][0]


def test_a_row_in_another_encoding_names_its_line(tmp_path, import_from):
    root = tmp_path / "meld"
    path = write_split(root, "train", [row(0, 0, MONICA), row(0, 1, ROSS, text="café")])
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xe9"))
    with pytest.raises(DataError, match=r"train_sent_emo\.csv:3: row is not UTF-8; .*iconv"):
        import_from(read_meld, root)


def test_rows_of_nothing_at_the_end_of_a_sheet_are_none(tmp_path, import_from):
    root = tmp_path / "meld"
    path = write_split(root, "train", [row(0, 0, MONICA)])
    path.write_text(path.read_text() + "," * (len(HEADER) - 1) + "\n\n  ,\n")
    imported = import_from(read_meld, root)
    assert len(imported.dialogues[0].turns) == 1 and not imported.report.faults


WRONG_HEADS = {
    "column 'Utterance' comes twice; give each its own name": ",".join([*HEADER, "Utterance"]).encode(),
    "its first line is 'Sr No.;Utterance;Speaker;.*; want names with commas between": ";".join(HEADER).encode(),
    "its first line is 'sep=,'; want names": b"sep=,\n" + ",".join(HEADER).encode(),
    "is UTF-16, want UTF-8: file is UTF-16; convert it: iconv": ",".join(HEADER).encode("utf-16"),
    "is a ZIP archive \\(or .xlsx\\)": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("message", WRONG_HEADS)
def test_a_sheet_of_another_kind_is_named(message, tmp_path, import_from):
    (tmp_path / "train_sent_emo.csv").write_bytes(WRONG_HEADS[message])
    with pytest.raises(DataError, match=f"train_sent_emo.csv:?1?: .*{message}"):
        import_from(read_meld, tmp_path)
    assert not list((tmp_path / "out").glob("*"))  # nothing half-written


def test_times_are_noted_not_lost(tmp_path, import_from):
    root = tmp_path / "meld"
    rows = [
        row(0, 0, MONICA, start="0:00:01,000", end="0:00:03,000"),
        row(0, 1, ROSS, start="00:00:02,000", end="00:00:01,000"),
        row(0, 2, MONICA, start="later", end="00:00:40,000"),
        row(0, 3, ROSS, start="00:00:00,000", end="00:00:30,001"),
    ]
    write_split(root, "train", rows)
    imported = import_from(read_meld, root)
    assert len(imported.dialogues[0].turns) == 4
    notes = imported.report.notes
    assert notes["time with a one-digit hour"] == 1
    assert notes["end is not after start"] == 1
    assert notes["time cannot be read"] == 1
    assert notes["utterance of more than 30 s"] == 1
    assert notes["times overlap or go back"] == 2  # 2 < 3, and 0 < 40


def test_rows_out_of_order_are_put_in_order(tmp_path, import_from):
    root = tmp_path / "meld"
    write_split(root, "train", [row(0, 1, ROSS, text="Second."), row(0, 0, MONICA, text="First.")])
    imported = import_from(read_meld, root)
    assert [turn.text for turn in imported.dialogues[0].turns] == ["First.", "Second."]
    assert imported.report.notes["utterances out of order"] == 1


def test_a_dialogue_in_two_places_is_a_duplicate(tmp_path, import_from):
    root = tmp_path / "meld"
    write_split(root, "train", [row(0, 0, MONICA), row(1, 0, ROSS), row(0, 0, PHOEBE)])
    with pytest.raises(DataError, match="dialogue 0 .*dialogue comes twice"):
        import_from(read_meld, root)
    assert len(import_from(read_meld, root, on_error="skip").dialogues) == 2


def test_a_folder_without_the_files_says_where_the_layout_is(tmp_path, import_from):
    with pytest.raises(DataError, match=r"no file named \*_sent_emo\.csv; see docs/corpora\.md"):
        import_from(read_meld, tmp_path)


def test_a_missing_column_is_named(tmp_path, import_from):
    root = tmp_path / "meld"
    write_split(root, "train", [], header=[name for name in HEADER if name != "Emotion"])
    with pytest.raises(DataError, match="column Emotion is missing"):
        import_from(read_meld, root)
