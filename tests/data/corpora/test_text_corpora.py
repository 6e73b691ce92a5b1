"""EmpatheticDialogues, ESConv and DailyDialog: fixtures in their published layout, with the odd rows they have."""

import json
import zipfile

import pytest

from epo.data.corpora.dailydialog import read_dailydialog
from epo.data.corpora.empathetic_dialogues import read_empathetic_dialogues
from epo.data.corpora.esconv import read_esconv
from epo.data.dialogue import DataError

ED_HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"


def ed_row(conversation, place, speaker, text, rest="5|5|5_2|2|5,"):
    return f"hit:{conversation},{place},afraid,I saw a bear_comma_ once.,{speaker},{text},{rest}\n"


def said(dialogue):
    return [(turn.speaker, turn.name, turn.text, turn.emotion) for turn in dialogue.turns]


def test_empathetic_dialogues(tmp_path, import_from):
    rows = ed_row("0_conv:1", 1, 7, 'A bear_comma_ "big".') + ed_row("0_conv:1", 2, 0, "Oh no!", "")
    rows += ed_row("0_conv:1", 3, 7, 'He said "hi', "5|5|5_2|2|5,<a>,b")
    folder = tmp_path / "empatheticdialogues"
    folder.mkdir()
    (folder / "train.csv").write_text(ED_HEADER + rows)
    (folder / "valid.csv").write_text(ED_HEADER + ed_row("9_conv:2", 2, 3, "I see.") + ed_row("9_conv:2", 3, 4, "Yes."))
    imported = import_from(read_empathetic_dialogues, tmp_path)
    train, valid = imported.dialogues
    assert (train.id, train.split, train.background) == (
        "empathetic-train-hit:0_conv:1", "train", "I saw a bear, once.",
    )  # fmt: skip
    assert said(train) == [
        ("user", "7", 'A bear, "big".', "fearful"),
        ("assistant", "0", "Oh no!", None),
        ("user", "7", 'He said "hi', "fearful"),
    ]
    assert said(valid) == [("assistant", "3", "I see.", None), ("user", "4", "Yes.", "fearful")]
    notes = imported.report.notes
    assert notes["row has more columns than the header: the last are not read"] == 1
    assert notes["gap in utterance_idx"] == 1 and notes["split file missing"] == 1
    assert not imported.report.faults


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("hit:1_conv:9,1,afraid\n", "row has too few columns"),
        (ed_row("1_conv:9", "x", 1, "Hi."), "row has too few columns"),
        (ed_row("1_conv:9", 1, 1, "  "), "utterance is empty"),
        (ed_row("1_conv:9", 1, 1, "Hi.").replace("afraid", "peckish"), "unknown emotion label"),
    ],
)
def test_a_broken_row_of_empathetic_dialogues(row, fault, tmp_path, import_from):
    (tmp_path / "test.csv").write_text(ED_HEADER + ed_row("0_conv:1", 1, 7, "Hello.") + row)
    with pytest.raises(DataError, match=rf"test.csv:3.*{fault}"):
        import_from(read_empathetic_dialogues, tmp_path)
    imported = import_from(read_empathetic_dialogues, tmp_path, on_error="skip")
    assert imported.report.faults == {fault: 1} and imported.dialogues[0].turns[0].text == "Hello."


def test_rows_of_nothing_in_empathetic_dialogues_are_none(tmp_path, import_from):
    rows = ed_row("0_conv:1", 1, 7, "Hello.") + "\n,,,,,,,\n" + ed_row("0_conv:1", 2, 0, "Hi.")
    (tmp_path / "test.csv").write_text(ED_HEADER + rows)
    imported = import_from(read_empathetic_dialogues, tmp_path)
    assert len(imported.dialogues[0].turns) == 2 and not imported.report.faults


def test_places_that_would_swap_or_repeat_turns_are_faults(tmp_path, import_from):
    """Odd places are the teller's: counted from 0, who tells and who listens would change places."""
    one, two = ed_row("0_conv:1", 1, 7, "Hello."), ed_row("0_conv:1", 2, 0, "Hi.")
    for rows, fault in ((ed_row("0_conv:1", 0, 7, "Oh.") + one, "utterance_idx is 0"), (one + one, "comes twice")):
        (tmp_path / "test.csv").write_text(ED_HEADER + rows + two)
        with pytest.raises(DataError, match=fault):
            import_from(read_empathetic_dialogues, tmp_path)
        imported = import_from(read_empathetic_dialogues, tmp_path, on_error="skip")
        assert [turn.text for turn in imported.dialogues[0].turns] == ["Hello.", "Hi."]


