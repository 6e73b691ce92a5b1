"""launch/slurm/*.sbatch on a real cluster: two nodes train one model, time runs out and they go on, failures show."""

import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A text corpus just large enough for the language model's stage."""
    path = tmp_path_factory.mktemp("corpus") / "dialogues.jsonl"
    with path.open("w") as file:
        for number in range(16):
            turns = [
                {"speaker": speaker, "text": f"{word} number {number + place} is blue.", "emotion": "happy"}
                for place, (speaker, word) in enumerate([("user", "House"), ("assistant", "Door")] * 2)
            ]
            split = "validation" if number < 2 else "train"
            facts = {"3": [str(number + 3)]}
            file.write(json.dumps({"id": f"d{number}", "split": split, "turns": turns, "facts": facts}) + "\n")
    return path


def _stage(corpus, out, *more):
    """Return the arguments of stage.sbatch for the language model's stage, 16 replies a step."""
    recipe = ("--config", "recipes/quickstart/lm.yaml", "--data", str(corpus), "--output_dir", str(out))
    return ("launch/accelerate/zero2-cpu.yaml", "launch/sft.py", *recipe, "--min_fact_recall", "0.0", *more)


def _resources(out, *more):
    return (*more, f"--output={out}.log", str(ROOT / "launch/slurm/stage.sbatch"))


def _has_ended(job):
    return job["JobState"] in ENDED


def test_two_nodes_train_one_model_and_go_on_when_time_is_up(cluster, corpus, tmp_path):
    out, log = tmp_path / "lm", tmp_path / "lm.log"
    steps = ("--max_steps", "12", "--save_steps", "3")
    job = cluster.submit(*_resources(out, "--nodes=2"), *_stage(corpus, out, *steps), cwd=ROOT)
    # What Slurm does shortly before the time limit (--signal=B:USR1@300), here at the first checkpoint.
    cluster.wait(job, lambda fields: any(out.glob("checkpoint-*/trainer_state.json")) or _has_ended(fields))
    cluster.command("scancel", "--batch", "--signal=USR1", job)
    cluster.wait(job, lambda fields: fields["Restarts"] == "1" or _has_ended(fields))
    fields = cluster.wait(job, _has_ended)

    text = log.read_text()
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("COMPLETED", "0:0", "1"), text
    assert "time is up: back into the queue" in text
    assert text.count("resuming from") == 1
    assert (out / "stage.json").is_file()
    # 16 replies a step = 8 a rank x 2 ranks x 1: one rank alone would have had to accumulate two.
    assert yaml.safe_load((out / "recipe.yaml").read_text())["gradient_accumulation_steps"] == 1
    last = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert json.loads((last / "trainer_state.json").read_text())["global_step"] == 12


def test_a_stage_that_fails_fails_its_job(cluster, corpus, tmp_path):
    out, log = tmp_path / "lm", tmp_path / "lm.log"
    stage = _stage(corpus, out, "--learning_rat", "1.0; touch injected")
    fields = cluster.wait(cluster.submit(*_resources(out, "--nodes=1"), *stage, cwd=ROOT), _has_ended)
    assert fields["JobState"] == "FAILED"
    assert fields["ExitCode"].split(":")[0] != "0"
    assert "unknown key 'learning_rat'; the nearest known key is 'learning_rate'" in log.read_text()
    assert fields["Restarts"] == "0"
    assert not (ROOT / "injected").exists()


def test_a_pipeline_runs_inside_a_job(cluster, tmp_path):
    job_file = str(ROOT / "launch/slurm/pipeline.sbatch")
    job = cluster.submit(f"--output={tmp_path}/job.log", job_file, "--config", "no/such/recipe.yaml", cwd=ROOT)
    fields = cluster.wait(job, _has_ended)
    assert (fields["JobState"], fields["ExitCode"]) == ("FAILED", "2:0")
    assert "no/such/recipe.yaml: no such recipe" in (tmp_path / "job.log").read_text()
