"""Descriptions of faces: from drawn cues, tables of action units and people's sentences; what gets none, and why."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.corpora.builtin.face import FACE_STRAY, Course, Expression, FaceCues, draw_expression
from epo.data.corpora.builtin.voice import VoiceCues
from epo.data.corpora.builtin.writer import DrawnClip, draw_again
from epo.data.describers.action_unit_table import Table, TableError, read_table
from epo.data.describers.action_units import PHRASES, describe_table, peak_frame
from epo.data.describers.builtin_cues import _FACE, _VOICE, BuiltinCueOptions, describe_drawn
from epo.data.describers.describer import DESCRIBERS, Described, Left
from epo.data.describers.emotion_names import emotion_names_in
from epo.data.describing_clips import describe_clips
from epo.data.descriptions import DESCRIPTION, with_descriptions
from epo.data.dialogue import Clip, DataError, Dialogue, Turn, read_dialogues
from epo.data.label_sets import WORDS
from epo.data.side_files import read_side_file, write_side_file
from epo.emotions import EMOTIONS

SMALL = BuiltinCorpus(
    num_train=2, num_train_with_clips=1, num_validation=1, num_test=0, num_train_speakers=1, num_validation_speakers=1
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_builtin_corpus(tmp_path_factory.mktemp("faces"), SMALL, workers=1, progress=False)


def drawn(cues):
    return DrawnClip("d", 0, Path("v.mp4"), VoiceCues(), Expression(cues, Course(0.0, 0.5, 0.0)), 2.0)


def tell(cues, **options):
    return describe_drawn(drawn(cues), BuiltinCueOptions(**options), random.Random(0))


# --- drawn cues ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_description_names_no_emotion_whatever_was_drawn(emotion):
    rng = np.random.default_rng(0)
    for seed in range(60):
        face = draw_expression(emotion, float(rng.uniform(0.35, 1)), 2.0, rng)
        voice = VoiceCues(*(float(v) for v in rng.normal(0, 5, len(dataclasses.fields(VoiceCues)))))
        clip = DrawnClip("d", 0, Path("v.mp4"), voice, face, 2.0)
        told = describe_drawn(clip, BuiltinCueOptions("both"), random.Random(seed))
        assert isinstance(told, Described) and emotion_names_in(told.text) == []


def test_no_phrase_names_an_emotion_and_every_label_word_is_one():
    phrases = [p for table in (_FACE, _VOICE) for both in table.values() for way in both for p in way]
    phrases += [p for wordings in PHRASES.values() for p in wordings]
    assert [p for p in phrases if emotion_names_in(p)] == []
    short = {"ang", "dis", "fea", "hap", "exc", "neu", "sur", "boredom", "excited", "excitement"}
    assert [word for word in WORDS.emotions if word not in short and not emotion_names_in(word)] == []
    assert emotion_names_in("He looks HAPPY, 高兴, not saddened.") == ["HAPPY", "高兴", "saddened"]


def test_a_sentence_tells_the_strongest_cues_their_way_and_how_strong_by_hand():
    """0.035 strays in the curve of the mouth: -0.07 is two of them (clear), 0.09 of 0.025 in the brows 3.6 (strong)."""
    told = tell(FaceCues(brow_lift=0.09, mouth_curve=-0.07, eye_open=0.0149))
    assert told.evidence == {"brow_lift": 0.09, "mouth_curve": -0.07, "onset_s": 0.0, "rise_s": 0.5, "fade": 0.0}
    assert told.peak_s == 0.5
    brow, mouth = told.text.split(" and the ")
    assert any(f"{p} {s}" in brow for p in _FACE["brow_lift"][0] for s in ("strongly", "markedly"))
    assert any(
        f"{p.removeprefix('the ')} {s}" in mouth for p in _FACE["mouth_curve"][1] for s in ("clearly", "noticeably")
    )
    assert list(tell(FaceCues(brow_lift=0.09, mouth_curve=-0.07), most_cues=1).evidence)[0] == "brow_lift"


def test_what_cannot_be_seen_or_does_not_move_is_not_told():
    assert tell(FaceCues(sneer=-0.5)) == tell(FaceCues()) == Left("clip in which nothing departs from rest")
    assert "brow_lift" in tell(FaceCues(brow_lift=FACE_STRAY.brow_lift)).evidence
    with pytest.raises(ValueError, match="most_cues is 0, want 1 or more"):
        BuiltinCueOptions(most_cues=0)


def test_the_same_label_with_other_strays_is_told_otherwise_and_the_same_clip_in_several_wordings():
    rng = np.random.default_rng(1)
    options = BuiltinCueOptions()
    faces = [draw_expression("happy", 0.8, 2.0, rng) for _ in range(20)]
    clips = [dataclasses.replace(drawn(FaceCues()), face=face) for face in faces]
    assert len({describe_drawn(clip, options, random.Random(0)).text for clip in clips}) >= 18
    assert len({describe_drawn(clips[0], options, random.Random(seed)).text for seed in range(20)}) > 5


def test_what_is_drawn_again_is_what_the_corpus_was_drawn_with(corpus):
    """The clips' own draws: 0.35 to 1 times a label's cues, and six standard deviations of strays at most."""
    clips = list(draw_again(corpus.parent))
    dialogues = {d.id: d for d in read_dialogues(corpus)}
    assert len(clips) == 4 and all(dialogues[c.dialogue_id].turns[c.turn].clip.video == c.video for c in clips)
    assert [c.face for c in draw_again(corpus.parent)] == [c.face for c in clips]


def test_the_built_in_corpus_is_described_whole_and_traceable(corpus, tmp_path):
    dialogues = list(read_dialogues(corpus))
    describe = DESCRIBERS.get("builtin").open(BuiltinCueOptions(), corpus, dialogues, 0, tmp_path)
    found = describe_clips(dialogues, describe, "builtin")
    assert sum(found.described.values()) == 4 and not found.left_out
    path = tmp_path / "descriptions.jsonl"
    write_side_file(path, DESCRIPTION, found.lines)
    assert read_side_file(path, DESCRIPTION, {d.id: d for d in dialogues}) == found.lines
    told = {(d.id, n): t.description for d in with_descriptions(dialogues, path) for n, t in enumerate(d.turns)}
    assert {place: text for place, text in told.items() if text} == {
        place: line["description"] for place, line in found.lines.items()
    }


def test_clips_that_are_not_the_built_in_corpuss_own_are_counted(corpus, tmp_path):
    dialogues = list(read_dialogues(corpus))
    alien = Dialogue("x", (Turn("user", "So.", clip=Clip(video=tmp_path / "a.mp4")), Turn("assistant", "Oh.")))
    mute = Dialogue("y", (Turn("user", "So.", clip=Clip(audio=tmp_path / "a.wav")), Turn("assistant", "Oh.")))
    describe = DESCRIBERS.get("builtin").open(BuiltinCueOptions(), corpus, dialogues, 0, tmp_path)
    found = describe_clips([*dialogues, alien, mute], describe, "builtin")
    assert dict(found.left_out) == {"clip that is not the built-in corpus's": 1, "clip without a picture": 1}
    assert "'x', turn 0" in found.summary()[1]
    with pytest.raises(DataError, match=r"settings.json: want the settings that .* writes beside .* or another source"):
        next(draw_again(tmp_path))
    (tmp_path / "settings.json").write_text((corpus.parent / "settings.json").read_text().replace(": 2,", ": 1,", 1))
    with pytest.raises(DataError, match="written by version 1 of the generator, this is 2; import it anew"):
        next(draw_again(tmp_path))


# --- action units --------------------------------------------------------------------------------------------


def table(rows, units=(1, 12), most=5, step=0.5):
    rows = np.array(rows, dtype=float)
    return Table(units, np.arange(len(rows)) * step, rows, most, (len(rows) - 1) * step)


def test_the_peak_is_the_frame_with_the_largest_sum_by_hand():
    assert peak_frame(np.array([[0, 2], [3, 1], [1, 1]])) == 1


def test_units_are_told_above_the_clips_median_by_hand():
    """Medians 1 and 2: at the peak, row 2, unit 1 stands at 3 (0.6 of the scale: strong), unit 12 at 0.5: not told."""
    told = describe_table(table([[1, 2], [1, 2], [4, 2.5], [1, 2]]), None, 2.0, None, random.Random(0))
    assert told.evidence == {"AU01": 3.0} and told.peak_s == 1.0
    assert any(f"{p} {s}" in told.text.lower() for p in PHRASES[1] for s in ("strongly", "markedly"))
    assert told.text.rstrip(".").endswith(("gives way", "towards the end"))  # nothing of it is left in the last frame
    resting = table([[1, 2], [1, 2]])
    assert describe_table(resting, None, 1.0, None, random.Random(0)) == Left("clip in which no action unit is active")


def test_the_mouth_says_nothing_while_speech_is_on_and_blinks_never_do():
    opened = table([[0, 0, 0], [0, 4, 5], [0, 0, 0]], units=(1, 25, 45))
    speaks = np.array([False, True, False])
    assert describe_table(opened, None, 1.0, None, random.Random(0)).evidence == {"AU25": 4.0}
    assert isinstance(describe_table(opened, speaks, 1.0, None, random.Random(0)), Left)
    assert describe_table(opened, ~speaks, 1.0, None, random.Random(0)).evidence == {"AU25": 4.0}


def test_both_programs_tables_are_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "frame, face_id, timestamp, confidence, success, AU01_r, AU12_r, AU01_c\n"
        "1, 0, 0.000, 0.98, 1, 0.50, 1.20, 1\n2, 0, 0.040, 0.10, 0, 0.00, 0.00, 0\n3, 0, 0.080, 0.98, 1, 2.00, 4.9, 1\n"
    )
    found = read_table(path, 30)
    assert (found.units, found.most, found.times_s.tolist(), found.ends_s) == ((1, 12), 5, [0.0, 0.08], 0.08)
    assert found.intensities.tolist() == [[0.5, 1.2], [2.0, 4.9]]
    path.write_text("FaceScore,AU01,AU12,frame\n0.99,0.1,0.9,0\n,,,1\n0.99,0.3,0.2,2\n")
    found = read_table(path, 10)
    assert (found.units, found.most, found.times_s.tolist(), found.ends_s) == ((1, 12), 1, [0.0, 0.2], 0.2)
    cut = found.between(0.1, 0.3, path)
    assert cut.times_s.tolist() == pytest.approx([0.1]) and cut.intensities.tolist() == [[0.3, 0.2]]


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("frame,smile\n0,1\n", "table with other columns", "want AU01_r, .* or AU01, .*; its columns are frame, smile"),
        ("AU01,AU12\n0,1\n", "table with other columns", "has neither timestamp nor frame"),
        ("frame,AU01\n0,3\n", "table beyond its scale", "intensities from 3 to 3, want 0 to 1"),
        ("frame,AU01\n0,x\n", "table with a broken row", ":2: AU01 is 'x', want a number"),
        ("frame,AU01\n0\n", "table with a broken row", ":2: 1 cells, want 2"),
        ("frame,AU01\n3,0\n1,0\n", "table whose times fall (two faces?)", ":3: frame 1 after a later one"),
        ("frame,AU01\n0,nan\n", "clip without a face", "no row has a face"),
        ("frame,success,AU01_r\n0,0,1\n", "clip without a face", "no row has a face"),
        ("", "table that cannot be read", "is empty"),
        ("frame,AU01\n", "clip without a face", "no row has a face"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path, text, reason, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TableError, match=message) as caught:
        read_table(path, 25)
    assert caught.value.reason == reason and str(path) in str(caught.value)


def test_tables_are_found_by_their_clips_and_those_of_other_clips_are_counted(corpus, tmp_path):
    """The corpus's clips have 8 frames a second: a table of their frames fits, one at another rate does not."""
    dialogues = [d for d in read_dialogues(corpus) if any(t.clip for t in d.turns)]
    clips = [t.clip for d in dialogues for t in d.turns if t.clip is not None]
    rows = "frame,AU06,AU12\n" + "".join(f"{i},{0.8 * (i > 6)},{0.9 * (i > 6)}\n" for i in range(13))
    first = tmp_path / clips[0].video.relative_to(corpus.parent.resolve()).with_suffix(".csv")
    first.parent.mkdir(parents=True)
    first.write_text(rows)
    (tmp_path / f"{clips[1].video.stem}.csv").write_text(rows.replace("AU", "ZZ"))
    (tmp_path / f"{clips[2].video.stem}.csv").write_text(rows + "".join(f"{i},0,0\n" for i in range(13, 80)))
    source = DESCRIBERS.get("au")
    describe = source.open(source.options(str(tmp_path)), corpus, dialogues, 0, tmp_path)
    found = describe_clips(dialogues, describe, "au")
    (line,) = found.lines.values()
    assert line["evidence"] == {"AU06": 0.8, "AU12": 0.9} and line["peak_s"] == 0.875
    assert dict(found.left_out) == {
        "table with other columns": 1, "table of another length than its clip": 1, "clip without a table": 1,
    }  # fmt: skip
    assert "set table_fps" in found.first["table of another length than its clip"]
    with pytest.raises(DataError, match="tables: gone: want the folder of the CSV files"):
        source.open(source.options("gone"), corpus, dialogues, 0, tmp_path)


