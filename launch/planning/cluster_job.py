"""The text of a Slurm job: a pure function of what is to run, where and with which resources."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.keys.recipe_file import RecipeError

# What an #SBATCH line may hold: names, sizes, times and lists, and nothing that Slurm or a shell would read otherwise.
_PLAIN = re.compile(r"[\w.,:=+\-/\[\]@%*&|()]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Resources:
    """What a job asks of the cluster, in the words of sbatch; None leaves it to the cluster."""

    nodes: int = 1
    gpus_per_node: str | None = None
    gres: str | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        name: of the job, letters, digits, `.`, `_` and `-`.
        script: of the stage, in the snapshot.
        arguments: of the script.
        accelerate_config: how its ranks are started; None starts one plain process.
        resources: of each attempt.
        work_folder: which relative paths in recipes start from.
        snapshot: folder of the code.
        bin_folder: of the interpreter.
        seeds: one array task each, with this seed and `-seed-N` behind `output_dir`.
        output_dir: of the stage; only with seeds.
        container: image for srun's `--container-image` (the pyxis plugin).
        variables: environment of the job, which inherits nothing else from the shell it was submitted in.
    """

    name: str
    script: Path
    arguments: Sequence[str]
    accelerate_config: Path | None
    resources: Resources
    work_folder: Path
    snapshot: Path
    bin_folder: Path
    seeds: Sequence[int] = ()
    output_dir: str = ""
    container: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def job_text(job: Job) -> str:
    """Return the job file. Every value stands quoted for the shell, or is refused.

    Raises:
        RecipeError: a value cannot stand in an `#SBATCH` line, or a variable's name is none.
    """
    lines = ["#!/bin/bash", f"# {job.name}: written by launch/submit.py; the code it runs is the copy beside it."]
    lines += [f"#SBATCH --{key}" + (f"={_plain(key, value)}" if value else "") for key, value in _options(job)]
    lines += ["", "set -euo pipefail", f"cd {_quoted(job.work_folder)}"]
    lines += [f"export EPO_ROOT={_quoted(job.snapshot)} EPO_BIN={_quoted(job.bin_folder)}"]
    lines += [f"export PYTHONPATH={_quoted(job.snapshot)}"]
    for name, value in job.variables.items():
        if not _VARIABLE.fullmatch(name):
            raise RecipeError(f"--env {name}: no name of a variable; want letters, digits and _")
        lines.append(f"export {name}={shlex.quote(value)}")
    lines += [f"source {_quoted(job.snapshot / 'launch/slurm/step.sh')}", ""]
    words = [shlex.quote(word) for word in job.arguments]
    if job.seeds:
        lines += [f"seeds=({' '.join(str(int(seed)) for seed in job.seeds)})", "seed=${seeds[SLURM_ARRAY_TASK_ID]}"]
        words += ["--seed", '"$seed"', "--output_dir", f'{shlex.quote(job.output_dir)}"-seed-$seed"']
    container = [] if job.container is None else _container(job)
    if job.accelerate_config is None:
        start = ["run_step", *container, "python", _quoted(job.script)]
    else:
        start = ["run_stage", *container, "--", _quoted(job.accelerate_config), _quoted(job.script)]
    return "\n".join([*lines, " ".join([*start, *words])]) + "\n"


def _options(job: Job) -> list[tuple[str, str]]:
    asked = job.resources
    named = {
        "job-name": job.name, "nodes": asked.nodes, "ntasks-per-node": 1, "gpus-per-node": asked.gpus_per_node,
        "gres": asked.gres, "cpus-per-task": asked.cpus_per_task, "mem": asked.mem, "time": asked.time,
        "partition": asked.partition, "account": asked.account, "qos": asked.qos, "constraint": asked.constraint,
        "array": f"0-{len(job.seeds) - 1}" if job.seeds else None,
        "export": "NONE", "open-mode": "append", "signal": "B:USR1@300",
    }  # fmt: skip
    return [*((key, str(value)) for key, value in named.items() if value is not None), ("requeue", "")]


def _plain(key: str, value: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise RecipeError(f"--{key.replace('-', '_')} {value!r}: holds a character that sbatch would read otherwise")
    return value


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _container(job: Job) -> list[str]:
    """Return srun's options for an image, in which the work folder and the code have the paths they have outside."""
    mounts = ",".join(f"{folder}:{folder}" for folder in (job.work_folder, job.snapshot))
    return [shlex.quote(f"--container-image={job.container}"), shlex.quote(f"--container-mounts={mounts}")]


__all__ = ["Job", "Resources", "job_text"]
