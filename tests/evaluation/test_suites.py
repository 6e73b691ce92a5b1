"""Suites: one file or one call brings columns from the outside; what cannot be given is said or refused."""

import json
import sys
from dataclasses import replace

import pytest

from epo.data.cache import ClipCache
from epo.evaluation import variants
from epo.evaluation.contestants import Contestant, Generation
from epo.evaluation.evaluating import SuiteError, choose_suites, compare, evaluate
from epo.evaluation.report import format_table, write_report
from epo.evaluation.scoring import scored, scored_cell
from epo.evaluation.stress_tests import stress_tests
from epo.evaluation.suite import SUITES, Answers, Breakdown, Column, Suite, Task
from epo.evaluation.suites import emotion
from epo.extras import MissingExtraError
from epo.registry import TakenNameError, UnknownNameError
from epo.training.collate import PromptBuilder

OURS = [
    "appropriateness",
    "degenerate",
    "diversity",
    "emotion",
    "facts",
    "failures",
    "gold_nll",
    "lengths",
    "memory",
    "ngrams",
    "overlap",
    "recognition",
    "rewards",
    "strategy",
    "thought",
    "trajectories",
    "turns",
    "validity",
]


def count_questions(task, answers):
    return scored("questions", [float("?" in words) for words in answers.words], task.dialogue_ids)


QUESTIONS = Suite(
    columns=(Column("questions", "Questions", "Share of replies that ask something back.", None, has_interval=True),),
    score=count_questions,
)


@pytest.fixture
def register():
    """Register suites for one test."""
    names = []

    def register(name, suite):
        SUITES.register(name, suite)
        names.append(name)

    yield register
    for name in names:
        SUITES.forget(name)


@pytest.fixture
def gold(examples):
    return examples[4:7]


def test_ours_are_those_of_the_folder():
    assert SUITES.names() == OURS
    for name, suite in SUITES.all().items():
        assert suite.columns or suite.breakdowns or suite.summarise, name
        assert all(column.explanation.endswith(".") for column in suite.columns), name


def test_a_suite_from_outside_is_drawn_everywhere(register, gold, tmp_path):
    register("questions", QUESTIONS)
    report = evaluate(["(sad) Why?", "I see.", "Did he?"], gold)
    assert report["rows"][-1]["questions"] == pytest.approx(2 / 3)
    write_report(tmp_path, report)
    back = json.loads((tmp_path / "report.json").read_text())
    assert back["columns"][-1]["key"] == "questions" and len(back["rows"][-1]["questions_interval"]) == 2
    head, _, *rows = format_table(back).splitlines()
    assert head.split()[-1] == "Questions" and rows[-1].split()[-1] == "0.667"
    page = (tmp_path / "report.html").read_text()
    assert "Share of replies that ask something back." in page and ">Questions</th>" in page and ">0.667<" in page


def test_an_installed_package_brings_a_suite(tmp_path, monkeypatch, gold):
    (tmp_path / "their_suite.py").write_text(
        "from epo.evaluation.suite import Column, Suite\n"
        "SUITE = Suite(columns=(Column('marks', 'Marks', 'Exclamation marks.'),),\n"
        "              score=lambda task, answers: {'marks': sum(w.count('!') for w in answers.words)})\n"
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[epo.suites]\nmarks = their_suite:SUITE\n")
    from epo import registry

    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entry_points.cache_clear()
    try:
        assert evaluate(["!", "!!", "no"], gold, ["marks"])["rows"] == [{"name": "model", "kind": "main", "marks": 3}]
    finally:
        monkeypatch.undo()
        registry._entry_points.cache_clear()
        SUITES._loaded.pop("marks", None)
        sys.modules.pop("their_suite", None)


def test_what_is_left_out_is_noted(gold):
    """Replies alone: no model, no pairs, no training replies to learn emotions from."""
    report = evaluate(["Yes.", "No.", "Why?"], [replace(reply, facts=()) for reply in gold])
    assert [note.split(":")[0] for note in report["notes"]] == [
        f"Suite {name} is left out"
        for name in ("appropriateness", "emotion", "facts", "gold_nll", "lengths", "recognition", "rewards")
    ]
    assert report["notes"][0].endswith("a judge of words learns from two emotions or more: label the assistant turns.")
    assert {column["suite"] for column in report["columns"]} == {"degenerate", "overlap", "ngrams", "diversity"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("emotion", "suite 'emotion' cannot be given: the training replies are labelled with no emotion, and a judge"),
        ("rewards", "suite 'rewards' cannot be given: there are only replies, and no model to ask"),
        ("recognition", "'recognition' cannot be given: there are only replies"),
    ],
)
def test_what_was_named_and_cannot_be_given_is_refused(gold, name, message):
    with pytest.raises(SuiteError, match=message):
        evaluate(["Yes.", "No.", "Why?"], gold, ["overlap", name])


