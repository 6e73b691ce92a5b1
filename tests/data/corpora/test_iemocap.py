"""IEMOCAP: words, labels and times of two sessions; videos cut to the speaker's half."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from epo.data.corpora.iemocap import IemocapOptions, read_iemocap
from epo.data.dialogue import DataError
from epo.data.media import MediaLimits, decode_audio, decode_video

TRANSCRIPT = """\
Ses01F_impro01_F000 [000.1000-000.5000]: Excuse me.
Ses01F_impro01_M000 [000.4500-000.9000]: Do you have your forms?
M: [BREATHING]
Ses01F_impro01_F001 [001.0000-001.4000]: Yeah.
Ses01F_impro01_MXX0 [001.5000-001.6000]: Okay.
"""
EVALUATION = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[0.1000 - 0.5000]\tSes01F_impro01_F000\texc\t[4.0000, 3.5000, 2.5000]
C-E2:\tNeutral;\t()
[0.4500 - 0.9000]\tSes01F_impro01_M000\tfru\t[2.0000, 3.0000, 3.0000]
[1.0000 - 1.4000]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]
[9.0000 - 9.4000]\tSes01F_impro01_F009\tneu\t[2.5000, 2.5000, 2.5000]
"""


@pytest.fixture
def corpus(tmp_path, make_wav, make_video) -> Path:
    root = tmp_path / "iemocap"
    session = root / "Session1"
    for folder, text in (("transcriptions", TRANSCRIPT), ("EmoEvaluation", EVALUATION)):
        path = session / "dialog" / folder / "Ses01F_impro01.txt"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    for name in ("F000", "M000", "F001", "MXX0"):
        make_wav(session / "sentences" / "wav" / "Ses01F_impro01" / f"Ses01F_impro01_{name}.wav", seconds=0.4)
    make_video(session / "dialog" / "avi" / "DivX" / "Ses01F_impro01.avi", seconds=1.4, codec="mpeg4", has_audio=False)
    return root


def test_words_labels_and_roles(corpus, import_from):
    imported = import_from(read_iemocap, corpus)
    (dialogue,) = imported.dialogues
    assert (dialogue.id, dialogue.split) == ("iemocap-Ses01F_impro01", "train")
    assert [(turn.speaker, turn.emotion, turn.text) for turn in dialogue.turns] == [
        ("user", "happy", "Excuse me."),
        ("assistant", "angry", "Do you have your forms?"),
        ("user", None, "Yeah."),
        ("assistant", None, "Okay."),
    ]
    assert [turn.vad for turn in dialogue.turns] == [(0.5, 0.25, -0.25), (-0.5, 0.0, 0.0), (-0.25,) * 3, None]
    assert len(decode_audio(dialogue.turns[0].clip.audio, 0, None, MediaLimits())) == 6400
    assert imported.report.notes == {
        "times overlap": 1,
        "line without utterance id, as `M: ...`": 1,
        "label 'xxx' has no counterpart: turn kept without emotion": 1,
        "utterance without evaluation: turn kept without emotion": 1,
        "evaluation without words": 1,
        "video ends before the turn": 1,
        "session missing": 4,
        "all sampled frames show the same picture": 3,
    }


def test_a_mean_outside_of_the_scale_is_noted_and_left_out(corpus, import_from):
    path = corpus / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    path.write_text(EVALUATION.replace("4.0000, 3.5000", "5.5000, 3.5000"))
    imported = import_from(read_iemocap, corpus)
    assert imported.dialogues[0].turns[0].vad is None and imported.dialogues[0].turns[0].emotion == "happy"
    assert imported.report.notes["evaluation outside of 1 to 5: turn kept without vad"] == 1


def test_evaluations_are_kept_beside_the_dialogues(corpus, import_from):
    imported = import_from(read_iemocap, corpus)
    rows = [json.loads(line) for line in (imported.out / "evaluations.jsonl").read_text().splitlines()]
    assert rows[1] == {
        "dialogue_id": "iemocap-Ses01F_impro01",
        "turn": 1,
        "valence": 2.0,
        "activation": 3.0,
        "dominance": 3.0,
    }
    assert [row["turn"] for row in rows] == [0, 1, 2]


RED, BLUE = 0, 2  # channels of the left and the right half of the fixture


@pytest.mark.parametrize(
    ("left", "side_of_f", "side_of_m"), [("marked", RED, BLUE), ("female", RED, BLUE), ("male", BLUE, RED)]
)
def test_a_turn_shows_its_own_speaker(left, side_of_f, side_of_m, corpus, import_from):
    imported = import_from(functools.partial(read_iemocap, options=IemocapOptions(left)), corpus)
    first, second = imported.dialogues[0].turns[:2]
    for turn, side in ((first, side_of_f), (second, side_of_m)):
        frames = decode_video(turn.clip.video, 0, None, MediaLimits(video_fps=20, max_frames=20))
        assert frames.shape[1:3] == (48, 32)
        assert int(np.argmax(frames.mean((0, 1, 2)))) == side
        assert frames[..., side].mean() > 200 and len(frames) == pytest.approx(8, abs=1)  # 0.4 s at 20 fps


