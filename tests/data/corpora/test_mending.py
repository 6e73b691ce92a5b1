"""Mending: texts of any corpus come in as they were meant, counted, and what holds no text is left out."""

from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.mending import mend_dialogues
from epo.data.dialogue import Dialogue, Turn, read_dialogues, write_dialogues


def test_texts_are_mended_counted_and_read_back_the_same(tmp_path):
    dialogue = Dialogue(
        "d\u200b",
        (Turn("user", "It\x92s late"), Turn("user", "\u200b"), Turn("assistant", "cafe\u0301", name="A\x00da")),
        facts={1: ("gone",), 2: ("cafe\u0301", "\u00ad")},
        personas={"user": ("cafÃ©",)},
        background="\u2800",
    )
    report = ImportReport("skip")
    (mended,) = mend_dialogues(
        [dialogue, Dialogue("e", (Turn("user", " "),)), Dialogue("d", dialogue.turns[:1])], report
    )
    assert mended == Dialogue(
        "d",
        (Turn("user", "It’s late"), Turn("assistant", "café", name="Ada")),
        facts={1: ("café",)},
        personas={"user": ("café",)},
    )
    assert report.faults == {
        "dialogue comes twice": 1,
        "empty utterance": 2,
        "empty text in facts": 1,
        "empty 'background'": 1,
    }
    assert report.notes["Windows-1252 control characters: repaired"] == 2
    write_dialogues(tmp_path / "dialogues.jsonl", [mended])
    assert list(read_dialogues(tmp_path / "dialogues.jsonl")) == [mended]
