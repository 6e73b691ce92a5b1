"""Verification in the stage: what is written, strict by the real command, small splits, the quickstart's pairs."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import launch.preferences as stage
from launch import tracking
from epo.data.corpora.builtin.script import write_script
from epo.data.corpora.builtin.settings import BuiltinCorpus
from epo.data.dialogue import Dialogue, Turn, write_dialogues
from epo.emotions import EMOTIONS, fitting_emotion
from epo.preferences.source import NoSettings, PairSource
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]
WORDS = dict(zip(EMOTIONS, ("Grr", "Yuck", "Eek", "Yay", "So", "Alas", "Wow"), strict=True))


@pytest.fixture(autouse=True)
def untracked(monkeypatch):
    """No MLflow: nothing here is about tracking."""
    nothing = SimpleNamespace(log_metrics=lambda values: None, log_artifact=lambda path: None)
    monkeypatch.setattr(tracking, "open_run", lambda *args: contextlib.nullcontext(nothing))


def talk(name, split, emotion, number, user="neutral"):
    said = (
        Turn("user", f"What about number {number}, then?", user),
        Turn("assistant", f"{WORDS[emotion]}, number {number} it is.", emotion),
    )
    return Dialogue(name, said, split=split)


def corpus(tmp_path, validation=("neutral",) * 9, train=None):
    train = [fitting_emotion(EMOTIONS[i % 7]) for i in range(56)] if train is None else train
    rows = [talk(f"t{i}", "train", emotion, i, EMOTIONS[i % 7]) for i, emotion in enumerate(train)]
    rows += [talk(f"v{i}", "validation", emotion, i) for i, emotion in enumerate(validation)]
    write_dialogues(tmp_path / "dialogues.jsonl", rows)
    return str(tmp_path / "dialogues.jsonl")


class Swap:
    """Rewrites by the word of the emotion in front; what a test adds is done to the result."""

    name = "swap"

    def __init__(self, change=lambda text, reply: text):
        self.change = change

    def available(self, gold):
        return frozenset(EMOTIONS)

    def propose(self, gold, emotions):
        return [
            [self.change(f"{WORDS[emotion]}, {reply.text.partition(', ')[2]}", reply)]
            for reply, emotion in zip(gold, emotions, strict=True)
        ]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the stage with a source that is made here, and return its folder."""

    def run(data, swap=None, /, **keys):
        offered = PairSource(
            about="a test's", settings=NoSettings, make=lambda settings, context: swap, keeps_content=True
        )
        with monkeypatch.context() as patch:
            if swap is not None:
                patch.setattr(stage, "get_source", lambda name: offered)
            out = tmp_path / "out"
            own = {"data": data, "output_dir": str(out), "source": "rewrite", "splits": ["train", "validation"]} | keys
            (tmp_path / "recipe.yaml").write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in own.items()))
            stage.run(["--config", str(tmp_path / "recipe.yaml")])
        return out

    return run


def report_of(out):
    return json.loads((out / "report.json").read_text())


def test_yield_reasons_and_both_probabilities_stand_in_report_console_and_page(tmp_path, run, capsys):
    fails = lambda text, reply: "Angry: " + text if reply.dialogue_id.endswith("3") else text  # noqa: E731
    out = run(corpus(tmp_path), Swap(fails), counter_emotion="random", splits=["train"])
    train = report_of(out)["splits"]["train"]
    assert train["yield"] == train["pairs"] / train["asked"] and train["asked"] == train["candidates"] == 56
    refused = train["refused"]["talks about the task: an emotion as a label"]
    assert refused == 6 and train["checks"]["no talk about the task"] == {"passed": 50, "measured": 56, "drops": True}
    assert train["total_variation"] <= 0.1
    page = " ".join((out / "pairs.html").read_text().split())
    assert "to the judge: 0." in page and "talks about the task: an emotion as a label 6" in page
    assert "30 pairs drawn at random" in page and "<td>counter emotion likelier</td>" in page
    said = capsys.readouterr().out
    assert "  yield 0." in said and "6 candidates refused: talks about the task: an emotion as a label" in said
    assert report_of(out)["warnings"] == []


def test_a_writer_that_only_echoes_is_told_with_the_remedy(tmp_path, run):
    echo = Swap(lambda text, reply: reply.text)
    told = "every reply was dropped: .*same text as the gold reply 56 times.* try: a writer that does more than echo"
    with pytest.raises(RecipeError, match=told):
        run(corpus(tmp_path), echo, counter_emotion="random")
    assert not (tmp_path / "out" / "pairs.jsonl").exists()
    report = report_of(tmp_path / "out")
    assert report["warnings"][0]["split"] == "all" and "(yield 0.00, want 0.2)" in report["warnings"][0]["what"]
    assert "is not the gold reply 63 times" in report["warnings"][0]["what"]
    assert "no pairs" in (tmp_path / "out" / "pairs.html").read_text()