def test_labels_on_one_side_are_not_enough(gold, examples):
    training = [replace(examples[0], emotion="sad"), replace(examples[0], emotion="happy")]
    assert Task(gold, training=training).lacks("emotions") is None
    unlabelled = [replace(reply, emotion=None) for reply in gold]
    assert Task(unlabelled, training=training).lacks("emotions").startswith("the replies to give are labelled with no")
    wordless = [training[0], replace(training[1], text="...")]
    assert "labelled with sad, and a judge" in Task(gold, training=wordless).lacks("emotions")
    assert "adapter, or name the reference" in Task(gold, has_model=True).lacks("reference")


def test_unknown_missing_and_taken_names(gold, register, monkeypatch):
    said = ["Yes.", "No.", "Why?"]
    with pytest.raises(UnknownNameError, match="no suite is called 'overlapp'; the nearest is 'overlap'"):
        evaluate(said, gold, ["overlapp"])
    with pytest.raises(TakenNameError, match="suite 'overlap': the name is taken already"):
        SUITES.register("overlap", QUESTIONS)
    with pytest.raises(SuiteError, match="suites: none was named, want some of appropriateness, degenerate"):
        evaluate(said, gold, [])
    with pytest.raises(ValueError, match=r"bert_score_model"):
        evaluate(said, gold, ["overlap"], bert_score_model="/nowhere/at/all")

    def missing(name, get=SUITES.get):
        if name == "facts":
            raise MissingExtraError("suite 'facts' needs counting: pip install counting")
        return get(name)

    monkeypatch.setattr(SUITES, "get", missing)
    assert (
        "Suite facts is left out: suite 'facts' needs counting: pip install counting." in evaluate(said, gold)["notes"]
    )
    with pytest.raises(MissingExtraError, match="pip install counting"):
        evaluate(said, gold, ["facts"])


def test_what_takes_long_is_given_on_request_alone(register, gold):
    register("slow_questions", replace(QUESTIONS, is_on_request=True))
    chosen = choose_suites(None, Task(gold))
    assert "slow_questions" not in chosen.suites and "slow_questions" not in " ".join(chosen.notes)
    assert list(choose_suites(["slow_questions"], Task(gold)).suites) == ["slow_questions"]


def test_keys_are_one_suites_own(register, gold):
    said = ["Yes.", "No.", "Why?"]
    register("copy", replace(QUESTIONS, columns=(Column("token_f1", "F1", "Again."),)))
    with pytest.raises(SuiteError, match="suite 'copy': key 'token_f1' is suite 'overlap''s already"):
        evaluate(said, gold)
    register("liar", Suite(columns=(Column("true", "True", "It."),), score=lambda task, answers: {"flase": 1.0}))
    with pytest.raises(SuiteError, match="suite 'liar' returned 'flase', which is none of its columns"):
        evaluate(said, gold, ["liar"])


def test_a_table_by_label_and_what_numbers_rest_on(register, gold, tmp_path):
    def score(task, answers):
        return {"warmth": 1.0, "by_length": {"short": scored_cell([0.0, 0.5, 0.25], task.dialogue_ids)}}

    register(
        "warmth",
        Suite(
            columns=(Column("warmth", "Warmth", "By a thermometer.", is_charted=True, levels={"room": "room.deg"}),),
            breakdowns=(Breakdown("by_length", "Warmth by length", "As above.", ("short", "long")),),
            score=score,
            summarise=lambda task, contestant: {
                "room": {"deg": 0.5},
                "basis": {"text": "a thermometer.", "short": "t"},
            },
        ),
    )
    report = evaluate(["Yes.", "No.", "Why?"], gold, ["warmth", "overlap"])
    write_report(tmp_path, report)
    page = (tmp_path / "report.html").read_text()
    for shown in ("Warmth of each row", "room 0.50", "Warmth by length", "<small>t</small>", "rests on a thermometer."):
        assert shown in page, shown
    assert format_table(report).splitlines()[-1] == "Warmth rests on a thermometer."


def test_the_same_to_everybody_is_a_row_of_its_own(gold, examples):
    """The commonest emotion is sad; the first sad reply is read as happy, so the second is said."""
    words = [
        ("glad news", "happy"),
        ("glad news", "happy"),
        ("glad news", "sad"),
        ("sorry", "sad"),
        ("so sorry", "sad"),
    ]
    training = [replace(examples[0], text=text, emotion=label) for text, label in words]
    task = Task(gold, training=training)
    assert emotion.baseline(task) == Answers("majority", ["sorry"] * 3, kind="base")
    report = evaluate(["Yes.", "No.", "Why?"], gold, training=training)
    assert [row["name"] for row in report["rows"]] == ["majority", "model"]
    assert report["chance"]["majority"] == pytest.approx(2 / 3) == report["rows"][0]["emotion_score"]
    assert task.once(emotion.fit_judge) is task.once(emotion.fit_judge)


