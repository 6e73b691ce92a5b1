"""The project's own format: imported again, and never another error than DataError, whatever the bytes."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epo.data.checking import check_file
from epo.data.corpora.jsonl import read_own
from epo.data.dialogue import DataError, read_dialogues, write_dialogues


def line(dialogue_id="d0", **extra):
    turns = [{"speaker": "user", "text": "Hi.", "emotion": "sad"}, {"speaker": "assistant", "text": "Oh."}]
    return {"id": dialogue_id, "turns": turns} | extra


def write(folder, *rows):
    folder.mkdir(exist_ok=True)
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_splits_are_given_where_there_are_none(tmp_path, import_from):
    root = write(tmp_path / "own", *[line(f"d{index}") for index in range(300)], line("mine", split="test"))
    imported = import_from(read_own, root)
    counts = imported.card["dialogues"]
    assert sum(counts.values()) == 301
    assert 15 <= counts["validation"] <= 45 and 15 <= counts["test"] <= 46  # about a tenth each
    assert imported.dialogue("mine").split == "test"


def test_a_part_of_a_large_corpus(tmp_path, import_from, make_wav):
    """Whole: 80, 10 and 10; at most 30 of them, the same whatever the order; of the rest no clip is read."""
    splits = ["train"] * 8 + ["validation", "test"]
    rows = [line(f"d{i}", split=splits[i % 10]) for i in range(100)]
    whole = import_from(read_own, write(tmp_path / "own", *rows), out="whole")
    part = import_from(read_own, tmp_path / "own", max_dialogues=30)
    kept = [dialogue.id for dialogue in part.dialogues]
    assert part.card["dialogues"] == {"train": 24, "validation": 3, "test": 3}
    assert part.card["not_drawn"] == {"train": 56, "validation": 7, "test": 7} and "not_drawn" not in whole.card
    assert part.dialogues == [dialogue for dialogue in whole.dialogues if dialogue.id in kept]
    turned = import_from(read_own, write(tmp_path / "turned", *rows[::-1]), out="again", max_dialogues=30)
    assert {dialogue.id for dialogue in turned.dialogues} == set(kept)
    make_wav(tmp_path / "own" / "broken.wav").write_bytes(b"RIFF")
    lost = next(row for row in rows if row["id"] not in kept)
    lost["turns"][0]["clip"] = {"audio": "broken.wav"}
    again = import_from(read_own, write(tmp_path / "own", *rows), out="clips", max_dialogues=30)
    assert [dialogue.id for dialogue in again.dialogues] == kept
    assert {path.name for path in again.out.iterdir()} <= {"dialogues.jsonl", "card.json", "splits.json", "media"}


def test_media_comes_along(tmp_path, import_from, make_wav):
    root = tmp_path / "own"
    make_wav(root / "sounds" / "a.wav", seconds=0.5)
    row = line()
    row["turns"][0]["clip"] = {"audio": "sounds/a.wav", "start_s": 0.1, "end_s": 0.4}
    imported = import_from(read_own, write(root, row))
    clip = imported.dialogues[0].turns[0].clip
    assert clip.audio == imported.out / "media" / "sounds" / "a.wav"
    assert (clip.start_s, clip.end_s) == (0.1, 0.4)
    assert os.path.samefile(clip.audio, root / "sounds" / "a.wav")


def test_what_is_broken_is_left_out_and_the_rest_is_kept(tmp_path, import_from, make_wav):
    """Field by field: an unknown label costs the label, a broken clip the clip, an empty utterance the turn."""
    root = tmp_path / "own"
    make_wav(root / "a.wav", seconds=0.5)
    row = line("d0", split="dev", mood="grim", personas={"user": ["I knit.", ""]}, facts={"1": ["Oh"], "4": ["Rome"]})
    row["turns"] += [
        {"speaker": "user", "text": "\u200b", "emotion": "sad"},
        {"speaker": "robot", "text": "Beep."},
        {"speaker": "user", "text": "To Rome.", "emotion": "excited", "clip": {"audio": "a.wav", "end_s": -1}},
        {"speaker": "assistant", "text": "Yes?", "tone": 3, "name": 5, "clip": {"audio": "gone.wav", "video": "a.wav"}},
    ]
    no_turn = {"id": "d1", "turns": [{"speaker": "user", "text": " "}]}
    write(root, row, no_turn, line("d0"), line("\u200bd0 "), {"turns": line()["turns"]}, line("d2"))
    with pytest.raises(DataError, match=r"dialogues\.jsonl:1: unknown key 'mood'"):
        import_from(read_own, root)
    imported = import_from(read_own, root, on_error="skip")
    assert [dialogue.id for dialogue in imported.dialogues] == ["d0", "d2"]
    first = imported.dialogue("d0")
    assert [(turn.speaker, turn.text, turn.emotion) for turn in first.turns] == [
        ("user", "Hi.", "sad"),
        ("assistant", "Oh.", None),
        ("user", "To Rome.", None),
        ("assistant", "Yes?", None),
    ]
    assert [turn.clip for turn in first.turns] == [None] * 4  # a.wav has no pictures
    assert first.facts == {1: ("Oh",), 4 - 2: ("Rome",)}  # the numbers follow the turns
    assert first.personas == {"user": ("I knit.",)}
    assert imported.report.faults == {
        "unknown key": 2,
        "unknown split": 1,
        "broken personas": 1,
        "empty utterance": 2,
        "turn of an unknown speaker": 1,
        "unknown emotion label": 1,
        "broken time of a clip": 1,
        "empty name": 1,
        "clip does not exist": 1,
        "clip cannot be used": 1,
        "dialogue without a usable turn": 1,
        "dialogue comes twice": 2,
        "dialogue without an id": 1,
    }


def test_a_file_is_never_imported_onto_itself(tmp_path, import_from):
    with pytest.raises(DataError, match="cannot be imported onto itself"):
        import_from(read_own, write(tmp_path / "out", line()))
    assert (tmp_path / "out" / "dialogues.jsonl").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SURROGATES = st.text(st.characters(), max_size=6) | st.just("\ud800") | st.just("x" * 5000) | st.just("a\0b")
TEXT = st.just("Hi.") | SURROGATES
CLIP = st.fixed_dictionaries({}, optional={key: JSON | TEXT for key in ("audio", "video", "start_s", "end_s", "x")})
TURN = st.fixed_dictionaries(
    {"speaker": st.sampled_from(["user", "assistant"]) | JSON, "text": TEXT | JSON},
    optional={"emotion": st.sampled_from(["sad", "SAD ", "bored"]) | JSON, "clip": CLIP | JSON, "y": JSON},
)
FACTS = st.dictionaries(st.sampled_from(["0", "1", "-1", "²", "9" * 5000]) | TEXT, st.lists(TEXT, max_size=2) | JSON)
ROW = st.fixed_dictionaries(
    {"id": TEXT | JSON, "turns": st.lists(TURN | JSON, max_size=3) | JSON},
    optional={"language": TEXT | JSON, "split": st.sampled_from(["train", "dev"]) | JSON, "facts": FACTS | JSON},
)
BYTES = st.binary(max_size=40) | st.sampled_from([b"[" * 100_000, b"1" * 5000, b'{"id": NaN}', b"\xff{}"])
LINES = st.lists(ROW.map(lambda row: json.dumps(row).encode()) | JSON.map(lambda row: json.dumps(row).encode()) | BYTES)


@given(lines=LINES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_dialogues_or_a_data_error(lines, tmp_path):
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(b"\n".join(lines))
    checked = check_file(path, decode=False)
    for fault in checked.faults:
        fault.encode()  # every message can be printed
        assert fault.startswith(f"{path}:")
    try:
        dialogues = list(read_dialogues(path))
    except DataError as error:
        assert str(error) in checked.faults or "appears twice" in str(error)
        return
    assert not checked.faults
    write_dialogues(tmp_path / "again.jsonl", dialogues)
    assert list(read_dialogues(tmp_path / "again.jsonl")) == dialogues


def test_a_corpus_that_grew_keeps_its_splits_and_a_group_is_never_torn_apart(tmp_path, import_from):
    root = tmp_path / "own"
    root.mkdir()
    turns = [{"speaker": "user", "text": "Hi."}, {"speaker": "assistant", "text": "Oh."}]

    def rows(count):
        return [
            {"id": f"d{i}", "group": f"speaker {i % 7}", "turns": [{**turns[0], "text": f"Hi {i}."}]}
            for i in range(count)
        ]

    (root / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(30)))
    first = {dialogue.id: dialogue for dialogue in import_from(read_own, root).dialogues}
    assert {dialogue.split for dialogue in first.values()} == {"train", "validation", "test"}
    (root / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(60)))
    grown = import_from(read_own, root).dialogues
    assert all(first[dialogue.id].split == dialogue.split for dialogue in grown if dialogue.id in first)
    assert len({(dialogue.group, dialogue.split) for dialogue in grown}) == 7