def test_marked_is_read_from_the_dialogue_name(corpus, import_from):
    for path in [*corpus.rglob("*Ses01F*")][::-1]:
        path.rename(path.with_name(path.name.replace("Ses01F", "Ses01M")))
    for path in corpus.rglob("*.txt"):
        path.write_text(path.read_text().replace("Ses01F", "Ses01M"))
    turn = import_from(read_iemocap, corpus).dialogues[0].turns[0]
    frames = decode_video(turn.clip.video, 0, None, MediaLimits())
    assert int(np.argmax(frames.mean((0, 1, 2)))) == BLUE  # F speaks, M wears the markers on the left


def test_videos_are_cut_once(corpus, import_from):
    imported = import_from(read_iemocap, corpus)
    video = imported.dialogues[0].turns[0].clip.video
    before = video.stat().st_mtime_ns
    again = import_from(read_iemocap, corpus)
    assert video.stat().st_mtime_ns == before
    assert again.dialogues == imported.dialogues


def test_another_side_is_cut_anew(corpus, import_from):
    import_from(read_iemocap, corpus)
    turn = import_from(functools.partial(read_iemocap, options=IemocapOptions("male")), corpus).dialogues[0].turns[0]
    frames = decode_video(turn.clip.video, 0, None, MediaLimits())
    assert int(np.argmax(frames.mean((0, 1, 2)))) == BLUE


def test_later_sessions_are_held_out(corpus, import_from):
    for number, split in ((4, "validation"), (5, "test")):
        folder = corpus / f"Session{number}" / "dialog" / "transcriptions"
        folder.mkdir(parents=True)
        name = f"Ses0{number}M_script01"
        (folder / f"{name}.txt").write_text(f"{name}_M000 [0.0-1.0]: Hello.\n")
        assert import_from(read_iemocap, corpus).dialogue(f"iemocap-{name}").split == split


def test_a_video_that_cannot_be_decoded_is_a_fault(corpus, import_from):
    next(corpus.rglob("*.avi")).write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(DataError, match="video cannot be decoded"):
        import_from(read_iemocap, corpus)
    imported = import_from(read_iemocap, corpus, on_error="skip")
    assert imported.dialogues[0].turns[0].clip.video is None
    assert imported.dialogues[0].turns[0].clip.audio is not None


def test_an_unreadable_evaluation_names_its_line(corpus, import_from):
    path = next((corpus / "Session1" / "dialog" / "EmoEvaluation").iterdir())
    path.write_text(path.read_text().replace("[4.0000, 3.5000", "[4.0000; 3.5000"))
    with pytest.raises(DataError, match=rf"{path}:3.*evaluation cannot be read"):
        import_from(read_iemocap, corpus)


def test_a_line_of_an_utterance_that_cannot_be_read_is_no_note(corpus, import_from):
    """It costs the utterance, so it stops; a missing blank costs nothing, nor does a byte order mark."""
    path = next((corpus / "Session1" / "dialog" / "transcriptions").iterdir())
    path.write_text("\ufeff" + TRANSCRIPT.replace("M000 [", "M000["))
    assert len(import_from(read_iemocap, corpus).dialogues[0].turns) == 4
    path.write_text(TRANSCRIPT.replace("[000.4500-", "[0:00.45-"))
    with pytest.raises(DataError, match=rf"{path}:2: 'Ses01F_impro01_M000 \[0:00.45-.*: line cannot be read"):
        import_from(read_iemocap, corpus, out="other")
    assert not list((path.parents[4] / "other").glob("*.partial"))
    imported = import_from(read_iemocap, corpus, on_error="skip")
    assert len(imported.dialogues[0].turns) == 3 and imported.report.faults == {"line cannot be read": 1}


def test_a_second_evaluation_of_an_utterance_does_not_overwrite_the_first(corpus, import_from):
    path = next((corpus / "Session1" / "dialog" / "EmoEvaluation").iterdir())
    path.write_text(EVALUATION + EVALUATION.splitlines()[2].replace("exc", "sad") + "\n")
    with pytest.raises(DataError, match=rf"{path}:8: Ses01F_impro01_F000: evaluation comes twice"):
        import_from(read_iemocap, corpus)
    assert import_from(read_iemocap, corpus, on_error="skip").dialogues[0].turns[0].emotion == "happy"


def test_a_folder_without_sessions_is_refused(tmp_path, import_from):
    with pytest.raises(DataError, match="no folder Session1 to Session5"):
        import_from(read_iemocap, tmp_path)