def test_what_the_judge_is_worth_is_told():
    assert describe(0.9, 0.31) == "right on 0.900 of the held-out gold replies; always the commonest label: 0.310."
    assert describe(0.43, 0.42).endswith("0.420. That is hardly better, so EmotionScore says little here.")


def describe(accuracy, majority):
    return emotion.describe_judge(accuracy, majority)["text"].removeprefix("a judge of words that is ")


@pytest.mark.parametrize(
    ("answerer", "message"),
    [("Yes.", "one string for 3 gold"), (["Yes."], "1 replies for 3 gold replies; want a list with one reply each")],
)
def test_one_reply_each(gold, answerer, message):
    with pytest.raises(SuiteError, match=message):
        evaluate(answerer, gold)


def test_twin_rows_and_nothing_to_give_are_refused(gold):
    task = Task(gold)
    twins = [Answers("a", ["x"] * 3), Answers("a", ["y"] * 3)]
    with pytest.raises(SuiteError, match="two rows would be called 'a'"):
        compare(twins, task, choose_suites(["overlap"], task), Generation())
    with pytest.raises(SuiteError, match="gold holds no reply"):
        evaluate([], [])


def test_a_model_is_evaluated_in_three_lines(make_model, examples, pairs, clip_cache, tmp_path):
    """With its pairs but no reference the rewards are missing, which is said; with itself for one it wins half."""
    model, processor = make_model()
    with pytest.raises(SuiteError, match="give processor="):
        evaluate(model, examples[8:10])
    short = {"processor": processor, "generation": Generation(max_new_tokens=4), "cache_dir": tmp_path}
    report = evaluate(model, examples[8:10], pairs=pairs[:2], with_variants=True, **short)
    assert [row["name"] for row in report["rows"]] == [
        "model", *(f"model, {change}" for change in ("clips shuffled", "audio only", "video only", "no clip")),
        "model, memory shuffled",
    ]  # fmt: skip
    assert [row["kind"] for row in report["rows"]] == ["main"] + ["variant"] * 5
    assert (
        "Suite rewards is left out: no model has a reference; test an adapter, or name the reference."
        in report["notes"]
    )
    first, *_, no_clip, _ = report["rows"]
    assert first["prompt_tokens"] > no_clip["prompt_tokens"] and no_clip["degenerate_sampled"] is None
    assert 0 < report["history_reduction"] < 1
    rewarded = evaluate(model, examples[8:10], ["rewards"], reference=model, pairs=pairs[:2], **short)
    assert rewarded["rows"][0]["reward_accuracy"] == 0.5 and rewarded["rows"][0]["reward_margin"] == 0.0


def test_a_model_is_tested_on_damaged_clips_and_told_the_emotion(make_model, examples, pairs, tmp_path):
    """Each is a row with replies and rewards of its own; a blur of clips without pictures would be the test again."""
    model, processor = make_model()
    gold, heard = examples[8:10], variants.audio_only(examples[8:10], 0)
    plain = Contestant(
        name="m", model=model, build=PromptBuilder(processor, ClipCache(tmp_path)), reference=model, is_sampled=False
    )
    rows = [plain, *plain.stressed(stress_tests(["noise=20", "noise=-5.5", "blur=4", "oracle"], 3))]
    task = Task(gold, pairs=pairs[:2], has_model=True, has_reference=True)
    short = Generation(max_new_tokens=4)
    report = compare(rows, task, choose_suites(["gold_nll", "rewards", "diversity"], task), short)
    names = ["m", "m, noise at 20 dB", "m, noise at -5.5 dB", "m, blur of 4 %", "m, oracle emotion word"]
    assert [row["name"] for row in report["rows"]] == names
    assert len({row["gold_nll"] for row in report["rows"]}) == 5
    assert all(row["reward_accuracy"] == 0.5 for row in report["rows"])  # its own reference, under the same damage
    assert [row["kind"] for row in report["rows"]] == ["main"] + ["variant"] * 4
    task = Task(heard, has_model=True)
    report = compare(rows, task, choose_suites(["diversity"], task), short)
    assert [row["name"] for row in report["rows"]] == [name for name in names if "blur" not in name]
    assert report["notes"] == ["Left out: m, blur of 4 %, which would be the test as it is once more."]
    unlabelled = Task([replace(reply, current=replace(reply.current, emotion=None)) for reply in gold])
    assert rows[4].repeats(unlabelled) == "the test as it is" and rows[1].repeats(unlabelled) is None
