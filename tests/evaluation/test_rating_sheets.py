"""Blind sheets out and in: nobody can see who wrote what, filled sheets are counted by hand, what is amiss is named."""

import csv
import io
import json
import re

import pytest

from launch import rate
from epo.data.dialogue import DataError
from epo.evaluation.answers import write_replies
from epo.evaluation.filled_sheets import format_results, rating_results, read_sheet
from epo.evaluation.rating_sheets import RatingItem, draw_items, read_key
from epo.evaluation.suite import Answers

SAID = {
    "ours": {(f"d{i}", 1): f"Ours {i}." for i in range(9)},
    "theirs": {(f"d{i}", 1): "Ours 0." if i == 0 else f"Theirs {i}." for i in range(8)},
}
ITEMS = [
    RatingItem(f"p{i}", f"d{i}", 1, *(("ours", "theirs") if i % 2 else ("theirs", "ours")), "x", "y") for i in range(6)
]


def sheet(folder, name, lines, head="item,choice,comment", encoding="utf-8"):
    path = folder / f"{name}.csv"
    path.write_bytes("\n".join([head, *lines]).encode(encoding))
    return read_sheet(path, ITEMS)


def test_each_system_is_as_often_on_either_side_and_equal_replies_are_left_out():
    items, same = draw_items(SAID, 40, 0)
    assert same == {"ours / theirs": 1} and sorted(item.dialogue_id for item in items) == [f"d{i}" for i in range(1, 8)]
    assert abs(sum(item.system_a == "ours" for item in items) - 3.5) < 1
    assert all(item.reply_a == SAID[item.system_a][item.dialogue_id, 1] for item in items)
    assert all(item.reply_b == SAID[item.system_b][item.dialogue_id, 1] for item in items)
    assert draw_items(SAID, 40, 0) == (items, same) != draw_items(SAID, 40, 1)
    assert [item.item for item in items] == [f"p{i}" for i in range(1, 8)] and len(draw_items(SAID, 3, 0)[0]) == 3
    with pytest.raises(DataError, match="ours and theirs: no turn to which they reply differently"):
        draw_items({"ours": SAID["ours"], "theirs": SAID["ours"]}, 3, 0)


def test_wins_by_hand(tmp_path):
    """Ours is B in p0, p2, p4 and A in p1, p3, p5: Anna prefers it twice, theirs once, and once neither."""
    anna = sheet(tmp_path, "anna", ["p0,B,", "p1,a,", "p2,A,", "p3,Tie,no difference", "p4,,", "p5,same,"])
    assert anna.choices == {"p0": "B", "p1": "A", "p2": "A", "p3": "tie"}
    assert anna.amiss == {"blank": ["p4"], "other_label": ["p5: same"]}
    bo = sheet(tmp_path, "bo", ["p0;B;", "p0;A;", "x9;A;", "p2;A;gr\u00fcn"], "Item;Choice;Comment", "cp1252")
    assert bo.choices == {"p0": "B", "p2": "A"}
    assert bo.amiss == {"repeated": ["p0"], "unknown": ["x9"], "missing": ["p1", "p3", "p4", "p5"]}
    found = rating_results(ITEMS, [anna, bo])
    (pair,) = found["pairs"]
    assert (pair["wins"], pair["losses"], pair["ties"], pair["num_ratings"], pair["num_items"]) == (3, 2, 1, 6, 4)
    assert pair["win_rate"] == pytest.approx(3.5 / 6) and pair["interval"][0] < 3.5 / 6 < pair["interval"][1]
    assert found["strengths"] == pytest.approx({"ours": 3.5 / 6, "theirs": 2.5 / 6})
    assert found["kappa"] == 1.0 and found["alpha"] == 1.0
    words = format_results(found)
    assert "ours against theirs: preferred in 0.583" in words and "Cohen's kappa: 1.000" in words
    assert "bo: 2 choices; 1 repeated (p0); 1 unknown (x9); 4 missing (p1, p3, p4, p5)" in words


def test_three_systems_and_one_rater(tmp_path):
    items = [RatingItem("p1", "d1", 1, "a", "b", "", ""), RatingItem("p2", "d1", 1, "c", "b", "", "")]
    (tmp_path / "one.csv").write_text("item\tchoice\np1\tA\np2\tB\n")
    found = rating_results(items, [read_sheet(tmp_path / "one.csv", items)])
    assert [(pair["systems"], pair["wins"], pair["interval"]) for pair in found["pairs"]] == [
        (["a", "b"], 1, None), (["b", "c"], 1, None)
    ]  # fmt: skip
    assert found["kappa"] is None and found["alpha"] is None
    assert list(found["strengths"]) == ["a", "b", "c"] and found["strengths"]["c"] == pytest.approx(0, abs=1e-3)


