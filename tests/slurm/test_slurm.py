"""launch/slurm/*.sbatch on a real cluster: two nodes train one model, time runs out and they go on, failures show."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from safetensors.torch import load_file

from launch.tracking import tracking_uri

ROOT = Path(__file__).parents[2]
# Far more than a fast machine makes (7 a second and more) while a test looks for a checkpoint and disturbs the job.
STEPS = 60
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


def _submit(cluster, folder, *words):
    """Submit by `epo submit` and return the job's id and log."""
    command = [sys.executable, "-m", "launch.cli", "submit", *words]
    for name in ("SLURM_CONF", "OMP_NUM_THREADS"):
        command += ["--env", f"{name}={cluster.environment.get(name, '1')}"]
    environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    job, log = re.fullmatch(r".*: job (\d+), log (.*)\n", done.stdout).groups()
    return job, Path(log)


def _has_ended(job):
    return job["JobState"] in ENDED


def test_two_nodes_train_one_model_and_go_on_when_time_is_up(cluster, corpus, tmp_path):
    """Submitted by `epo submit`, from another folder, with nothing of this shell's environment."""
    out = tmp_path / "lm"
    recipe = ("--config", "recipes/quickstart/lm.yaml", "--data", str(corpus), "--output_dir", str(out))
    steps = ("--max_steps", str(STEPS), "--save_steps", "4", "--min_fact_recall", "0.0")
    settings = ("--accelerate", "launch/accelerate/zero2-cpu.yaml", "--nodes", "2", "--ranks_per_node", "1")
    job, log = _submit(cluster, tmp_path, "sft", *recipe, *settings, *steps)
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
    assert json.loads((last / "trainer_state.json").read_text())["global_step"] == STEPS


def test_a_job_is_pre_empted_and_loses_a_node_and_is_the_run_it_would_have_been(cluster, corpus, tmp_path):
    """A job of a higher priority takes both nodes; later one node is gone, with all that ran there."""
    out, whole = tmp_path / "lm", tmp_path / "undisturbed/lm"
    steps = ("--max_steps", str(STEPS), "--save_steps", "4", "--logging_steps", "1")
    job = cluster.submit(*_resources(out, "--nodes=2"), *_stage(corpus, out, *steps), cwd=ROOT)
    log = out.with_suffix(".log")

    def restarted(number):
        return cluster.wait(job, lambda fields: int(fields["Restarts"]) >= number or _has_ended(fields))

    cluster.wait(job, lambda fields: _newest(out) >= 4 or _has_ended(fields))
    urgent = cluster.submit("--partition=urgent", "--nodes=2", "--output=/dev/null", "--wrap=true", cwd=tmp_path)
    cluster.wait(urgent, _has_ended)
    assert restarted(1)["Restarts"] == "1", log.read_text()
    before = _newest(out)
    cluster.wait(job, lambda fields: _newest(out) > before or _has_ended(fields))
    cluster.lose(cluster.nodes[1])
    try:
        restarted(2)
    finally:
        cluster.bring_back(cluster.nodes[1])
    # Meanwhile, for the other side of the comparison.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file"]
    done = subprocess.run(
        [*launch, *_stage(corpus, whole, *steps)], cwd=ROOT, env=cluster.environment, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fields = cluster.wait(job, _has_ended, timeout_s=600)

    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("COMPLETED", "0:0", "2"), log.read_text()
    assert log.read_text().count("resuming from") == 2
    ours, theirs = load_file(out / "model.safetensors"), load_file(whole / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
    found, wanted = _tracked(out), _tracked(whole)
    assert [step for step, _ in found] == list(range(1, STEPS + 1))
    assert found == wanted


def _newest(out):
    return max((int(path.parent.name.split("-")[1]) for path in out.glob("checkpoint-*/trainer_state.json")), default=0)


def _tracked(out):
    """Return step and loss of all points of a stage's MLflow run, the only one below its pipeline's."""
    client = MlflowClient(tracking_uri(out))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = (run for run in client.search_runs(experiments) if "mlflow.parentRunId" in run.data.tags)
    assert (run.info.run_id, run.info.status) == ((out / "mlflow_run_id.txt").read_text().strip(), "FINISHED")
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]


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


def test_a_submitted_mistake_is_told_and_not_put_back(cluster, tmp_path):
    """From a folder with a blank, nothing inherited, the code a copy."""
    folder, out = tmp_path / "a folder", tmp_path / "runs of mine/pairs"
    folder.mkdir()
    recipe = ("--config", "recipes/quickstart/preferences.yaml", "--data", "no such/file.jsonl")
    job, log = _submit(cluster, folder, "preferences", *recipe, "--output_dir", str(out))
    fields = cluster.wait(job, _has_ended)
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("FAILED", "2:0", "0"), log.read_text()
    assert "error: no such/file.jsonl: no such file" in log.read_text()
    assert "a mistake that starting again cannot mend" in log.read_text()
    assert log.parent.parent == tmp_path / "runs of mine/jobs" and (log.parent / "code/launch/stage.py").is_file()


ATTEMPT = """
import os, signal, sys, time
from pathlib import Path
from launch.processes.job_record import note
kind, folder = sys.argv[1], Path(sys.argv[2])
note(folder=str(folder), progress={"is_done": False, "step": len(list(folder.glob("checkpoint-*"))), "num_bytes": 0})
if os.environ.get("SLURM_RESTART_COUNT", "0") == "1":
    sys.exit(0)
if kind == "crash":
    (folder / "checkpoint-1").mkdir(parents=True)
    os.kill(os.getpid(), signal.SIGKILL)
if kind == "mistake":
    sys.exit(2)
(folder / "started").touch()
time.sleep(300)
"""


def test_what_goes_back_into_the_queue_and_what_does_not(cluster, tmp_path):
    """The real job step around a small program: one that is killed after a checkpoint, a mistake, time without one."""
    (tmp_path / "attempt.py").write_text(ATTEMPT)
    jobs = {}
    for kind in ("crash", "mistake", "time"):
        (tmp_path / kind).mkdir()
        job_file = tmp_path / f"{kind}.sbatch"
        job_file.write_text(
            "#!/bin/bash\n#SBATCH --requeue\n#SBATCH --open-mode=append\nset -euo pipefail\n"
            f"export EPO_ROOT={ROOT} EPO_BIN={Path(sys.executable).parent} PYTHONPATH={ROOT}\n"
            f"cd {tmp_path}\nsource {ROOT}/launch/slurm/step.sh\nrun_step python attempt.py {kind} {tmp_path / kind}\n"
        )
        jobs[kind] = cluster.submit(f"--output={tmp_path}/{kind}.log", str(job_file), cwd=tmp_path)
    cluster.wait(jobs["time"], lambda fields: (tmp_path / "time/started").exists() or _has_ended(fields))
    (tmp_path / "time" / "started").unlink()
    cluster.command("scancel", "--batch", "--signal=USR1", jobs["time"])
    fields = {kind: cluster.wait(job, _has_ended) for kind, job in jobs.items()}
    logs = {kind: (tmp_path / f"{kind}.log").read_text() for kind in jobs}
    found = {kind: (row["JobState"], row["Restarts"]) for kind, row in fields.items()}
    assert found == {"crash": ("COMPLETED", "1"), "mistake": ("FAILED", "0"), "time": ("FAILED", "0")}, logs
    assert "a crash, 1 of 3: back into the queue" in logs["crash"]
    assert "a mistake that starting again cannot mend" in logs["mistake"]
    assert "no checkpoint within the time limit: lower save_steps; not put back" in logs["time"]
    assert not (tmp_path / f".slurm-{jobs['crash']}.attempts").exists()
