"""Corpora that are tables by name: fixtures in their published layout, with the odd rows that they have."""

import json

import pytest

from epo.data.corpora.listing import corpora
from epo.data.dialogue import DataError


@pytest.fixture
def import_named(tmp_path, import_from):
    def run(name, on_error="stop"):
        return import_from(corpora()[name].reader(), tmp_path, on_error)

    return run


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def said(dialogue):
    return [(turn.speaker, turn.name, turn.text, turn.emotion) for turn in dialogue.turns]


def utterance(number, speakers, text, emotion):
    tokens = [[word] for word in text.split()]
    return {
        "utterance_id": f"s01_e02_c01_u{number:03}", "speakers": speakers, "transcript": text, "tokens": tokens,
        "emotion": emotion,
    }  # fmt: skip


def test_emorynlp(tmp_path, import_named):
    scene = {"scene_id": "s01_e02_c01", "utterances": [
        utterance(10, ["Phoebe Buffay"], "Oh, yeah!", "Joyful"),
        utterance(2, ["Joey Tribbiani"], "Y'serious?", "Neutral"),
        utterance(11, ["Monica Geller", "Ross Geller"], "No!", "Powerful"),
    ]}  # fmt: skip
    for own in ("trn", "dev"):
        episodes = [{"episode_id": f"s01_e02{own}", "scenes": [scene]}]
        write(tmp_path / "json" / f"emotion-detection-{own}.json", {"season_id": "s01", "episodes": episodes})
    imported = import_named("emorynlp")
    assert [(d.split, d.group) for d in imported.dialogues] == [
        ("train", "emorynlp-s01_e02trn"), ("validation", "emorynlp-s01_e02dev"),
    ]  # fmt: skip
    assert said(imported.dialogues[0]) == [
        ("user", "Joey Tribbiani", "Y'serious?", "neutral"),
        ("assistant", "Phoebe Buffay", "Oh, yeah!", "happy"),
        ("user", "Monica Geller, Ross Geller", "No!", None),
    ]
    assert imported.report.notes["split file missing"] == 1


def test_cped(tmp_path, import_named):
    header = (
        "TV_ID,Dialogue_ID,Utterance_ID,Speaker,Gender,Age,Neuroticism,Extraversion,Openness,Agreeableness,"
        "Conscientiousness,Scene,FacePosition_LU,FacePosition_RD,Sentiment,Emotion,DA,Utterance\n"
    )
    who = "female,young,high,high,low,high,high,car,335_103,493_312,negative"
    other = ",".join(["unknown"] * 7) + ",office,0_0,0_0,negative"
    rows = f"32,32_000,32_000_000,甲,{who},astonished,question,怎么了\n"
    rows += f"32,32_000,32_000_001,其他,{other},negative-other,comfort,别闹了 好\n"
    write(tmp_path / "data" / "CPED" / "valid_split.csv", header + rows)
    imported = import_named("cped")
    (dialogue,) = imported.dialogues
    assert (dialogue.id, dialogue.split, dialogue.group, dialogue.language) == (
        "cped-data/CPED/valid_split-32_000", "validation", "cped-32", "zh",
    )  # fmt: skip
    assert said(dialogue) == [("user", "甲", "怎么了", "surprised"), ("assistant", "其他", "别闹了 好", None)]
    assert [turn.strategy for turn in dialogue.turns] == ["question", "comfort"]


EMOTIONTALK = """name,emotion,chinese
G00009/G00009_42/G00009_42_14/G00009_42_14_003,neutral,[over/]还给他点[/over]饭。
G00009/G00009_42/G00009_42_14/G00009_42_14_001,fearful,前两天[interrupted]。
G00009/G00009_43/G00009_43_12/G00009_43_12_001,angry,[laughing]
G00009/G00009_42/G00009_42_12/G00009_42_12_002,surprised,是吗？
"""


def test_emotiontalk_is_put_together_from_its_two_speakers(tmp_path, make_wav, import_named):
    write(tmp_path / "transcription.csv", EMOTIONTALK)
    names = [line.split(",")[0] for line in EMOTIONTALK.splitlines()[1:]]
    for name in names[:2]:
        make_wav(tmp_path / "wav" / f"{name}.wav")
    imported = import_named("emotiontalk")
    first, second = imported.dialogues
    assert said(first) == [
        ("user", "14", "前两天。", "fearful"),
        ("assistant", "12", "是吗？", "surprised"),
        ("user", "14", "还给他点饭。", "neutral"),
    ]
    assert (first.group, first.language, first.split is None) == ("emotiontalk-G00009", "zh", False)
    assert [turn.clip is not None for turn in first.turns] == [True, False, True]
    assert second.turns[0].text == "[laughing]"
    notes = imported.report.notes
    assert notes["nothing but what is to be removed: kept as it is"] == 1 and notes["clip missing"] == 2
    assert notes["no folder of recordings: turns have no video"] == 1


