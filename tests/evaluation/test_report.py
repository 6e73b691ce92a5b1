"""The report: what is written can be read back, shown without harm, and merged."""

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest

from epo.emotions import EMOTIONS
from epo.evaluation.report import (
    ReportError,
    describe_hardware,
    format_table,
    merge_report,
    render_html,
    write_report,
)
from epo.evaluation.scoring import Cell
from epo.evaluation.suite import SUITES
from epo.evaluation.suites.emotion import describe_judge

_VOID = {"meta", "line", "rect", "path", "br"}


class _Outline(HTMLParser):
    """Checks that tags nest, and collects tag names and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in _VOID or (tag in ("rect", "path")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def announced(*suites):
    """Return the columns and breakdowns of some suites as a report holds them."""
    suites = [(name, SUITES.get(name)) for name in suites]
    return {
        "columns": [asdict(column) | {"suite": name} for name, suite in suites for column in suite.columns],
        "breakdowns": [asdict(table) | {"suite": name} for name, suite in suites for table in suite.breakdowns],
    }


@pytest.fixture
def report():
    def row(name, score, facts):
        return {
            "name": name,
            "kind": "main" if name == "sft+epo" else "base",
            "emotion_score": score,
            "emotion_score_interval": (score - 0.06, score + 0.06),
            "fact_recall": facts,
            "distinct_1": 0.94,
            "prompt_tokens": 65.25,
            "by_gold_emotion": {"sad": Cell(score, (0.25, 0.75), 12, 8), "happy": Cell(0.5, None, 3, 1)},
            "by_user_emotion": {"fearful": Cell(0.125, (0.0, 0.25), 15, 9)},
        }

    confusion = (np.eye(len(EMOTIONS), dtype=int) * 40 + 2).tolist()
    return {
        **announced("emotion", "degenerate", "facts", "diversity", "lengths"),
        "rows": [{"name": "majority", "emotion_score": 0.31}, row("sft", 0.45, 0.97), row("sft+epo", 0.8125, 0.96)],
        "emotion_recognition": {"accuracy": 0.87, "macro_f1": 0.86, "confusion": confusion, "num_clips": 350},
        "history_reduction": 0.902,
        "chance": {"majority": 0.31, "sum_p2": 0.2},
        "examples": [
            {"dialogue_id": "d1", "user_emotion": "sad", "transcript": "I went home.", "gold": "I am so sorry.",
             "replies": {"sft": "All right.", "sft+epo": "So sorry, Ann."}}
        ],
        "seed": 0,
        "settings": {"temperature": 1.0},
    }  # fmt: skip


def test_json_holds_every_key_and_value(report, tmp_path):
    report["rows"].append({"name": "odd", "emotion_score": float("nan"), "fact_recall": np.float32(0.5)})
    write_report(tmp_path, report)
    back = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in back["rows"]] == ["majority", "sft", "sft+epo", "odd"]
    assert {column["key"] for column in back["columns"]} >= {"emotion_score", "degenerate", "history_tokens"}
    assert (back["rows"][3]["emotion_score"], back["rows"][3]["fact_recall"]) == (None, 0.5)
    assert back["rows"][2]["emotion_score_interval"] == pytest.approx([0.7525, 0.8725])
    assert back["history_reduction"] == 0.902
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_html_is_well_formed_self_contained_and_shows_the_numbers(report, tmp_path):
    write_report(tmp_path, report)
    page = (tmp_path / "report.html").read_text()
    outline = _Outline(page)
    text = " ".join(" ".join(outline.text).split())
    for shown in ("0.812", "90.2 %", "So sorry, Ann.", "majority 0.31", "Σp² 0.20", "65.2", "–"):
        assert shown in text
    assert "script" not in outline.tags
    assert not re.search(r"(src|href)\s*=|url\(|@import", page)
    # Bars: three rows with an EmotionScore, two with fact recall, one of four of recognition.
    assert outline.tags.count("rect") == 3 + 2 + 1


def test_html_escapes_what_the_data_says(report):
    attack = "<script>alert(1)</script>\"' onload=x"
    report["rows"].append({"name": attack, "emotion_score": 0.5})
    report["examples"][0]["replies"][attack] = attack
    report |= {"notes": [attack], "settings": {attack: attack}}
    report["columns"].append({"key": "odd", "heading": attack, "explanation": attack})
    report["rows"][1]["odd"] = 0.5
    report["basis"] = {"emotion": {"text": attack, "short": attack}}
    outline = _Outline(render_html(report))
    assert "script" not in outline.tags
    assert attack in "".join(outline.text)


def test_a_report_of_names_alone_still_renders(tmp_path):
    write_report(tmp_path, {"rows": [{"name": "sft"}], "emotion_recognition": None})
    assert "sft" in "".join(_Outline((tmp_path / "report.html").read_text()).text)


def test_no_chart_is_drawn_of_nothing(report, tmp_path):
    assert "Fact recall of each row" in render_html(report)
    bare = render_html(
        announced("emotion", "facts") | {"rows": [{"name": "sft", "emotion_score": 0.5, "fact_recall": None}]}
    )
    assert "EmotionScore of each row" in bare and "Fact recall" not in bare


def test_a_number_that_no_column_announces_is_shown_under_its_key():
    """As in a report that another version wrote."""
    old = {"rows": [{"name": "sft", "kindness": 0.25, "by": {}, "kindness_interval": [0.0, 0.5], "is_odd": True}]}
    assert format_table(old).splitlines()[0].split() == ["kindness"]
    text = " ".join(" ".join(_Outline(render_html(old)).text).split())
    assert "sft 0.250 0.00–0.50" in text and "is_odd" not in text


def test_the_clips_of_each_emotion_are_counted(report):
    counts = np.diag(range(7)).tolist()
    page = render_html({"rows": [{"name": "sft"}], "emotion_recognition": {"accuracy": 1.0, "confusion": counts}})
    assert [int(n) for n in re.findall(r"<small>n (\d+)</small></th><td", page)] == list(range(7))


def test_merge_sets_keys_and_rewrites_both(report, tmp_path):
    write_report(tmp_path, report)
    merged = merge_report(
        tmp_path, {"seconds": 630.0, "peak_rss_mib": 3072.0, "stages": [{"name": "lm", "seconds": 75.5}]}
    )
    assert merged["rows"][1]["name"] == "sft"
    assert json.loads((tmp_path / "report.json").read_text())["seconds"] == 630.0
    page = (tmp_path / "report.html").read_text()
    assert "10.5 min" in page
    assert "75.5" in page


def test_merge_says_what_is_missing(tmp_path):
    with pytest.raises(ReportError, match=r"report.json: no such report; run launch/evaluate.py first"):
        merge_report(tmp_path, {})
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ReportError, match="not JSON"):
        merge_report(tmp_path, {})


@pytest.mark.parametrize(
    ("bad", "message"),
    [({}, "'rows' must be a list"), ({"rows": []}, "at least one row"), ({"rows": [{"x": 1}]}, "row 0 has no 'name'")],
)
def test_a_report_without_rows_is_refused_and_nothing_is_written(bad, message, tmp_path):
    with pytest.raises(ReportError, match=message):
        write_report(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def test_the_terminal_table_lines_up(report, tmp_path):
    write_report(tmp_path, report)
    lines = format_table(json.loads((tmp_path / "report.json").read_text())).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 110
    assert lines[0].split() == ["EmotionScore", "Fact", "recall", "Dist-1"]  # what no row has is not shown
    assert lines[-1].split() == ["sft+epo", "0.812", "0.960", "0.940"]


@pytest.mark.parametrize(
    ("accuracy", "majority", "told"),
    [
        (0.9, 0.31, "right on 0.900 of the held-out gold replies; always the commonest label: 0.310."),
        (0.43, 0.42, "always the commonest label: 0.420. That is hardly better, so EmotionScore says little here."),
    ],
)
def test_how_good_the_judge_is_stands_beside_its_score(report, tmp_path, accuracy, majority, told):
    report["rows"][1]["emotion_score_sampled"] = 0.5
    report |= {"basis": {"emotion": describe_judge(accuracy, majority)}, "gold_degenerate": 0.05}
    write_report(tmp_path, report)
    table = format_table(json.loads((tmp_path / "report.json").read_text())).splitlines()
    assert table[-1].startswith("EmotionScore rests on a judge of words") and told in table[-1]
    text = " ".join(" ".join(_Outline((tmp_path / "report.html").read_text()).text).split())
    assert text.count(told) == 4  # the chart, both tables by emotion, and how each number was made
    assert text.count(f"judge {accuracy:.2f}, commonest label {majority:.2f}") == 2  # heads of greedy and sampled
    assert "Of the gold replies themselves 5.0 % are degenerate" in text


def test_tables_by_emotion_are_headed_by_what_they_are_grouped_by(report):
    """Gold replies are happy or sad; the one user emotion stands in the other table, each with counts and intervals."""
    text = " ".join(" ".join(_Outline(render_html(report)).text).split())
    gold, user = text.split("EmotionScore by emotion of the gold reply")[1].split("EmotionScore by emotion of the user")
    assert "happy n 3 of 1" in gold and "sad n 12 of 8" in gold and "sft+epo 0.50 0.81 0.25–0.75" in gold
    assert "fearful n 15 of 9" in user.split("Replies side by side")[0] and "0.12 0.00–0.25" in user
    assert "n 15" not in gold and "over dialogues" in gold
    assert "disgust" not in gold  # which no gold reply is: an empty column says nothing


def test_chance_of_recognition_is_that_of_the_clips(report):
    """Of clips that are 75 % neutral; one seventh appears nowhere."""
    report["emotion_recognition"] |= {"majority": 0.75, "sum_p2": 0.59, "shuffled": 0.58}
    report["rows"] = [{"name": "sft"}]
    report["chance"] = {}
    text = " ".join(" ".join(_Outline(render_html(report)).text).split())
    assert "majority 0.75" in text and "Σp² 0.59" in text and "always the commonest label 0.75" in text
    assert "0.14" not in text and "chance" not in text.split("Emotion recognition")[2].split("Shown (row)")[0]


def test_hardware_is_named():
    hardware = describe_hardware()
    assert hardware["cores"] >= 1
    assert hardware["memory_gib"] > 0.1
