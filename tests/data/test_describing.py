"""Describing: counts by hand, spreads, findings, tables that fit, charts that add up."""

import pytest

from epo.data.clip_measures import ClipMeasures
from epo.data.describing import Description, Spread
from epo.data.dialogue import Clip, Dialogue, Turn
from epo.data.examination import ClipReport
from epo.data.pages.description_page import HEIGHT, WIDTH, draw_bars
from epo.data.pages.description_tables import Table, format_tables, make_tables


def user(text="I lost it.", emotion="sad", **extra):
    return Turn("user", text, emotion, **extra)


def reply(text="I am sorry, Mira.", emotion="sad", **extra):
    return Turn("assistant", text, emotion, **extra)


def describe(*dialogues):
    description = Description()
    for dialogue in dialogues:
        description.add(dialogue, {"x": 1})
    return description


def test_what_is_counted_is_what_there_is(tmp_path):
    clip = Clip(tmp_path / "a.wav", None, 1.0, 3.5)
    first = Dialogue(
        "a", (user(clip=clip, name="Ann"), reply(), reply("Oh.", None)), "en", "train", {1: ("Mira", "Otto")}, "g"
    )
    second = Dialogue("b", (user(emotion=None, name="Ann"), reply(emotion="happy", labelled_by="m")), "de", "train")
    row = describe(first, second).as_json()["splits"]["train"]
    assert row["dialogues"] == 2 and row["groups"] == 1 and row["turns"] == {"user": 2, "assistant": 3}
    assert row["labels"] == {"user": {"sad": 1, "none": 1}, "assistant": {"sad": 1, "none": 1, "happy": 1}}
    assert row["machine_labels"] == {"m": 1}
    assert row["turns_a_dialogue"] == {"count": 2, "median": 2, "p95": 3, "least": 2, "most": 3}
    assert row["words_a_reply"] == {"count": 2, "median": 4, "p95": 4, "least": 4, "most": 4}  # "Oh." is none
    assert row["clips"] == {"any": 1, "audio": 1, "video": 0} and row["marked_hours"] == round(2.5 / 3600, 3)
    assert row["most_frequent_speakers"] == {"Ann": 2} and row["languages"] == {"en": 1, "de": 1}
    assert row["facts"] == {"stated": 2, "held": 1} and row["uses"] == {"x": 2}


def test_findings_say_what_to_look_at():
    shared = (user(), reply())
    description = describe(
        Dialogue("a", shared, split="train", group="g", facts={1: ("Otto",)}),
        Dialogue("b", shared, split="test", group="g"),
        Dialogue("c", (user("你好吗", labelled_by="m"), reply("Fine.")), split="test"),
        Dialogue("d", (user("New", None), reply("Old", None))),
    )
    assert description.findings() == [
        "no validation dialogues",
        "1 facts are not in the words of the reply they belong to: recall of the gold is below 1; such as a turn 1: "
        "Otto",
        "1 turns are in another script than that of their language 'en'; such as c turn 0: 你好吗",
        "1 groups are in more than one split: 'g'",
        "1 test dialogues have the very words of a train dialogue",
        "1 dialogues repeat the words of another",
        "1 test labels are a model's: scores on them follow that model",
    ]
    assert description.in_order() == ["train", "test", "no split"]


def test_a_corpus_of_clips_alone_serves_the_extractor_alone():
    description = describe(*(Dialogue(split, (user(split),), split=split) for split in ("train", "validation", "test")))
    assert description.findings() == [
        "train has no assistant turn, so there is no reply to learn: it serves the extractor alone"
    ]
    assert "Emotions of assistant turns" not in [table.title for table in make_tables(description, {}, {})]


def test_quantiles_by_hand():
    spread = Spread()
    assert spread.as_json() == {"count": 0, "median": None, "p95": None, "least": None, "most": None}
    for value in range(1, 101):
        spread.add(value)
    assert (spread.quantile(0.5), spread.quantile(0.95), spread.quantile(1.0)) == (50, 95, 100)
    spread.add(7, times=900)
    assert spread.quantile(0.5) == 7


def test_tables_are_as_wide_as_they_need_and_leave_out_rows_of_nothing():
    table = Table("Title", ("train", "x"), (("语言", "1,000", "2"), ("e\u0301", "3", "4")))
    assert format_tables([table]).splitlines() == ["Title  train  x", "语言   1,000  2", "e\u0301          3  4"]
    tables = make_tables(describe(Dialogue("a", (user(),), split="train")), {"x": "SFT"}, {})
    names = [row[0] for row in tables[0].rows]
    assert "user turns" in names and "assistant turns" not in names and "with sound" not in names
    assert tables[1].rows == (("SFT", "1"),)


def test_bars_are_shares_of_their_series():
    chart = draw_bars("t", ("a", "b"), [[1, 3], [0, 0], [2, 2]])
    assert chart.top == 80
    assert [(bar[4], bar[5]) for bar in chart.bars] == [(0, "25.0 %"), (0, "75.0 %"), (2, "50.0 %"), (2, "50.0 %")]
    left, top, width, height, _, _ = chart.bars[1]
    assert (left, top + height) == (WIDTH / 2 + (WIDTH / 2 - 90) / 2, HEIGHT) and height == pytest.approx(
        HEIGHT * 75 / 80
    )
    assert width == 30  # at most
    assert draw_bars("t", ("a",), [[0]]).bars == ()


def test_clips_are_measured_by_kind():
    measures = ClipMeasures(max_seconds=30.0)
    measures.add("a", ClipReport(audio_seconds=2.04, rms_dbfs=-20.4))
    measures.add("b", ClipReport(audio_seconds=30.0, video_seconds=1.0, rms_dbfs=-70.0, is_silent=True, is_frozen=True))
    measures.add("c", ClipReport(video_seconds=0.1))
    measures.add("d", ClipReport(audio_fault="d.wav: the file is empty"))
    row = measures.as_json()
    assert {key: row[key] for key in ("examined", "faulty", "silent", "frozen", "too short", "too long")} == {
        "examined": 4, "faulty": 1, "silent": 1, "frozen": 1, "too short": 1, "too long": 1
    }  # fmt: skip
    assert row["loudness_dbfs"]["histogram"] == {-70: 1, -20: 1}
    assert row["seconds"] == {"median": 2.0, "p95": 30.0, "least": 0.1, "most": 30.0}
    assert row["examples"]["faulty"] == ["d: d.wav: the file is empty"]
