"""Topical-Chat: the real files, streaming from plain and gzipped JSON, and damaged files."""

import gzip
import json
import tracemalloc

import pytest

from epo.data.corpora import rows
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.topical_chat import read_topical_chat
from epo.data.dialogue import DataError


def turn(agent, message="Hi!", sentiment="Happy"):
    return {"agent": agent, "message": message, "sentiment": sentiment, "knowledge_source": ["FS1"]}


def conversation(*turns):
    return {"article_url": "x", "config": "A", "content": list(turns)}


def test_real_topical_chat_is_read_whole(shared_data, import_from):
    imported = import_from(read_topical_chat, shared_data / "topical_chat")
    assert imported.card["dialogues"] == {"train": 0, "validation": 539, "test": 539}
    assert imported.card["emotions"]["none"] == 0
    assert not imported.report.faults


def test_curiosity_is_neutral_and_roles_are_fixed(tmp_path, import_from):
    turns = [
        turn("agent_2", sentiment="Curious to dive deeper"),
        turn("agent_1", sentiment="Disgusted"),
        turn("agent_2"),
    ]
    (tmp_path / "train.json").write_text(json.dumps({"t1": conversation(*turns)}))
    imported = import_from(read_topical_chat, tmp_path)
    (dialogue,) = imported.dialogues
    assert (dialogue.id, dialogue.split) == ("topical_chat-train-t1", "train")
    assert [turn.emotion for turn in dialogue.turns] == ["neutral", "disgust", "happy"]
    assert [turn.speaker for turn in dialogue.turns] == ["user", "assistant", "user"]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_members_are_the_same_for_every_chunk_size(chunk, tmp_path, monkeypatch):
    content = {"a": 1234, "b": {"c": [1, '}\\"{', None]}, "": "é\n", "number": 5}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(rows, "_CHUNK_CHARS", chunk)
    assert dict(rows.read_members(path, ImportReport())) == content


def test_memory_is_that_of_a_member_not_of_the_file(tmp_path):
    path = tmp_path / "train.json.gz"
    content = {f"t{index}": conversation(turn("a", "x" * 1000)) for index in range(5000)}  # 5.6 MB of text
    with gzip.open(path, "wt", compresslevel=1) as file:
        json.dump(content, file)
    del content
    tracemalloc.start()
    count = sum(1 for _ in rows.read_members(path, ImportReport()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 5000
    assert peak < 1_000_000


DAMAGED = {
    "cut": lambda text: text[: len(text) // 2],
    "not an object": lambda text: f"[{text}]",
    "no comma": lambda text: text.replace('], "', '] "', 1) if '], "' in text else text.replace("}, ", "} ", 1),
    "empty": lambda text: "",
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_stops_or_keeps_what_came_before(damage, tmp_path, import_from):
    text = json.dumps({f"t{index}": conversation(turn("a"), turn("b")) for index in range(4)})
    (tmp_path / "train.json").write_text(DAMAGED[damage](text))
    (tmp_path / "test_freq.json").write_text(json.dumps({"t9": conversation(turn("a"))}))
    with pytest.raises(DataError, match=r"train\.json.*rest of the file cannot be read"):
        import_from(read_topical_chat, tmp_path)
    imported = import_from(read_topical_chat, tmp_path, on_error="skip")
    assert imported.report.faults["rest of the file cannot be read"] == 1
    assert imported.dialogue("topical_chat-test_freq-t9")


def test_a_cut_gzip_is_a_data_error(tmp_path, import_from):
    packed = gzip.compress(json.dumps({"t": conversation(turn("a"))}).encode() * 1)
    (tmp_path / "train.json.gz").write_bytes(packed[:-12])
    with pytest.raises(DataError, match="rest of the file cannot be read"):
        import_from(read_topical_chat, tmp_path)


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (turn("a", "   "), "utterance is empty"),
        (turn("a", sentiment="Bored"), "unknown emotion label"),
        ({"agent": "a"}, "turn without agent, message or sentiment"),
        ("text", "turn without agent, message or sentiment"),
        (turn("a", "\ud800"), "row is not UTF-8"),
    ],
)
def test_a_broken_turn_is_counted(broken, kind, tmp_path, import_from):
    (tmp_path / "train.json").write_text(json.dumps({"t": conversation(turn("a"), broken)}))
    imported = import_from(read_topical_chat, tmp_path, on_error="skip")
    assert imported.report.faults == {kind: 1}


def test_nothing_usable_is_an_error_even_when_skipping(tmp_path, import_from):
    (tmp_path / "train.json").write_text(json.dumps({"t": {"content": None}}))
    with pytest.raises(DataError, match="not one usable dialogue; left out: 1 x dialogue without 'content'"):
        import_from(read_topical_chat, tmp_path, on_error="skip")