def test_nine_validation_dialogues_do_not_end_the_stage(tmp_path, run, capsys):
    """All of them neutral, so that equal marginals are impossible there: they are balanced as far as they can be."""
    out = run(corpus(tmp_path), Swap(), counter_emotion="random", marginals="equal")
    splits = report_of(out)["splits"]
    assert splits["train"]["balanced_by"] == "equal" and splits["train"]["total_variation"] == 0.0
    assert splits["validation"]["balanced_by"] == "near" and splits["validation"]["pairs"] == 7
    words = (
        "equal marginals would leave no pair of its 9 replies: balanced as near as leaving out three tenths brings them"
    )
    assert words in capsys.readouterr().out and words in (out / "pairs.html").read_text()


def test_mixed_validation_dialogues_are_balanced_exactly(tmp_path, run):
    few = ("happy", "sad", "neutral", "neutral", "sad", "happy", "angry", "neutral", "neutral")
    out = run(corpus(tmp_path, few), Swap(), counter_emotion="random", marginals="equal")
    validation = report_of(out)["splits"]["validation"]
    assert validation["pairs"] >= 2 and validation["chosen_emotions"] == validation["rejected_emotions"]


def test_a_corpus_of_one_emotion_is_built_on_and_what_was_not_verified_is_told(tmp_path, run, capsys):
    out = run(corpus(tmp_path, train=["neutral"] * 56), Swap(), counter_emotion="random", marginals="equal")
    report = report_of(out)
    train = report["splits"]["train"]
    assert train["pairs"] > 30 and train["balanced_by"] == "near"
    assert train["checks"]["counter emotion likelier"]["measured"] == 0
    assert (
        "the judge cannot tell the counter emotion, because it was fitted on labels without it"
        in capsys.readouterr().out
    )
    with pytest.raises(
        RecipeError, match="the source has no reply in another emotion.*every reply of the corpus is neutral"
    ):
        run(corpus(tmp_path, train=["neutral"] * 56), **{"source": "retrieve"})


def test_an_emotion_that_does_not_occur_is_not_verified_and_told(tmp_path, run):
    some = ["happy", "sad", "neutral", "angry"] * 14
    out = run(corpus(tmp_path, train=some), Swap(), counter_emotion="random", marginals="free", splits=["train"])
    shift = report_of(out)["splits"]["train"]["checks"]["counter emotion likelier"]
    assert 0 < shift["measured"] < 56
    reasons = [reason["what"] for reason in report_of(out)["verdict"]["reasons"]]
    assert any(f"of {56 - shift['measured']} of 56 candidates the judge cannot tell" in what for what in reasons)


def test_strict_ends_with_two_after_everything_is_written(tmp_path):
    """By the real command: five happy replies chosen for each angry one, so that the words alone give a pair away."""
    data = corpus(tmp_path, train=["happy", "happy", "angry", "happy", "happy", "happy"] * 10)
    keys = {"marginals": "free", "counter_emotion": "opposite", "source": "opposite_random", "splits": "train"}
    command = [sys.executable, str(ROOT / "launch" / "preferences.py"), "--data", data]
    command += [word for key, value in keys.items() for word in (f"--{key}", value)]
    command += ["--output_dir", str(tmp_path / "out")]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PYTHONPATH": str(ROOT)}

    def end(*more):
        return subprocess.run([*command, *more], capture_output=True, text=True, env=environment, check=False)

    strict = end("--strict")
    assert strict.returncode == 2, strict.stderr
    last = strict.stderr.strip().splitlines()[-1]
    assert last.startswith("error: strict: train: the chosen reply is found by ")
    assert "found by its words alone in 0." in last and "try: marginals: equal" in last
    assert {"pairs.jsonl", "pairs.html", "report.json", "stage.json"} <= {
        file.name for file in (tmp_path / "out").iterdir()
    }
    again = end("--strict")
    assert again.returncode == 2 and "already done" in again.stdout, "a finished stage has the same warning"
    assert end().returncode == 0


def digest_of(path):
    """Hash what does not hang on how a release of scikit-learn rounds."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["scores"]["emotion_divergence"] = 0
    return len(rows), hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def test_the_quickstarts_pairs_are_what_they_were(tmp_path, run):
    """Its recipe on its own dialogues without clips: rewritten by rule, so verification measures and drops nothing."""
    settings = BuiltinCorpus(num_train=4000, num_train_with_clips=1000, num_validation=100, num_test=200)
    talks = [write_script(settings, split, i) for split in ("train", "validation", "test") for i in range(40)]
    write_dialogues(tmp_path / "dialogues.jsonl", talks)
    keys = {"counter_emotion": "random", "marginals": "equal", "replies": "last"}
    out = run(str(tmp_path / "dialogues.jsonl"), splits=["train", "validation", "test"], **keys)
    assert digest_of(out / "pairs.jsonl") == (120, "6deec18641fb7af7"), "as written on 94e6ab5"
    checks = report_of(out)["splits"]["train"]["checks"]
    assert checks["counter emotion likelier"]["drops"] is False and checks["changed"]["drops"] is True
