"""The question that asks for a rewritten reply, and the line that is read out of the answer."""

import pytest

from epo.data.dialogue import Dialogue, Turn
from epo.emotions import EMOTIONS
from epo.preferences.gold import collect_gold
from epo.preferences.rewriting import read_rewriting, rewriting_question, worked_examples

_TURNS = (
    Turn("user", "I lost  my\nkeys in Bonn.", "sad"),
    Turn("assistant", "Oh no, all\nthree of them?", "sad"),
)
REPLY = collect_gold([Dialogue("d", _TURNS, split="train")], "train", "all", False)[0]


def test_the_line_and_the_emotion_come_last_and_every_emotion_has_an_example():
    messages = rewriting_question(REPLY, "angry", context_turns=0)
    assert messages[-1]["content"] == "Line (sad): Oh no, all three of them?\nRewrite it: angry"
    asked = [message["content"].rsplit(": ", 1)[1] for message in messages[1:-1:2]]
    assert sorted(asked) == sorted(EMOTIONS)
    assert messages[0]["role"] == "system" and "Bonn" not in str(messages)


def test_what_was_said_before_stands_before_the_line_and_is_called_past():
    said = rewriting_question(REPLY, "angry", context_turns=2)[-1]["content"]
    assert said.startswith("Said before, for you to know only:\n- user: I lost my keys in Bonn.\n\nLine (sad): ")
    assert said.endswith("Rewrite it: angry")


def test_worked_examples_can_be_told_from_answers():
    examples = worked_examples()
    shown = str(rewriting_question(REPLY, "happy", 0))
    assert len(examples) == 14 and all(example in shown or example.replace("'", "\\'") in shown for example in examples)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("Oh no!", "Oh no!"),
        ('"Oh no!"', "Oh no!"),
        ("\n  “Oh no!”\n\nNote: I kept the name.", "Oh no!"),
        ('"No," she said, "never."', '"No," she said, "never."'),
        ("'Tis gone'", "'Tis gone'"),
        ("「糟了！」", "糟了！"),
        ('"', '"'),
        (" \n ", ""),
    ],
)
def test_the_first_line_is_read_without_quotation_marks_around_it(answer, line):
    assert read_rewriting(answer) == line
