"""After a step has failed: what goes back into the queue, and what is not worth it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from launch import launcher
from launch.folder.stage_progress import Progress, can_change_ranks, progress_of
from launch.processes import ends
from launch.processes.job_record import JOB_RECORD, note, read_notes
from launch.recipe import RecipeError
from launch.requeue import decide, has_progress

ROOT = Path(__file__).parents[2]


def crash(has_progress):
    return {"kind": "crash", "has_progress": has_progress}


@pytest.mark.parametrize(
    ("case", "goes_back", "kind", "words"),
    [
        # code, is_time_up, restarts, has_progress, earlier
        ((143, True, 0, True, []), True, "time is up", "time is up: back into the queue"),
        ((143, True, 99, True, []), True, "time is up", "back into the queue"),
        ((143, True, 100, True, []), False, "time is up", "put back 100 times: no more"),
        ((143, True, 0, False, []), False, "no progress", "no checkpoint within the time limit: lower save_steps"),
        ((2, False, 0, True, []), False, "mistake", "a mistake that starting again cannot mend"),
        ((1, False, 0, False, []), True, "crash", "exit code 1: a crash, 1 of 3: back into the queue"),
        ((137, False, 5, True, [crash(True)] * 2), True, "crash", "a crash, 3 of 3: back into the queue"),
        ((1, False, 5, True, [crash(True)] * 3), False, "crash", "exit code 1: crashed 4 times; not put back"),
        ((1, False, 1, False, [crash(False)]), False, "no progress", "crashed twice without a new checkpoint"),
        ((1, False, 2, False, [crash(True)]), True, "crash", "2 of 3"),
        ((1, False, 2, True, [{"kind": "time is up", "has_progress": True}]), True, "crash", "1 of 3"),
    ],
)
def test_what_goes_back(case, goes_back, kind, words):
    verdict = decide(*case)
    assert (verdict.goes_back, verdict.kind) == (goes_back, kind) and words in verdict.line


def test_a_mistake_counts_whatever_code_the_other_nodes_ended_with():
    assert decide(137, False, 0, True, [], said="mistake").kind == "mistake"


def test_limits_come_from_variables(monkeypatch):
    monkeypatch.setenv("MAX_CRASHES", "0")
    monkeypatch.setenv("MAX_RESTARTS", "1")
    assert not decide(1, False, 0, True, []).goes_back
    assert not decide(143, True, 1, True, []).goes_back
    monkeypatch.setenv("MAX_CRASHES", "many")
    assert decide(1, False, 0, True, []).goes_back


def test_progress_is_a_checkpoint_a_finished_stage_or_kept_answers(tmp_path):
    assert progress_of(tmp_path / "none") == Progress(False, 0, 0)
    before = progress_of(tmp_path)
    for name in (".lock", "identity.json", "tracking.jsonl", "provenance.json"):
        (tmp_path / name).write_text("x")
    for name in (".saving/checkpoint-9", "damaged-checkpoint-8", "checkpoint-best"):
        (tmp_path / name).mkdir(parents=True)
    assert progress_of(tmp_path) == before
    (tmp_path / "answers.jsonl").write_text("yes")
    assert progress_of(tmp_path).is_beyond(before) and not before.is_beyond(progress_of(tmp_path))
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert progress_of(tmp_path).step == 10
    (tmp_path / "stage.json").write_text("{}")
    assert progress_of(tmp_path).is_beyond(Progress(False, 10, 10**9))


def test_only_a_manifest_says_that_ranks_may_change(tmp_path):
    assert not can_change_ranks(tmp_path)
    for step, text in (
        (3, '{"sharding": "none"}'),
        (4, '{"sharding": "zero-2"}'),
        (20, '{"sharding": "fsdp"}'),
        (100, "[]"),
    ):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "manifest.json").write_text(text)
        assert can_change_ranks(tmp_path) == (step < 5)


def test_notes_of_an_attempt_come_back(tmp_path, monkeypatch):
    note(folder="nowhere")  # outside of a job nothing is written
    record, stage = tmp_path / "record", tmp_path / "stage"
    stage.mkdir()
    monkeypatch.setenv(JOB_RECORD, str(record))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    note(folder=str(stage), progress={"is_done": False, "step": 3, "num_bytes": 0})
    with record.open("a") as file:
        file.write('{"cut')
    notes = read_notes(record)
    assert notes[0]["restart"] == 2 and len(notes) == 1
    assert not has_progress(notes, 2)
    (stage / "checkpoint-4").mkdir()
    assert has_progress(notes, 2) and not has_progress(notes, 1)


def test_a_users_mistake_is_noted_for_the_job(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(JOB_RECORD, str(tmp_path / "record"))
    assert ends.report(RecipeError("no such key"), rank=0) == ends.MISTAKE
    assert ends.report(RuntimeError("boom"), rank=0) == ends.CRASH
    assert [row["said"] for row in read_notes(tmp_path / "record")] == ["mistake"]


def test_the_command_decides_records_and_completes_the_attempt(tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "provenance.json").write_text(json.dumps([{"started": "now", "ended": None, "verdict": None}]))
    record = tmp_path / "record"
    row = {"restart": 0, "folder": str(stage), "progress": {"is_done": False, "step": 0, "num_bytes": 0}}
    record.write_text(json.dumps(row) + "\n")

    def requeue(*more):
        command = [sys.executable, ROOT / "launch/requeue.py", record, "--restarts", "0", *more]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path)

    done = requeue("--code", "143", "--time_up")
    assert done.stdout == "no checkpoint within the time limit: lower save_steps; not put back\n", done.stderr
    assert done.returncode == 1
    assert json.loads((stage / "provenance.json").read_text())[0]["verdict"].startswith("no checkpoint within")
    (stage / "checkpoint-5").mkdir()
    done = requeue("--code", "143", "--time_up")
    assert done.returncode == 0 and done.stdout == "time is up: back into the queue\n"
    assert [row["kind"] for row in read_notes(record) if "kind" in row] == ["no progress", "time is up"]


@pytest.mark.parametrize("words", [["--max_restarts", "2"], ["--max-restarts=3"]])
def test_a_launcher_that_would_start_ranks_again_is_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        launcher._refuse_restarts(["--num_processes", "2", *words, str(ROOT / "launch/sft.py"), "--config", "x.yaml"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --max_restarts {words[-1][-1]}: ranks that") and said.count("\n") == 1


def test_no_restarts_and_a_stages_own_words_pass():
    launcher._refuse_restarts(["--max_restarts", "0", str(ROOT / "launch/sft.py")])
    launcher._refuse_restarts([str(ROOT / "launch/sft.py"), "--max_restarts", "2"])
