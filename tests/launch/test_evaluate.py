"""launch/evaluate.py on folders named by themselves, and on a file of replies without any model."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from launch import evaluate
from epo.data.dialogue import DataError
from epo.evaluation.evaluating import SuiteError
from epo.evaluation.folders import FolderError
from launch.recipe import RecipeError


@pytest.fixture
def run(tmp_path, corpus, monkeypatch):
    """Run the stage with some keys; returns the report."""

    @contextlib.contextmanager
    def untracked(*args):
        yield SimpleNamespace(log_metrics=lambda numbers: None, log_artifact=lambda path: None)

    monkeypatch.setattr(evaluate, "open_run", untracked)

    def run(**keys):
        path, out = tmp_path / "evaluate.yaml", tmp_path / "report"
        keys = {"data": str(corpus / "dialogues.jsonl"), "output_dir": str(out), "max_new_tokens": 4} | keys
        path.write_text(yaml.safe_dump(keys))
        monkeypatch.setattr(sys, "argv", ["launch/evaluate.py", "--config", str(path)])
        evaluate.run()
        return json.loads((out / "report.json").read_text())

    return run


@pytest.fixture
def said(tmp_path):
    """A file that answers both test dialogues: one as the gold does, one not at all."""
    rows = [
        {"dialogue_id": "d10", "turn": 3, "reply": "(happy) I am glad you told me about Lena."},
        {"dialogue_id": "d11", "turn": 5, "reply": "..."},
    ]
    path = tmp_path / "their replies.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def forbid_models(monkeypatch):
    def refuse(*args):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(evaluate, "load_model", refuse)


def test_a_file_of_replies_needs_no_model(run, said, forbid_models, tmp_path, capsys):
    report = run(answers=str(said))
    majority, row = report["rows"]
    assert (majority["name"], row["name"]) == ("majority", "their replies")
    assert row["emotion_score"] == row["token_f1"] == row["degenerate"] == row["fact_recall"] == 0.5
    assert "prompt_tokens" not in row and "emotion_recognition" not in report
    left_out = [note.split(" is left out")[0] for note in report["notes"]]
    assert left_out == ["Suite gold_nll", "Suite lengths", "Suite recognition", "Suite rewards"]
    assert "their replies" in capsys.readouterr().out
    results = json.loads((tmp_path / "report" / "stage.json").read_text())["results"]
    assert results["their replies/emotion_score"] == 0.5


def test_what_the_file_lacks_is_told_and_a_changed_file_is_another_result(run, said, forbid_models, tmp_path, capsys):
    lines = said.read_text().splitlines()
    said.write_text(lines[0] + "\n")
    note = f"{said}: 1 of 2 replies are missing; they count as empty replies (turn 5 of 'd11')."
    assert run(answers=str(said), suites=["degenerate"])["notes"] == [note]
    assert note in capsys.readouterr().out
    before = (tmp_path / "report" / "stage.json").stat().st_mtime_ns
    run(answers=str(said), suites=["degenerate"])
    assert (tmp_path / "report" / "stage.json").stat().st_mtime_ns == before  # it is done
    said.write_text("\n".join(lines) + "\n")
    assert run(answers=str(said), suites=["degenerate"])["notes"] == []


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({}, RecipeError, r"name what to test: models \(folders\), answers \(a file of replies\), chat_models, or"),
        ({"answers": "@", "suites": ["rewards"]}, SuiteError, "suite 'rewards' cannot be given: there are only r"),
        ({"answers": "@", "suites": ["fact"]}, ValueError, "no suite is called 'fact'; the nearest is 'facts'"),
        ({"answers": "@", "split": "validation"}, DataError, "none of its 2 replies answers one of the 2 turns"),
        ({"models": ["gone"]}, FolderError, "gone: no such folder; want a folder written by launch/sft.py"),
        ({"models": ["@model", "@model/"]}, FolderError, "is tested already, as .*; name it once"),
        ({"sft": "@model", "models": ["@model"]}, FolderError, "is tested already, as "),
        ({"models": ["@model"], "suites": ["rewards"]}, SuiteError, "'rewards' cannot be given: there is no prefer"),
        ({"answers": "@", "max_dialogues": -1}, RecipeError, "max_dialogues is -1, want 1 or more"),
        ({"answers": "@", "max_new_tokens": 0}, RecipeError, "max_new_tokens is 0, want 1 or more"),
        ({"models": "@model"}, RecipeError, "models is '.*', want a list of str"),
        ({"answers": "gone.jsonl"}, DataError, "gone.jsonl: no such file; write one JSON object a line"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_a_model_is_loaded(run, said, forbid_models, tmp_path, keys, error, message):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")

    def placed(value):
        if isinstance(value, int):
            return value
        return value.replace("@model", str(tmp_path / "model")) if value != "@" else str(said)

    keys = {k: [placed(item) for item in v] if isinstance(v, list) else placed(v) for k, v in keys.items()}
    with pytest.raises(error, match=message):
        run(**keys)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_folders_by_themselves(run, make_model, corpus, said, clip_cache, tmp_path):
    """A whole model and an adapter on it, side by side with replies from a file; the adapter finds its model."""
    from epo.training.lora import lora_config

    whole, adapter = tmp_path / "models" / "whole", tmp_path / "models" / "tuned"
    model, processor = make_model()
    model.save_pretrained(whole)
    processor.save_pretrained(whole)
    _save_adapter(model, lora_config(model, 2, 4, 0.0), whole, adapter)
    common = {"pairs": str(corpus / "pairs.jsonl"), "cache_dir": str(tmp_path / "cache")}
    report = run(models=[str(whole), str(adapter)], answers=str(said), **common)
    names = [row["name"] for row in report["rows"]]
    changed = ("clips shuffled", "audio only", "video only", "no clip", "memory shuffled")
    assert names == [
        "majority", "whole", *(f"whole, {change}" for change in changed), "tuned",
        *(f"tuned, {change}" for change in changed), "their replies",
    ]  # fmt: skip
    rows = dict(zip(names, report["rows"], strict=True))
    assert rows["whole"]["reward_accuracy"] is None and rows["tuned"]["reward_accuracy"] == 0.5  # its LoRA is zero yet
    assert rows["tuned"]["token_f1"] == rows["whole"]["token_f1"]
    assert "Suite rewards has no number for whole: it has no reference." in report["notes"]
    assert report["emotion_recognition"]["num_clips"] == 2 and 0 < report["history_reduction"] < 1


def _save_adapter(model, config, base: Path, folder: Path):
    from peft import get_peft_model

    policy = get_peft_model(model, config)
    policy.peft_config["default"].base_model_name_or_path = str(base)
    policy.save_pretrained(folder)


def test_a_command_line_without_a_recipe(corpus, tmp_path):
    """A file of label loops scores nothing, not what always the commonest emotion scores; two files share a table."""
    for name, reply in (("loops", "(sad) (sad) (sad)"), ("labels", "sad sad sad")):
        rows = [{"dialogue_id": "d10", "turn": 3, "reply": reply}, {"dialogue_id": "d11", "turn": 5, "reply": reply}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = Path(evaluate.__file__)
    command = [
        sys.executable, script, "--replies", "loops.jsonl", "labels.jsonl", "--dialogues", corpus / "dialogues.jsonl",
        "--out", "X",
    ]  # fmt: skip
    tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/runs.db", "PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | tracking, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "EmotionScore" in done.stdout and (tmp_path / "X" / "report.html").is_file()
    majority, *rows = json.loads((tmp_path / "X" / "report.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["loops", "labels"] and majority["emotion_score"] > 0
    for row in rows:
        gains = (
            "emotion_score",
            "emotion_cosine",
            "appropriateness",
            "token_f1",
            "rouge_l",
            "distinct_1",
            "fact_recall",
        )
        assert [row[key] for key in gains] == [0.0] * len(gains) and row["degenerate"] == 1.0


def test_a_file_that_knows_no_splits_is_a_test_by_itself(run, corpus, said, forbid_models, tmp_path):
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    for row in rows:
        del row["split"]
        for turn in row["turns"]:
            turn.pop("clip", None)
    (tmp_path / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run(answers=str(said), data=str(tmp_path / "dialogues.jsonl"), suites=["overlap"])
    assert report["settings"]["num_replies"] == 12
    assert report["replies_read"]["their replies"]["missing"]["count"] == 10


def test_what_is_there_of_an_interrupted_evaluation_is_not_made_again(run, said, tmp_path, monkeypatch):
    """Killed while the second of two files is scored; the first row's numbers are taken up, and only its replies'."""
    other = tmp_path / "other.jsonl"
    other.write_text(said.read_text().replace("glad", "sorry"))
    from epo.evaluation.suites import overlap

    counted, score = [], overlap.token_f1

    def fragile(reply, gold):
        counted.append(reply)
        if "sorry" in reply and len(counted) < 4:
            raise KeyboardInterrupt
        return score(reply, gold)

    monkeypatch.setattr(overlap, "token_f1", fragile)
    keys = {"answers": [str(said), str(other)], "suites": ["overlap"]}
    with pytest.raises(KeyboardInterrupt):
        run(**keys)
    counted[:] = [""] * 4
    report = run(**keys)
    assert len(counted) == 5, "one reply has words, and only that of the second row was scored anew"
    assert [row["name"] for row in report["rows"]] == ["their replies", "other"]
    fresh = run(**keys, fresh=True)
    assert fresh["rows"] == report["rows"] and len(counted) == 7


@pytest.mark.slow
def test_a_chat_model_on_the_text_alone(run, make_llm, tokenizer, forbid_models, tmp_path):
    """Its replies are kept: asked for another suite, it is not asked again."""
    make_llm().save_pretrained(tmp_path / "chat")
    tokenizer.save_pretrained(tmp_path / "chat")
    keys = {"chat_models": [str(tmp_path / "chat")], "chat_system_prompt": "Be kind."}
    first = run(**keys, suites=["diversity"])
    assert first["rows"][0]["name"] == "chat"
    from epo.evaluation.chat_system import ChatSystem

    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(ChatSystem, "answer", None)
        again = run(**keys, suites=["diversity", "overlap"])
    assert again["rows"][0]["distinct_1"] == first["rows"][0]["distinct_1"] and "token_f1" in again["rows"][0]
    kept = tmp_path / "report" / "replies" / "chat.jsonl"
    assert "sampled" in kept.read_text()
    run(**keys, suites=["diversity"], sampled=False, fresh=True)
    assert "sampled" not in kept.read_text(), "sampled: false holds for chat models, too"