def test_reccon(tmp_path, import_named):
    turns = [
        {"turn": 1, "speaker": "A", "utterance": "Hey , a movie ?", "emotion": "happines"},
        {"turn": 2, "speaker": "B", "utterance": "No .", "emotion": "neutral",
         "expanded emotion cause evidence": ["b", 1], "expanded emotion cause span": ["b", "Hey"], "type": ["latent"]},
    ]  # fmt: skip
    write(tmp_path / "data" / "original_annotation" / "dailydialog_train.json", {"tr_4466": [turns], "tr_10": [turns]})
    imported = import_named("reccon")
    assert [(d.id.rpartition("-")[2], d.split) for d in imported.dialogues] == [
        ("tr_4466", "train"),
        ("tr_10", "train"),
    ]
    assert said(imported.dialogues[0]) == [
        ("user", "A", "Hey , a movie ?", "happy"), ("assistant", "B", "No .", "neutral"),
    ]  # fmt: skip


def test_ravdess(tmp_path, make_wav, make_video, import_named):
    make_wav(tmp_path / "Actor_12" / "03-01-06-01-02-01-12.wav")
    make_wav(tmp_path / "Actor_12" / "03-02-02-02-01-02-12.wav")
    make_video(tmp_path / "Actor_01" / "01-01-08-02-01-01-01.mp4")
    make_video(tmp_path / "Actor_01" / "02-01-08-02-01-01-01.mp4", has_audio=False)
    imported = import_named("ravdess")
    assert [(d.group, said(d)[0], d.turns[0].description) for d in imported.dialogues] == [
        ("ravdess-01", ("user", "01", "Kids are talking by the door.", "surprised"), "spoken with strong intensity"),
        ("ravdess-12", ("user", "12", "Dogs are sitting by the door.", "fearful"), "spoken with normal intensity"),
        ("ravdess-12", ("user", "12", "Kids are talking by the door.", "neutral"), "sung with strong intensity"),
    ]
    assert imported.card["clips"] == {"audio": 3, "video": 1}
    assert not imported.report.faults


def test_crema_d(tmp_path, make_wav, make_video, import_named):
    for name in ("1001_DFA_ANG_XX", "1040_ITH_SAD_X"):
        make_wav(tmp_path / "AudioWAV" / f"{name}.wav")
    make_video(tmp_path / "VideoFlash" / "1001_DFA_ANG_XX.flv", codec="flv1", has_audio=False)
    imported = import_named("crema_d")
    assert [said(dialogue)[0] for dialogue in imported.dialogues] == [
        ("user", "1001", "Don't forget a jacket.", "angry"),
        ("user", "1040", "I think I have a doctor's appointment.", "sad"),
    ]
    assert imported.card["clips"] == {"audio": 2, "video": 1}
    assert imported.report.notes["clip missing"] == 1


def test_emodb_of_names(tmp_path, make_wav, import_named):
    make_wav(tmp_path / "wav" / "03a01Fa.wav")
    make_wav(tmp_path / "wav" / "16b10Wb.wav")
    (first, second) = import_named("emodb").dialogues
    assert (first.language, said(first)[0]) == ("de", ("user", "03", "Der Lappen liegt auf dem Eisschrank.", "happy"))
    assert (second.group, second.turns[0].emotion) == ("emodb-16", "angry")


def test_the_real_emodb_by_its_names(shared_data, import_from):
    imported = import_from(corpora()["emodb"].reader(), shared_data / "emodb")
    assert imported.card["clips"]["audio"] == 135 and not imported.report.faults
    table = (shared_data / "emodb" / "labels.csv").read_text().splitlines()[1:]
    words = {row.split(",")[0].removesuffix(".flac"): row.split(",")[3] for row in table}
    read = corpora()["emodb"].labels.read
    assert all(d.turns[0].emotion == read(words[d.id.rpartition("-")[2]]) for d in imported.dialogues)


@pytest.mark.parametrize("name", ["emorynlp", "cped", "emotiontalk", "reccon", "ravdess", "crema_d", "emodb"])
def test_a_folder_of_something_else_is_refused(name, import_named):
    with pytest.raises(DataError, match="docs/corpora.md"):
        import_named(name)


def test_a_file_of_another_name_among_clips_is_named(tmp_path, make_wav, import_named):
    make_wav(tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav")
    make_wav(tmp_path / "AudioWAV" / "new recording.wav")
    with pytest.raises(DataError, match="'new recording': name does not fit the pattern"):
        import_named("crema_d")
    assert len(import_named("crema_d", "skip").dialogues) == 1
