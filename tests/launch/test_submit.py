"""Slurm job files as text: every value quoted or refused, and what the text does when a shell reads it."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import submit
from launch.folder.code_snapshot import in_snapshot, take_snapshot
from launch.keys.shipped import ROOT
from launch.planning.cluster_job import Job, Resources, job_text
from launch.recipe import RecipeError

JOB = Job(
    name="epo", script=Path("/code/launch/epo.py"), arguments=["--config", "/code/recipes/meld/epo.yaml"],
    accelerate_config=Path("/code/launch/accelerate/zero2.yaml"), resources=Resources(nodes=2, gpus_per_node="8"),
    work_folder=Path("/work"), snapshot=Path("/code"), bin_folder=Path("/env/bin"),
)  # fmt: skip


def test_the_text_of_a_stage_on_two_nodes():
    assert (
        job_text(JOB)
        == """\
#!/bin/bash
# epo: written by launch/submit.py; the code it runs is the copy beside it.
#SBATCH --job-name=epo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --export=NONE
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#SBATCH --requeue

set -euo pipefail
cd /work
export EPO_ROOT=/code EPO_BIN=/env/bin
export PYTHONPATH=/code
source /code/launch/slurm/step.sh

run_stage -- /code/launch/accelerate/zero2.yaml /code/launch/epo.py --config /code/recipes/meld/epo.yaml
"""
    )


EVIL = "a b'c\"$(touch /tmp/x);`id`\n\\$HOME*"


@pytest.mark.parametrize("accelerate", [None, Path("/c o'de/zero2.yaml")])
def test_what_a_user_says_arrives_as_it_was_said(tmp_path, accelerate):
    """Run by bash itself, with a step that prints its arguments and what it was given."""
    code = tmp_path / "co de'"
    (code / "launch/slurm").mkdir(parents=True)
    (code / "launch/slurm/step.sh").write_text(
        'run_step() { run_stage "$@"; }\nrun_stage() { printf \'%s\\0\' "$A" "$@"; }\n'
    )
    job = dataclasses.replace(
        JOB, arguments=["--x", EVIL, ""], work_folder=code, snapshot=code, variables={"A": EVIL}, container=EVIL,
        accelerate_config=accelerate,
    )  # fmt: skip
    done = subprocess.run(["bash", "-c", job_text(job)], capture_output=True, text=True, cwd="/")
    assert done.stderr == ""
    first, *words = done.stdout.split("\0")[:-1]
    assert first == EVIL
    assert words[:2] == [f"--container-image={EVIL}", f"--container-mounts={code}:{code},{code}:{code}"]
    start = ["python"] if accelerate is None else ["--", str(accelerate)]
    assert words[2:] == [*start, "/code/launch/epo.py", "--x", EVIL, ""]


def test_a_sweep_is_an_array_with_a_folder_for_each_seed(tmp_path):
    (tmp_path / "launch/slurm").mkdir(parents=True)
    (tmp_path / "launch/slurm/step.sh").write_text("run_stage() { printf '%s\\n' \"$@\"; }\n")
    job = dataclasses.replace(
        JOB, arguments=[], seeds=[7, 11], output_dir="runs/a b/epo", work_folder=tmp_path, snapshot=tmp_path
    )
    assert "#SBATCH --array=0-1\n" in job_text(job)
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", "-c", job_text(job)], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-4:] == ["--seed", "11", "--output_dir", "runs/a b/epo-seed-11"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("gres", "gpu:1\n#SBATCH --uid=0"), ("time", "1 2"), ("partition", "a;b"), ("mem", "$X"), ("account", "")],
)
def test_what_cannot_stand_in_a_line_for_sbatch_is_refused(key, value):
    job = dataclasses.replace(JOB, resources=Resources(**{key: value}))
    if value == "":
        assert "--account\n" in job_text(job)
        return
    with pytest.raises(RecipeError, match=f"--{key} .*holds a character that sbatch would read otherwise"):
        job_text(job)


@pytest.mark.parametrize("key", ["gpu:a100:4,lscratch:200", "[rack1|rack2]*2&ib"])
def test_what_clusters_do_ask_for_passes(key):
    assert f"#SBATCH --gres={key}\n" in job_text(dataclasses.replace(JOB, resources=Resources(gres=key)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epoo", "--config", "x"], "no stage 'epoo'; want one of extractor, compressor,"),
        (["epo", "--config", "gone.yaml"], "gone.yaml: no such recipe"),
        (["epo", "--config", "recipes/meld/epo.yaml", "--accelerate", "x.yaml"], "--accelerate x.yaml: no such file"),
        (["pipeline", "--config", "recipes/meld/pipeline.yaml", "--seeds", "1"], "--seeds: has no use with a pipeline"),
        (["pipeline", "--config", "recipes/meld/pipeline.yaml", "--beta", "1"], "--beta: has no use with a pipeline"),
        (["epo", "--config", "recipes/meld/epo.yaml", "--bta", "1", "--dry_run"], "unknown key 'bta'; the nearest"),
        (
            ["epo", "--config", "recipes/meld/epo.yaml", "--nodes", "7", "--gpus_per_node", "a100:8", "--dry_run"],
            r"global_batch_size \d+ is not a multiple of per_device_train_batch_size \d+ x 56 ranks",
        ),
    ],
)
def test_a_mistake_is_told_before_anything_is_submitted(words, message):
    with pytest.raises(RecipeError, match=message):
        submit.run(words)


@pytest.mark.parametrize(
    ("text", "message"), [("1,x", "'x' is no seed"), ("3,3", "a seed comes twice"), ("4294967296", "is no seed")]
)
def test_seeds_that_are_none(text, message):
    with pytest.raises(RecipeError, match=message):
        submit._seeds(text)


def test_variables_hold_no_secret():
    asked, _ = submit._parse(["epo", "--config", "x", "--env", "A=b=c", "--ranks_per_node", "2"])
    assert submit._variables(asked) == {"RANKS_PER_NODE": "2", "A": "b=c"}
    for word, message in (("HF_TOKEN=x", "HF_TOKEN: a job file is no place for a secret"), ("A", "want NAME=VALUE")):
        with pytest.raises(RecipeError, match=message):
            submit._variables(submit._parse(["epo", "--config", "x", "--env", word])[0])


def test_a_pipeline_is_a_chain_of_jobs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    submit.run(["pipeline", "--config", "recipes/quickstart/pipeline.yaml", "--nodes", "2", "--dry_run"])
    said = capsys.readouterr().out
    assert said.count("#!/bin/bash") == 9 and "# --- job 9 of 9, after sft_chosen has succeeded" in said
    first, second = said.split("# --- ")[1:3]
    assert "#SBATCH --nodes=1\n" in first and "/launch/data.py import --config" in first and "run_step python" in first
    assert "#SBATCH --nodes=2\n" in second and "/code/launch/accelerate/zero2-cpu.yaml" in second
    assert f"cd {tmp_path}\n" in second and f"{tmp_path}/runs/quickstart/jobs/" in second
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_takes_a_seed_and_a_folder_of_parts_for_all_its_stages(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["pipeline", "--config", "recipes/quickstart/pipeline.yaml", "--run", "runs/other", "--dry_run"]
    submit.run([*words, "--seed", "3", "--parts_root", "models"])
    jobs = capsys.readouterr().out.split("# --- ")[1:]
    assert len(jobs) == 9 and all("--run runs/other" in job and "--seed 3" in job for job in jobs)
    assert sum("--parts_root models" in job for job in jobs) == 8, "all but the import"


def test_a_snapshot_holds_code_and_recipes_and_runs(tmp_path):
    own = tmp_path / "mine"
    own.mkdir()
    (own / "epo.yaml").write_text("beta: 0.3\n")
    (own / "weights.safetensors").write_bytes(b"no")
    code = tmp_path / "code"
    take_snapshot(code, [own / "epo.yaml", ROOT / "recipes/meld/epo.yaml"])
    assert in_snapshot(code, own / "epo.yaml").read_text() == "beta: 0.3\n"
    assert in_snapshot(code, ROOT / "recipes/meld/epo.yaml") == code / "recipes/meld/epo.yaml"
    assert sorted(path.name for path in (code / "recipes/mine").iterdir()) == ["epo.yaml"]
    assert not list(code.rglob("__pycache__"))
    command = [sys.executable, "-c", "import launch.cli, epo, compressor; print(launch.__file__)"]
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == str(code / "launch/__init__.py"), done.stderr
