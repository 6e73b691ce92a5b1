"""Replies from a file: each belongs to a turn, faults are named by line, what is missing is counted."""

import json
import re

import pytest

from epo.data.dialogue import DataError
from epo.evaluation.answers import read_answers, read_replies, write_replies
from epo.evaluation.suite import Answers


@pytest.fixture
def read(dialogues, examples, tmp_path):
    """Write lines and read them as answers to examples 4 to 6: turns 3, 5 and 3."""

    def read(*lines):
        path = tmp_path / "said.jsonl"
        rows = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(f"{row}\n" for row in rows))
        return read_answers(path, {dialogue.id: dialogue for dialogue in dialogues}, examples[4:7])

    return read


def said(number, turn, reply="Yes.", **more):
    return {"dialogue_id": f"d{number}", "turn": turn, "reply": reply, **more}


def test_each_reply_finds_its_turn(read):
    lines = [said(6, 3, "(sad) Oh."), said(4, 3, "No.", seconds=3), said(5, 5, "Yes.")]
    assert read(*lines) == (["No.", "Yes.", "(sad) Oh."], [])


def test_what_is_written_of_a_row_is_read_back(dialogues, examples, tmp_path):
    by_id, replies = {dialogue.id: dialogue for dialogue in dialogues}, ["(sad) Öh.", "", "Yes."]
    write_replies(tmp_path, Answers("sft+epo, no clip", replies, ["a", "b", "c"]), examples[4:7])
    path = tmp_path / "sft+epo_no_clip.jsonl"
    assert read_answers(path, by_id, examples[4:7])[0] == replies
    assert [json.loads(line)["sampled"] for line in path.read_text().splitlines()] == ["a", "b", "c"]
    write_replies(tmp_path, Answers("greedy", replies), examples[4:7])
    assert "sampled" not in (tmp_path / "greedy.jsonl").read_text()


def test_what_is_amiss_is_counted_and_named_and_the_first_reply_counts(read, tmp_path):
    lines = [said(5, 5), said(0, 3), said(5, 1), said(5, 5, "No."), said(99, 3), said(6, 2), said(6, 3, "(sad) ")]
    replies, notes = read(*lines)
    assert replies == ["", "Yes.", "(sad) "]
    assert notes == [
        f"{tmp_path}/said.jsonl: {note}"
        for note in (
            "1 of 3 replies are missing; they count as empty replies (turn 3 of 'd4').",
            "1 replies are empty; they score 0 (turn 3 of 'd6').",
            "1 replies answer a turn for the second time; the first reply to a turn counts (turn 5 of 'd5').",
            "2 replies to unknown dialogues or turns are passed over (turn 3 of 'd99', turn 2 of 'd6').",
            "2 replies to turns that are not tested are passed over (turn 3 of 'd0', turn 1 of 'd5').",
        )
    ]


def test_counts_for_the_report(dialogues, examples, tmp_path):
    path = tmp_path / "said.jsonl"
    german = "Ich habe das nicht gewusst, aber wir sind auch noch nicht da."
    path.write_text(
        json.dumps(said(4, 3, german, strategy="Question")) + "\n" + json.dumps(said(6, 3, strategy=3)) + "\n"
    )
    read = read_replies(path, {dialogue.id: dialogue for dialogue in dialogues}, examples[4:7])
    assert read.counts == {
        "missing": {"count": 1, "first": [{"dialogue_id": "d5", "turn": 5}]},
        "other_language": {"count": 1, "first": [{"dialogue_id": "d4", "turn": 3}]},
    }
    assert read.strategies == ["Question", None, None]


def test_a_reply_in_another_script_is_named(read):
    _, notes = read(said(4, 3, "我很抱歉听到这个消息。"), said(5, 5, "OK! :-)"), said(6, 3, "Oh, 7."))
    (note,) = notes
    assert "1 replies seem to be in another language than their dialogue; in another script they are misses" in note
    assert note.endswith("(turn 3 of 'd4').")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], ": holds no reply; write one JSON object a line, want {"),
        ([said(4, 3), "[]"], ":2: want a JSON object, not a JSON array"),
        ([said(4, 3), "{"], ":2: not JSON"),
        ([{"dialogue_id": "d4", "turn": 3}], ":1: 'reply' is missing; want {"),
        ([said(4, 3, None)], ":1: 'reply' is None; want"),
        ([said(4, "3")], ":1: 'turn' is '3'; want"),
        ([said(4, True)], ":1: 'turn' is True; want"),
        ([said(4, 3, "\ud83d Oh.")], ":1: 'reply' holds a lone surrogate; write it whole"),
        ([said(4, 3.0)], ":1: 'turn' is 3.0; want"),
        ([said(99, 3)], ": none of its 1 replies answers a turn of the dialogues file (turn 3 of 'd99'): there must"),
        ([said(4, -1), said(4, 2)], ": none of its 2 replies answers a turn of the dialogues file (turn -1 of 'd4', "),
        ([said(0, 3)], ": none of its 1 replies answers one of the 3 turns that are tested, of split 'train', such as"),
    ],
)
def test_faults_are_named_by_line(read, lines, message):
    with pytest.raises(DataError, match=r"said\.jsonl" + re.escape(message)):
        read(*lines)


def test_a_missing_file(tmp_path, examples):
    with pytest.raises(DataError, match='gone.jsonl: no such file; write one JSON object a line, {"dialogue_id"'):
        read_answers(tmp_path / "gone.jsonl", {}, examples)
