"""Rankings: every way to write prompt, chosen and rejected gives the same pair, and oddities are counted."""

import csv
import json

import pytest

from epo.data.checking import check_file
from epo.data.corpora.import_report import ImportReport
from epo.data.dialogue import DataError, read_dialogues
from epo.data.splits import SplitShares
from epo.preferences.import_rankings import import_rankings
from epo.preferences.pair import read_pairs

SHARES = SplitShares()


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def load(path, report=None, columns=None):
    out = path.parent / "out"
    card = import_rankings(path, out, {} if columns is None else columns, SHARES, report or ImportReport())
    dialogues = {dialogue.id: dialogue for dialogue in read_dialogues(out / "dialogues.jsonl")}
    assert check_file(out, decode=False).faults == []
    return dialogues, read_pairs(out / "pairs.jsonl", dialogues), card


def write(tmp_path, *rows):
    path = tmp_path / "rankings.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


PROMPT = [user("I lost my job."), bot("Oh no."), user("What now?")]
HH = "\n\nHuman: I lost my job.\n\nAssistant: Oh no.\n\nHuman: What now?\n\nAssistant:"
ALIKE = {
    "messages": {"prompt": PROMPT, "chosen": [bot("Rest.")], "rejected": [bot("Work.")]},
    "implicit": {"chosen": [*PROMPT, bot("Rest.")], "rejected": [*PROMPT, bot("Work.")]},
    "prompt beside conversations": {
        "prompt": "What now?", "chosen": [*PROMPT, bot("Rest.")], "rejected": [*PROMPT, bot("Work.")], "messages": [],
    },
    "hh": {"chosen": f"{HH} Rest.", "rejected": f"{HH} Work."},
    "hh with prompt": {"prompt": HH, "chosen": " Rest.", "rejected": " Work."},
    "replies as words": {"prompt": PROMPT, "chosen": "Rest.", "rejected": "Work."},
    "messages as text": {"prompt": json.dumps(PROMPT), "chosen": "Rest.", "rejected": "Work."},
    "other names": {
        "prompt": [
            {"from": "human", "value": "I lost my job."}, {"from": "gpt", "value": "Oh no."},
            {"from": "Human", "value": [{"type": "text", "text": "What now?"}]},
        ],
        "chosen": "Rest.", "rejected": "Work.",
    },
    "other blanks": {"prompt": HH.replace("job.", "job. "), "chosen": "Rest.\u200b", "rejected": "Work."},
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_every_way_to_write_a_ranking_gives_the_same(name, tmp_path):
    dialogues, pairs, _ = load(write(tmp_path, ALIKE[name]))
    (dialogue,) = dialogues.values()
    assert [(turn.speaker, turn.text) for turn in dialogue.turns] == [
        ("user", "I lost my job."), ("assistant", "Oh no."), ("user", "What now?"), ("assistant", "Rest."),
    ]  # fmt: skip
    (pair,) = pairs
    assert (pair.reply.turn, pair.chosen, pair.rejected) == (3, "Rest.", "Work.")
    assert pair.chosen_emotion is pair.rejected_emotion is None and pair.source == "unnamed"
    assert dialogue.id == "prompt-" + dialogue.id[-16:]
    assert dialogue.split in ("train", "validation", "test") and dialogue.background is None


def test_all_of_them_are_one_dialogue(tmp_path):
    report = ImportReport()
    dialogues, pairs, card = load(write(tmp_path, *ALIKE.values()), report)
    assert len(dialogues) == 1 and len(pairs) == len(ALIKE)
    assert report.notes["pair that comes twice"] == len(ALIKE) - 1
    assert sum(card["pairs"].values()) == len(ALIKE) and sum(card["dialogues"].values()) == 1


def test_system_messages_are_the_background(tmp_path):
    system = [{"role": "system", "content": "You are kind."}]
    row = {"prompt": [*system, *PROMPT], "chosen": "Rest.", "rejected": "Work."}
    whole = {"chosen": [*system, user("Hi."), bot("Hey.")], "rejected": [*system, user("Hi."), bot("No.")]}
    dialogues, _, _ = load(write(tmp_path, row, whole))
    assert [dialogue.background for dialogue in dialogues.values()] == ["You are kind."] * 2
    assert [len(dialogue.turns) for dialogue in dialogues.values()] == [4, 2]


def test_ties_and_equal_replies_are_left_out_and_counted(tmp_path):
    def row(**changes):
        return {"prompt": "Hi.", "chosen": "Hey.", "rejected": "No."} | changes

    report = ImportReport()
    path = write(
        tmp_path, row(score_chosen=8.0, score_rejected=3.5), row(score_chosen=4, score_rejected=4), row(margin=0.0),
        row(rejected="hey. "), row(chosen=[user("Hi."), bot("Hey.")], rejected=[user("Hi."), bot("Hey.")]),
        row(rejected="Go.", margin="0.5"),
    )  # fmt: skip
    dialogues, pairs, _ = load(path, report)
    assert [pair.scores for pair in pairs] == [{"score_chosen": 8.0, "score_rejected": 3.5}, {"margin": 0.5}]
    assert report.notes == {"tie: left out": 2, "replies that are the same: left out": 2}
    assert len(dialogues) == 1


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"prompt": "Hi.", "chosen": "A", "rejected": "B", "margin": -1}, "ranking against its own scores"),
        ({"prompt": "Hi.", "chosen": "A", "rejected": "B", "margin": "much"}, "score that is no number"),
        ({"prompt": "Hi.", "chosen": "A", "rejected": "\u200b"}, "ranking without words"),
        ({"prompt": "Hi.", "chosen": "A", "rejected": None}, "ranking without words"),
        ({"prompt": "Hi.", "chosen": [], "rejected": "B"}, "ranking without words"),
        ({"chosen": "A", "rejected": "B"}, "prompt that does not end with the user"),
        ({"prompt": PROMPT[:2], "chosen": "A", "rejected": "B"}, "prompt that does not end with the user"),
        ({"prompt": [user("Hi."), {"role": "tool", "content": "3"}], "chosen": "A", "rejected": "B"},
         "message of an unknown role"),
        ({"prompt": ["Hi."], "chosen": "A", "rejected": "B"}, "message that is no object"),
        ({"prompt": [user([{"type": "image"}])], "chosen": "A", "rejected": "B"}, "message that is not text alone"),
        ({"prompt": [user("")], "chosen": "A", "rejected": "B"}, "message without words"),
        ({"prompt": [user("Hi."), {"role": "system", "content": "x"}, user("Ho.")], "chosen": "A", "rejected": "B"},
         "system message in mid-conversation"),
        ({"prompt": "Hi.", "chosen": [user("A")], "rejected": "B"}, "reply that is not the assistant's"),
        ({"chosen": [user("Hi."), bot("A"), user("x"), bot("y")], "rejected": [user("Hi."), bot("B")]},
         "conversations that part before their last reply"),
        ({"prompt": "Ho.", "chosen": [user("Hi."), bot("A")], "rejected": [user("Hi."), bot("B")]},
         "prompt of another conversation"),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_is_named_and_skipped(tmp_path, row, kind):
    path = write(tmp_path, {"prompt": "Yes?", "chosen": "A", "rejected": "B"}, row)
    with pytest.raises(DataError, match=rf"rankings\.jsonl:2.*{kind}"):
        load(path)
    report = ImportReport("skip")
    dialogues, _, card = load(path, report)
    assert report.faults == {kind: 1} and len(dialogues) == 1
    assert card["irregularities"]["faults"] == {kind: 1}