def exchange(**changed):
    row = {"id": "hit:1", "emotion": "lonely", "situation": "A move.", "user": " I moved. ", "reply": "Oh no!"}
    return json.dumps({key: value for key, value in (row | changed).items() if value is not None}) + "\n"


def test_first_exchanges_get_splits_from_the_import(tmp_path, import_from):
    rows = [exchange(), exchange(id="hit:2", emotion="jealous", situation=None)]
    (tmp_path / "first_exchanges.jsonl").write_text("".join(rows))
    imported = import_from(read_empathetic_dialogues, tmp_path)
    first, second = imported.dialogues
    assert (first.id, first.background, second.background) == ("empathetic-hit:1", "A move.", None)
    assert said(first) == [("user", None, "I moved.", "sad"), ("assistant", None, "Oh no!", None)]
    assert second.turns[0].emotion is None and first.split is not None


def test_the_files_as_downloaded_come_before_first_exchanges(tmp_path, import_from):
    (tmp_path / "first_exchanges.jsonl").write_text(exchange())
    (tmp_path / "test.csv").write_text(ED_HEADER + ed_row("0_conv:1", 1, 7, "Hello."))
    assert [d.id for d in import_from(read_empathetic_dialogues, tmp_path).dialogues] == [
        "empathetic-test-hit:0_conv:1"
    ]


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"user": None}, "line lacks a text"),
        ({"reply": " "}, "line lacks a text"),
        ({"id": 3}, "line lacks a text"),
        ({"emotion": "peckish"}, "unknown emotion label"),
        ({"reply": "\ud83d"}, "row is not UTF-8"),
        ({"id": "hit:0"}, "dialogue comes twice"),
    ],
)
def test_a_broken_first_exchange(changed, fault, tmp_path, import_from):
    (tmp_path / "first_exchanges.jsonl").write_text(exchange(id="hit:0") + exchange(**changed))
    with pytest.raises(DataError, match=rf"first_exchanges.jsonl:2.*{fault}|{fault}.*first_exchanges.jsonl:2"):
        import_from(read_empathetic_dialogues, tmp_path)
    imported = import_from(read_empathetic_dialogues, tmp_path, on_error="skip")
    assert imported.report.faults == {fault: 1} and imported.dialogues[0].turns[0].text == "I moved."


def test_esconv_keeps_strategies(tmp_path, import_from):
    def row(speaker, content, **annotation):
        return {"speaker": speaker, "annotation": annotation, "content": content}

    dialogues = [
        {
            "experience_type": "Previous Experience", "emotion_type": "anxiety", "problem_type": "job crisis",
            "situation": "I hate my job.", "survey_score": {"seeker": {"empathy": "5"}, "supporter": {}},
            "dialog": [
                row("seeker", "Hello\n"), row("supporter", "Hi there.", strategy="Question"),
                row("supporter", "How are you?", strategy="Others"), row("supporter", "Well?"),
                row("seeker", "Bad.", feedback="4"),
            ],
        },
        {"dialog": [row("speaker", "Hey"), row("listener", "hi", strategy="Other")]},
    ]  # fmt: skip
    (tmp_path / "ESConv.json").write_text(json.dumps(dialogues))
    imported = import_from(read_esconv, tmp_path)
    first, second = imported.dialogues
    assert first.background == "I hate my job. (job crisis, anxiety)" and second.background is None
    assert [(turn.speaker, turn.text, turn.strategy) for turn in first.turns] == [
        ("user", "Hello", None), ("assistant", "Hi there.", "Question"), ("assistant", "How are you?", "Others"),
        ("assistant", "Well?", None), ("user", "Bad.", None),
    ]  # fmt: skip
    assert [turn.speaker for turn in second.turns] == ["user", "assistant"]
    assert imported.report.notes == {"supporter's turn without a strategy": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "ESConv.json: not JSON"),
        ("{}", "want a list of dialogues"),
        ("[{}]", "dialogue 0: dialogue without 'dialog'"),
        ('[{"dialog": [{"speaker": "x", "content": "y"}]}]', "turn 0: turn without content or a known speaker"),
        ('[{"dialog": [{"speaker": "seeker", "content": " "}]}]', "turn 0: utterance is empty"),
        ('[{"dialog": [{"speaker": ["seeker"], "content": "y"}]}]', "turn 0: turn without content or a known speaker"),
        ('[{"dialog": [{"speaker": "seeker", "content": "a", "content": "b"}]}]', "key 'content' comes twice"),
        ('[{"situation": {"a": 1}, "dialog": [{"speaker": "seeker", "content": "y"}]}]', "situation is no string"),
        ("[]", "not one usable dialogue; it holds nothing"),
        ("\ufeff[]", "not one usable dialogue; it holds nothing"),
    ],
)
def test_a_broken_esconv(content, message, tmp_path, import_from):
    (tmp_path / "ESConv.json").write_text(content)
    with pytest.raises(DataError, match=message):
        import_from(read_esconv, tmp_path)


