"""Transcripts take the place of the user's words: what a recogniser heard, and what is odd about it noted."""

import json

import pytest

from epo.data.dialogue import DataError, Dialogue, Turn
from epo.data.findings import CollectFaults
from epo.data.transcripts import script_of, with_transcripts

DIALOGUE = Dialogue(
    "d", (Turn("user", "The train left."), Turn("assistant", "Oh."), Turn("user", "Yes."), Turn("assistant", "So."))
)


def test_user_turns_say_what_was_heard_and_the_rest_stays(tmp_path):
    path = tmp_path / "transcripts.jsonl"
    lines = [{"turn": 0, "text": "The rain left."}, {"turn": 1, "text": "Ah."}, {"turn": 2, "text": "да"}]
    path.write_text("".join(json.dumps({"dialogue_id": "d"} | line) + "\n" for line in lines))
    findings = CollectFaults()
    (heard,) = with_transcripts([DIALOGUE], path, findings)
    assert [turn.text for turn in heard.turns] == ["The rain left.", "Oh.", "да", "So."]
    assert findings.notes == {
        "transcript of an assistant's turn: left out": 1,
        "transcript in another script than the turn's words": 1,
    }
    path.write_text('{"dialogue_id": "d", "turn": 0, "text": " "}\n')
    with pytest.raises(DataError, match=":1: 'text' is empty"):
        with_transcripts([DIALOGUE], path)


def test_the_script_of_a_text_is_that_of_most_letters():
    assert [script_of(t) for t in ("Hello, мир!", "你好 ok", "да", "12 ?")] == ["LATIN", "CJK", "CYRILLIC", None]