def test_columns_have_other_names(tmp_path):
    path = write(tmp_path, {"question": "Hi.", "a": "Hey.", "b": "No.", "gap": 2})
    with pytest.raises(DataError, match="no column 'chosen', 'rejected'; there are 'question', 'a', 'b', 'gap'; say"):
        load(path)
    _, (pair,), _ = load(path, columns={"prompt": "question", "chosen": "a", "rejected": "b", "margin": "gap"})
    assert (pair.chosen, pair.scores) == ("Hey.", {"margin": 2.0})


def rows_of_a_table():
    return [
        {"prompt": f"Line\n{i}, \u201cwell\u201d", "chosen": "A\tb", "rejected": "C", "margin": "1"} for i in range(3)
    ]


def write_kind(path, rows):
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), path)
    elif path.name == "array.json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "array.json", "a.csv", "a.tsv", "a.parquet"])
def test_every_kind_of_file_gives_the_same(tmp_path, name):
    _, pairs, _ = load(write_kind(tmp_path / name, rows_of_a_table()))
    assert [(pair.chosen, pair.scores) for pair in pairs] == [("A\tb", {"margin": 1.0})] * 3
    assert len({pair.dialogue_id for pair in pairs}) == 3


def test_parquet_holds_messages(tmp_path):
    _, (pair,), _ = load(write_kind(tmp_path / "a.parquet", [ALIKE["messages"]]))
    assert (pair.reply.turn, pair.chosen) == (3, "Rest.")


def test_files_of_no_use_are_named(tmp_path):
    for name, content, message in [
        ("a.xlsx", b"PK", "a file ending in '.xlsx' is not known; want one of .jsonl"),
        ("a.parquet", b"PAR1", "cannot be read as Parquet"),
        ("a.csv", "prompt,chosen\n".encode("utf-16"), "is UTF-16, want UTF-8"),
        ("b.csv", b"prompt,chosen,rejected\n\x92,a,b\n", "b.csv:2: row is not UTF-8; convert"),
        ("c.csv", b"prompt,chosen,rejected\na,b\n", "c.csv:2: row has the wrong number of columns"),
        ("a.json", b'[{"prompt": 1}, 3]', "entry 0: no column 'chosen', 'rejected'"),
        ("b.json", b"[3]", "entry 0: 3: entry is not a JSON object"),
        ("c.json", b'[{"a": 1, "a": 2}]', "key 'a' comes twice"),
        ("d.csv", b"prompt,chosen,chosen,rejected\na,b,c,d\n", "d.csv:1: column 'chosen' comes twice"),
        ("a.jsonl", b"", "not one usable ranking; it holds nothing"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load(tmp_path / name)
    with pytest.raises(DataError, match="no such file; give the file with the rankings"):
        load(tmp_path / "none.jsonl")


def test_a_prompt_never_stands_in_two_splits(tmp_path):
    """Nor does a conversation that goes on from the same opening; shares hold about."""
    rows = []
    for i in range(400):
        opening = user(f"Opening {i}")
        for reply in ("A", "B"):
            rows.append({"prompt": [opening], "chosen": reply, "rejected": "C"})
        rows.append({"prompt": [opening, bot("A"), user("And?")], "chosen": "So.", "rejected": "No."})
    dialogues, pairs, card = load(write(tmp_path, *rows))
    assert len(dialogues) == 800 and len(pairs) == 1200
    splits = {}
    for dialogue in dialogues.values():
        splits.setdefault(dialogue.turns[0].text, set()).add(dialogue.split)
    assert all(len(found) == 1 for found in splits.values())
    assert 40 <= card["dialogues"]["validation"] <= 120 and 40 <= card["dialogues"]["test"] <= 120
