"""M3ED: sentences merged into turns, their main emotion and joined audio."""

import json
from pathlib import Path

import pytest
import soundfile

from epo.data.corpora.m3ed import read_m3ed
from epo.data.dialogue import DataError


def sentence(speaker, text, emotion="Neutral"):
    annotation = {"EmoAnnotator1": {}, "final_mul_emo": emotion, "final_main_emo": emotion}
    return {
        "StartTime": "00:00:58:15",
        "EndTime": "00:01:00:05",
        "Text": text,
        "Speaker": speaker,
        "EmoAnnotation": annotation,
    }


SCENE = {
    "SpeakerInfo": {"A": {"Name": "甲"}, "B": {"Name": "乙"}},
    "Dialog": {
        "show_1_1": sentence("A", "你好", "Happy"),
        "show_1_2": sentence("A", "怎么了?", "Sad"),
        "show_1_3": sentence("A", "别哭", "Sad"),
        "show_1_4": sentence("B", "没事", "Surprise"),
    },
}


def write_corpus(root: Path, shows: dict, splits: dict[str, list[str]]) -> Path:
    (root / "splitInfo").mkdir(parents=True)
    (root / "annotation.json").write_text(json.dumps(shows, ensure_ascii=False), encoding="utf-8")
    for own, names in splits.items():
        (root / "splitInfo" / f"movie_list_{own}.txt").write_text("\n".join(names), encoding="utf-8")
    return root


def test_sentences_of_one_speaker_become_a_turn(tmp_path, import_from):
    shows = {"甲剧": {"show_1": SCENE}, "乙剧": {"show_2": SCENE}}
    root = write_corpus(tmp_path / "m3ed", shows, {"train": ["乙剧"], "val": ["甲剧"], "test": []})
    imported = import_from(read_m3ed, root)
    first = imported.dialogue("m3ed-show_1")
    assert (first.language, first.split) == ("zh", "validation")
    assert [(turn.speaker, turn.emotion, turn.text) for turn in first.turns] == [
        ("user", "sad", "你好 怎么了? 别哭"),  # sad twice, happy once
        ("assistant", "surprised", "没事"),
    ]
    assert imported.dialogue("m3ed-show_2").split == "train"


def test_audio_of_a_turn_is_its_sentences_joined(tmp_path, import_from, make_wav):
    root = write_corpus(tmp_path / "m3ed", {"s": {"show_1": SCENE}}, {"train": ["s"]})
    for name, seconds in (("A_show_1_1", 0.2), ("A_show_1_2", 0.3), ("B_show_1_4", 0.1)):
        make_wav(root / "modality_speech" / f"{name}.wav", seconds=seconds)
    imported = import_from(read_m3ed, root)
    lengths = [soundfile.info(turn.clip.audio).duration for turn in imported.dialogues[0].turns]
    assert lengths == pytest.approx([0.5, 0.1])
    assert imported.report.notes["clip missing"] == 1  # A_show_1_3
    assert imported.card["hours"] == round(0.6 / 3600, 3)


def test_sentences_of_other_rates_are_not_joined(tmp_path, import_from, make_wav):
    root = write_corpus(tmp_path / "m3ed", {"s": {"show_1": SCENE}}, {"train": ["s"]})
    make_wav(root / "modality_speech" / "A_show_1_1.wav")
    make_wav(root / "modality_speech" / "A_show_1_2.wav", rate_hz=8000)
    with pytest.raises(DataError, match=r"sample rates differ: \[8000, 16000\] Hz"):
        import_from(read_m3ed, root)


def test_equal_counts_take_the_first_emotion(tmp_path, import_from):
    scene = {"Dialog": {"a": sentence("A", "一", "Fear"), "b": sentence("A", "二", "Anger")}}
    root = write_corpus(tmp_path / "m3ed", {"s": {"x": scene}}, {"train": ["s"]})
    assert import_from(read_m3ed, root).dialogues[0].turns[0].emotion == "fearful"


def test_a_list_of_shows_in_another_encoding_is_named(tmp_path, import_from):
    root = write_corpus(tmp_path / "m3ed", {"\u5bb6": {"s": SCENE}}, {"val": ["\ufeff\u5bb6"]})
    assert import_from(read_m3ed, root).dialogues[0].split == "validation"
    path = root / "splitInfo" / "movie_list_val.txt"
    path.write_bytes("\u5bb6".encode("gbk"))
    with pytest.raises(DataError, match=rf"{path}: not UTF-8 \(at byte 1\); convert it"):
        import_from(read_m3ed, root)


def test_a_show_in_no_list_is_split_by_id(tmp_path, import_from):
    root = write_corpus(tmp_path / "m3ed", {"new": {"show_1": SCENE}}, {"train": ["other"]})
    imported = import_from(read_m3ed, root)
    assert imported.dialogues[0].split is not None
    assert imported.report.notes["show in no split list: split by dialogue id"] == 1


@pytest.mark.parametrize(
    ("scene", "kind"),
    [
        ({"SpeakerInfo": {}}, "scene without 'Dialog'"),
        ({"Dialog": {"x": {"Text": "好"}}}, "sentence without speaker, text or emotion"),
        ({"Dialog": {"x": sentence("A", " ")}}, "utterance is empty"),
        ({"Dialog": {"x": sentence("A", "好", "Bored")}}, "unknown emotion label"),
    ],
)
def test_a_broken_sentence_is_named(scene, kind, tmp_path, import_from):
    root = write_corpus(tmp_path / "m3ed", {"s": {"show_1": scene}}, {"train": ["s"]})
    with pytest.raises(DataError, match=rf"annotation\.json: s: show_1.*{kind}"):
        import_from(read_m3ed, root)


def test_names_never_lead_out_of_the_folder(tmp_path, import_from, make_wav):
    scene = {"Dialog": {"../../secret": sentence("A", "好")}}
    root = write_corpus(tmp_path / "m3ed", {"s": {"x": scene}}, {"train": ["s"]})
    make_wav(tmp_path / "secret.wav")
    (root / "modality_speech").mkdir()
    with pytest.raises(DataError, match="name cannot be a file name"):
        import_from(read_m3ed, root)