# --- people's sentences --------------------------------------------------------------------------------------


def test_sentences_come_by_clip_or_by_turn_and_one_that_names_an_emotion_is_counted(tmp_path):
    clip = [Clip(video=tmp_path / f"{name}.mp4") for name in "abcd"]
    dialogues = [Dialogue("d", tuple(Turn("user", "So.", clip=c) for c in clip))]
    path = tmp_path / "s.csv"
    path.write_text("clip,dialogue_id,turn,text\na.mp4,,,The brows rise.\n,d,1,The chin drops.\nc,,,She looks sad.\n")
    source = DESCRIBERS.get("csv")
    found = describe_clips(dialogues, source.open(source.options(str(path)), path, dialogues, 0, tmp_path), "csv")
    assert {turn: line for (_, turn), line in found.lines.items()} == {
        0: {"description": "The brows rise.", "source": "csv"},
        1: {"description": "The chin drops.", "source": "csv"},
    }
    assert dict(found.left_out) == {"sentence that names an emotion": 1, "clip without a sentence": 1}
    assert f"{path}:4: 'sad' in" in found.first["sentence that names an emotion"]
    named = source.open(source.options(str(path), name_emotion=True), path, dialogues, 0, tmp_path)
    assert describe_clips(dialogues, named, "csv").described[None] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip,sentence\na,x\n", "column text is missing"),
        ("clip,text\na,x\na,y\n", ":3: is about what .*:2 describes already"),
        ("clip,text\n,x\n", ":2: want a text, and a clip or a dialogue_id and a turn"),
        ("clip,text\na, \n", ":2: want a text"),
        ("clip,text\n", "has no sentence"),
    ],
)
def test_a_file_of_sentences_that_cannot_be_used_is_named(tmp_path, text, message):
    path = tmp_path / "s.csv"
    path.write_text(text)
    source = DESCRIBERS.get("csv")
    with pytest.raises(DataError, match=message):
        source.open(source.options(str(path)), path, [], 0, tmp_path)