def test_ratings_by_hand(tmp_path):
    """Ours is B in p0 and A in p1: Anna gives it 4 and 2, and leaves the rest blank or writes what is no rating."""
    head = "item,choice,empathy_a,EMPATHY_B"
    anna = sheet(tmp_path, "anna", ["p0,B,1,4", "p1,A,2,", "p2,A,6,3.5"], head)
    assert anna.ratings == {("p0", "empathy_a"): 1, ("p0", "empathy_b"): 4, ("p1", "empathy_a"): 2}
    assert anna.amiss["blank_rating"] == ["p1: empathy_b"]
    assert anna.amiss["other_rating"] == ["p2: empathy_a 6", "p2: empathy_b 3.5"]
    bo = sheet(tmp_path, "bo", ["p0,,3,4"], head)
    found = rating_results(ITEMS, [anna, bo])
    empathy = found["ratings"]["empathy"]
    assert empathy["systems"]["ours"]["mean"] == pytest.approx((4 + 2 + 4) / 3)
    assert empathy["systems"]["theirs"] == {"mean": 2.0, "interval": None, "num_ratings": 2}
    # Both rated 1, 3 and 4, 4. Of each cell 2 (1 - 3)^2 = 8 and 0; of all pairs 2 (4 + 9 + 9 + 1 + 1 + 0) = 48, over 3.
    assert empathy["alpha"] == pytest.approx(1 - 8 / (48 / 3)) and list(found["ratings"]) == ["empathy"]
    assert "empathy, 1 to 5: ours 3.33 (2.00 to 4.00) of 3, theirs 2.00 of 2; Krippendorff's alpha" in format_results(
        found
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "its first line is '', want the head of sheet.csv: item,choice"),
        ("name,mark\n1,A\n", "its first line is 'name,mark', want the head"),
        ("item,choice\np0,\n", "no sheet has a choice that counts; want A, B or tie in the column choice"),
    ],
)
def test_what_is_no_filled_sheet_is_refused(content, message, tmp_path):
    path = tmp_path / "bo.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        rating_results(ITEMS, [read_sheet(path, ITEMS)])


def test_two_sheets_of_one_name_and_a_key_that_is_none_are_refused(tmp_path):
    anna = sheet(tmp_path, "anna", ["p0,B,"])
    with pytest.raises(DataError, match="two sheets are called 'anna'; name each file by its rater"):
        rating_results(ITEMS, [anna, anna])
    with pytest.raises(DataError, match="no such key"):
        read_key(tmp_path / "gone")
    (tmp_path / "key").write_text('{"items": [{"item": "p1"}]}')
    with pytest.raises(DataError, match="not a key"):
        read_key(tmp_path / "key")


@pytest.fixture
def rated(corpus, examples, tmp_path, capsys):
    """Sheets of two rows of a report."""
    gold = examples[:4]
    rows = {
        "sft": ["(sad) =1+1", "Yes.", "Yes.", "Go on."],
        "sft+epo, rolled": ["No.", "(happy) Yes.", "</p>Why?", "So."],
    }
    for name, replies in rows.items():
        write_replies(tmp_path / "report" / "replies", Answers(name, replies), gold)
    (tmp_path / "report" / "report.json").write_text(
        json.dumps({"settings": {"data": str(corpus / "dialogues.jsonl")}})
    )
    command = ["sheets", "--report", str(tmp_path / "report"), "--systems", *rows, "--out", str(tmp_path / "out")]
    rate.main(command)
    return tmp_path, command, capsys.readouterr().out


def test_raters_get_what_hides_the_systems_and_the_numbers_come_back(rated, capsys):
    folder, command, told = rated
    assert "sft / sft+epo, rolled: 1 turns are left out" in told and "with 3 items" in told
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert not any("sft" in path.read_bytes().decode("latin-1") or "sft" in path.name for path in files)
    rows = list(csv.DictReader(io.StringIO((folder / "out" / "sheet.csv").read_text("utf-8-sig"))))
    assert "'=1+1" in {row[side] for row in rows for side in ("reply_a", "reply_b")}  # no formula, and no label
    page = (folder / "out" / "pairs.html").read_text()
    assert "&lt;/p&gt;Why?" in page and page.count("<section") == 3
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    key = folder / "out.key.json"
    ours = {item.item: "A" if item.system_a == "sft" else "B" for item in read_key(key)}
    (folder / "anna.csv").write_text("item,choice\n" + "".join(f"{item},{side}\n" for item, side in ours.items()))
    rate.main(["read", "--key", str(key), str(folder / "anna.csv"), "--out", str(folder / "found.json")])
    assert "sft against sft+epo, rolled: preferred in 1.000" in capsys.readouterr().out
    assert json.loads((folder / "found.json").read_text())["pairs"][0]["wins"] == 3
    with pytest.raises(DataError, match="sheet.csv: is there already, and may belong to filled sheets"):
        rate.main(command)


def test_rows_that_are_not_there_are_named(rated):
    folder, command, _ = rated
    with pytest.raises(ValueError, match=r"no kept replies of 'sft\+dpo'; there are those of: sft, sft\+epo_rolled"):
        rate.main([*command[:4], "sft", "sft+dpo", *command[6:]])
    with pytest.raises(ValueError, match="want two rows or more, each once"):
        rate.main([*command[:4], "sft", *command[6:]])
    with pytest.raises(ValueError, match="says no dialogues"):
        (folder / "report" / "report.json").unlink()
        rate.main([*command[:-1], str(folder / "other")])
    with pytest.raises(ValueError, match="unknown verb 'write'"):
        rate.main(["write"])


@pytest.mark.slow
def test_in_a_browser_the_page_is_whole(rated, chromium):
    folder, _, _ = rated
    for width in (360, 1000, 1600):
        for is_dark in (False, True):
            page = chromium.page((folder / "out" / "pairs.html").as_uri(), width, dark=is_dark)
            assert page.cut_off() == [] and page.errors() == []
    assert page.run("document.querySelectorAll('video, audio').length") == 3
