"""Side files: the round trip, and every line that points nowhere named with its place."""

import json

import pytest

from epo.data.descriptions import DESCRIPTION, repeated_descriptions, with_descriptions
from epo.data.dialogue import Dialogue, Turn
from epo.data.findings import CollectFaults, DataError, StopAtFault
from epo.data.side_files import read_side_file, write_side_file

TURNS = (Turn("user", "The train left."), Turn("assistant", "I am sorry."), Turn("user", "Oh.", description="Low."))
DIALOGUES = {name: Dialogue(name, TURNS) for name in ("d1", "d2")}
LINE = {"dialogue_id": "d1", "turn": 0, "description": "The voice falls."}
GOOD = [LINE | {"turn": 1}, LINE | {"turn": 2}]  # more than the line that is tried


@pytest.fixture
def write(tmp_path):
    def write(*rows):
        path = tmp_path / "descriptions.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


def test_what_is_written_is_read_again(tmp_path):
    material = {("d2", 2): {"description": "Naïve, 悲しい."}, ("d1", 0): {"description": "The voice falls."}}
    path = tmp_path / "new" / "descriptions.jsonl"
    assert write_side_file(path, DESCRIPTION, material) == 2
    assert read_side_file(path, DESCRIPTION, DIALOGUES) == material
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert json.loads(path.read_text().splitlines()[1]) == LINE | {"kind": "description"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE | {"turn": 3}, r"dialogue 'd1' has no turn 3 \(turns are counted from 0; there are 3\); correct"),
        (LINE | {"turn": -1}, "has no turn -1"),
        (LINE | {"turn": True}, "has no turn True"),
        (LINE | {"turn": 1.0}, r"has no turn 1.0"),
        (LINE | {"turn": "1"}, "has no turn '1'"),
        (LINE | {"turn": None}, "'turn' missing; see docs/data.md"),
        ({"turn": 0}, "'dialogue_id', 'description' missing"),
        (LINE | {"dialogue_id": 7}, "'dialogue_id'"),
        (LINE | {"description": " "}, "'description'"),
        (LINE | {"description": ["sad"]}, "'description'"),
        (
            LINE | {"descripton": "x"},
            "unknown key 'descripton'; known are description, dialogue_id, evidence, .*kind, .*turn; take",
        ),
        (LINE | {"evidence": [1]}, r"'evidence' is \[1\]; want numbers by name"),
        (LINE | {"evidence": {"AU06": "x"}}, "'evidence' 'AU06' is 'x'; want a number"),
        (LINE | {"peak_s": True}, "'peak_s' is True; want a number"),
        (LINE | {"kind": "trajectory"}, "'kind' is 'trajectory', want 'description'; name the file that holds it"),
        (LINE | {"turn": 1}, r"turn 1 of dialogue 'd1' has one already, in .*:1; keep the one that is meant"),
        ('{"dialogue_id": "d1"', "not JSON"),
        ("[1]", "want a JSON object"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_left_out(write, line, message):
    path = write(*GOOD, line)
    with pytest.raises(DataError, match=rf"^{path}:3: .*{message}"):
        read_side_file(path, DESCRIPTION, DIALOGUES)
    faults = CollectFaults()
    found = read_side_file(path, DESCRIPTION, DIALOGUES, faults)
    assert len(faults.faults) == 1 and {("d1", 1), ("d1", 2)} <= found.keys()


def test_stray_lines_are_noted_and_half_of_them_refused(write):
    stray = [LINE | {"dialogue_id": f"gone{i}"} for i in range(2)]
    notes = StopAtFault()
    assert len(read_side_file(write(*GOOD, stray[0]), DESCRIPTION, DIALOGUES, notes)) == 2
    assert notes.notes == {"description of a dialogue that is not there: left out": 1}
    with pytest.raises(DataError, match=r":3: dialogue 'gone0' is not in .* 2 of 4 descriptions; .* belong to other"):
        read_side_file(write(*GOOD, *stray), DESCRIPTION, DIALOGUES)


@pytest.mark.parametrize("rows", [[], ["", " "]])
def test_a_file_that_holds_nothing_is_refused(write, rows):
    with pytest.raises(DataError, match="holds no description that can be used; want a JSON object a line"):
        read_side_file(write(*rows), DESCRIPTION, DIALOGUES)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone.jsonl: no such file; want descriptions, a JSON object a line"):
        read_side_file(tmp_path / "gone.jsonl", DESCRIPTION, DIALOGUES)


def test_descriptions_come_onto_their_turns(write):
    path = write(LINE, LINE | {"turn": 2})
    notes = StopAtFault()
    first, second = with_descriptions([*DIALOGUES.values()], path, notes)
    assert [turn.description for turn in first.turns] == ["The voice falls.", None, "The voice falls."]
    assert second == DIALOGUES["d2"]
    assert notes.notes == {"turn with a description of its own: the side file's is taken": 1}


def test_a_described_turn_is_repeated_when_it_is_asked_for():
    """Of three turns one is described; the reply's turn is the next, as an error message counts it."""
    (reply,) = repeated_descriptions([DIALOGUES["d1"]], "What is it?")
    assert reply.current == Turn("user", "What is it?", description="Low.")
    assert (reply.text, reply.emotion, reply.history, reply.dialogue_id, reply.turn) == ("Low.", None, (), "d1", 3)