TALK = "Good morning . __eou__ What ’ s up ? __eou__ Nothing . __eou__\n"


def write_split(folder, split, texts, labels, acts="2 2 1 \n"):
    (folder / split).mkdir(parents=True)
    (folder / split / f"dialogues_{split}.txt").write_text(texts)
    (folder / split / f"dialogues_emotion_{split}.txt").write_text(labels)
    (folder / split / f"dialogues_act_{split}.txt").write_text(acts)


def test_dailydialog(tmp_path, import_from):
    folder = tmp_path / "ijcnlp_dailydialog"
    uneven = "A . __eou__ B . __eou__\n"
    write_split(folder, "train", TALK + uneven, "0 6 4 \n0 0 0 \n", "2 2 1 \n1 1 \n")
    with zipfile.ZipFile(folder / "test.zip", "w") as archive:
        for name, content in (("", TALK), ("emotion_", "0 1 2 \n"), ("act_", "1 1 1 \n")):
            archive.writestr(f"test/dialogues_{name}test.txt", content)
    imported = import_from(read_dailydialog, tmp_path)
    first, second, test = imported.dialogues
    assert (first.id, first.split, test.id, test.split) == (
        "dailydialog-train-1", "train", "dailydialog-test-1", "test",
    )  # fmt: skip
    assert said(first) == [
        ("user", None, "Good morning .", "neutral"), ("assistant", None, "What ’ s up ?", "surprised"),
        ("user", None, "Nothing .", "happy"),
    ]  # fmt: skip
    assert [turn.strategy for turn in first.turns] == ["question", "question", "inform"]
    assert [(turn.text, turn.emotion) for turn in second.turns] == [("A .", None), ("B .", None)]
    assert imported.report.notes == {
        "split missing": 1, "dialogue is in another split too": 1,
        "not as many labels as turns: kept without emotions": 1,
    }  # fmt: skip


def test_dailydialog_whole_gets_its_splits_from_the_import(tmp_path, import_from):
    (tmp_path / "dialogues_text.txt").write_text(TALK * 1 + "X . __eou__  __eou__ Z . __eou__\n")
    (tmp_path / "dialogues_emotion.txt").write_text("0 0 0\n4 0 5\n")
    with pytest.raises(DataError, match="dialogues_text.txt:2: turn 1: utterance is empty"):
        import_from(read_dailydialog, tmp_path)
    imported = import_from(read_dailydialog, tmp_path, on_error="skip")
    assert [(turn.text, turn.emotion) for turn in imported.dialogues[1].turns] == [("X .", "happy"), ("Z .", "sad")]
    assert imported.report.notes == {"file missing: its turns have no label": 1}


def test_labels_of_another_dailydialog_are_refused(tmp_path, import_from):
    write_split(tmp_path, "train", TALK + TALK, "0 0 0\n")
    with pytest.raises(
        DataError, match=r"dialogues_train.txt \(2 dialogues, 1 lines of labels\): labels are not of these"
    ):
        import_from(read_dailydialog, tmp_path)
    (tmp_path / "validation.zip").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="validation.zip: .* download the archive again"):
        import_from(read_dailydialog, tmp_path, on_error="skip")


def test_line_ends_of_old_macs_and_marks_of_other_files(tmp_path, import_from):
    """With a bare carriage return all dialogues would be one; without a mark all utterances."""
    write_split(tmp_path, "train", (TALK * 2).replace("\n", "\r"), "0 0 0\r0 0 4\r", "")
    imported = import_from(read_dailydialog, tmp_path)
    assert [len(dialogue.turns) for dialogue in imported.dialogues] == [3, 3]
    path = tmp_path / "train" / "dialogues_train.txt"
    path.write_text(TALK + TALK.replace("__eou__", "|"))
    with pytest.raises(DataError, match=r"dialogues_train.txt:2: 'Good morning .*: line without __eou__"):
        import_from(read_dailydialog, tmp_path)
    path.write_bytes((TALK * 2).encode("utf-16"))
    with pytest.raises(DataError, match=r"dialogues_train.txt:1: is UTF-16, want UTF-8"):
        import_from(read_dailydialog, tmp_path)


@pytest.mark.parametrize("read", [read_dailydialog, read_empathetic_dialogues, read_esconv])
def test_an_empty_folder_says_where_the_layout_is(read, tmp_path, import_from):
    with pytest.raises(DataError, match="docs/corpora.md"):
        import_from(read, tmp_path)
