"""Submit a stage or a pipeline to Slurm: `launch/submit.py STAGE --config RECIPE [--nodes N ...] [--KEY VALUE ...]`.

STAGE is extractor, compressor, sft, preferences, epo or evaluate; or `pipeline`, which becomes one job a stage, each
waiting for the one before. Code and recipes are copied first, so later edits change nothing. What is no option of this
command goes to the stage, where it overrides the recipe; a pipeline takes --seed and --parts_root for all its stages.
"""

import argparse
import dataclasses
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import launch  # noqa: F401
from launch import stage as this_process
from epo.redaction import is_secret_name
from launch.folder.code_snapshot import in_snapshot, take_snapshot
from launch.keys.recipe_file import RecipeError
from launch.keys.shipped import ROOT, find_shipped
from launch.planning.cluster_job import Job, Resources, job_text

_BY_ACCELERATE = ("extractor", "compressor", "sft", "epo", "evaluate")
_STAGES = (*_BY_ACCELERATE, "preferences", "pipeline")


@dataclasses.dataclass(frozen=True)
class _Part:
    """What one job runs, before it is copied."""

    name: str
    script: str
    accelerate_config: str | None
    options: tuple[str, ...]
    verb: str | None = None


def run(argv: Sequence[str] | None = None) -> None:
    """Read the command line; print the jobs, or copy the code and submit them."""
    asked, overrides = _parse(argv)
    parts, results = _parts(asked, tuple(overrides))
    values = [_values(part) for part in parts]
    for part, value in zip(parts, values, strict=True):
        _check_batches(part, value, asked)
    folder = _job_folder(asked, results if results is not None else _results_of(asked.stage, values[0]))
    jobs = [_job(part, value, asked, folder) for part, value in zip(parts, values, strict=True)]
    texts = [job_text(job) for job in jobs]
    if asked.dry_run:
        for number, text in enumerate(texts):
            after = f", after {jobs[number - 1].name} has succeeded" if number else ""
            print(f"# --- job {number + 1} of {len(jobs)}{after}\n{text}")
        return
    if shutil.which("sbatch") is None:
        raise RecipeError("no sbatch on this machine: submit where Slurm is, or give --dry_run to see the job files")
    folder.mkdir(parents=True)
    take_snapshot(folder / "code", _recipes(parts))
    before: str | None = None
    for number, (job, text) in enumerate(zip(jobs, texts, strict=True), 1):
        path = folder / f"{number}-{job.name}.sbatch"
        path.write_text(text, encoding="utf-8")
        before = _submit(path, before)
        print(f"{job.name}: job {before}, log {path.with_suffix('')}-{before}.log", flush=True)


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(prog="epo submit", description=__doc__, allow_abbrev=False)
    parser.add_argument("stage", metavar="STAGE", help=f"one of {', '.join(_STAGES)}")
    parser.add_argument("--config", required=True, metavar="FILE", help="the recipe")
    parser.add_argument("--run", metavar="FOLDER", help="folder of the run, in place of what run.yaml says")
    parser.add_argument(
        "--accelerate", metavar="FILE", help="how ranks are started; launch/accelerate/zero2.yaml otherwise"
    )
    parser.add_argument("--nodes", type=_at_least_1, default=1, help="machines; 1 otherwise")
    for name, what in (
        ("gpus_per_node", "GPUs, or TYPE:NUMBER"), ("gres", "such as gpu:a100:8, where that is the cluster's way"),
        ("mem", "memory a node, such as 200G"), ("time", "limit, such as 12:00:00"), ("partition", ""),
        ("account", ""), ("qos", ""), ("constraint", ""),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", help=what)
    parser.add_argument("--cpus_per_task", type=_at_least_1, help="cores a node")
    parser.add_argument("--ranks_per_node", type=_at_least_1, help="processes a node; one a GPU otherwise")
    parser.add_argument("--container", metavar="IMAGE", help="for srun --container-image (pyxis)")
    parser.add_argument("--seeds", metavar="1,2,3", help="an array of jobs, one a seed, each in a folder OUTPUT-seed-N")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="may be given again")
    parser.add_argument("--dry_run", action="store_true", help="print the job files, and submit nothing")
    asked, rest = parser.parse_known_args(argv)
    if asked.stage not in _STAGES:
        raise RecipeError(f"no stage {asked.stage!r}; want one of {', '.join(_STAGES)}")
    if asked.stage != "pipeline":
        return asked, rest
    if asked.seeds:
        raise RecipeError(
            "--seeds: has no use with a pipeline; submit it once a seed, each with its own --run and --seed"
        )
    whole = argparse.ArgumentParser(prog="epo submit pipeline", allow_abbrev=False)
    whole.add_argument("--seed", type=int)
    whole.add_argument("--parts_root")
    asked, rest = whole.parse_known_args(rest, asked)
    if rest:
        raise RecipeError(f"{rest[0]}: has no use with a pipeline; write it into a recipe, or submit that stage alone")
    return asked, []


def _at_least_1(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("want 1 or more")
    return number


def _parts(asked: argparse.Namespace, overrides: tuple[str, ...]) -> tuple[list[_Part], Path | None]:
    """Return what the jobs run, in their order, and the folder of a pipeline's results."""
    accelerate = find_shipped("launch/accelerate/zero2.yaml" if asked.accelerate is None else asked.accelerate)
    if not Path(accelerate).is_file():
        raise RecipeError(f"--accelerate {accelerate}: no such file; the project's are launch/accelerate/*.yaml")
    config = find_shipped(asked.config)
    if not Path(config).is_file():
        raise RecipeError(f"{asked.config}: no such recipe; those that come with the project lie under recipes/")
    if asked.stage != "pipeline":
        by = accelerate if asked.stage in _BY_ACCELERATE else None
        run_flag = () if asked.run is None else ("--run", asked.run)
        script = str(ROOT / "launch" / f"{asked.stage}.py")
        return [_Part(asked.stage, script, by, ("--config", config, *run_flag, *overrides))], None
    from launch.planning.pipeline_recipe import read_pipeline

    pipeline = read_pipeline(Path(config), asked.run, asked.parts_root, asked.seed)
    given = None if asked.accelerate is None else accelerate
    parts = [
        _Part(
            stage.name,
            stage.script,
            None if stage.launcher == "python" else (given or stage.accelerate_config or accelerate),
            tuple(stage.options),
            stage.verb,
        )
        for stage in pipeline.stages
    ]
    return parts, Path(pipeline.output_dir)


def _values(part: _Part) -> Mapping[str, Any]:
    """Return the settings of a stage, so that a mistake in its recipe is told now and not when the job starts."""
    from launch.folder.stage_state import recipe_types
    from launch.recipe import declared

    types = recipe_types(part.script, part.verb)
    if types is None:
        return {}
    said, defaults = declared(types, part.options)
    return defaults | said


def _check_batches(part: _Part, values: Mapping[str, Any], asked: argparse.Namespace) -> None:
    """Refuse a batch that the ranks do not divide, where their number is known."""
    gpus = (asked.gpus_per_node or "").rpartition(":")[2]
    per_node = asked.ranks_per_node or (int(gpus) if gpus.isdigit() else None)
    keys = {"global_batch_size", "per_device_train_batch_size"}
    if part.accelerate_config is None or per_node is None or not keys <= values.keys():
        return
    from launch.recipe import accumulation_steps

    micro = int(values["per_device_train_batch_size"])
    accumulation_steps(int(values["global_batch_size"]), micro, asked.nodes * per_node)


def _results_of(stage: str, values: Mapping[str, Any]) -> Path:
    """Return the folder of a run, told from a stage's: an evaluation writes into it, the others below it."""
    own = Path(str(values["output_dir"]))
    return own if stage == "evaluate" else own.parent


def _job_folder(asked: argparse.Namespace, results: Path) -> Path:
    """Return a new folder for the job files and what they run, below the results."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return (results / "jobs" / f"{stamp}-{asked.stage}-{uuid.uuid4().hex[:6]}").absolute()


def _job(part: _Part, values: Mapping[str, Any], asked: argparse.Namespace, folder: Path) -> Job:
    code = folder / "code"
    is_plain = part.accelerate_config is None
    names = {field.name for field in dataclasses.fields(Resources)}
    resources = Resources(**{name: getattr(asked, name) for name in names})
    return Job(
        name=part.name,
        script=in_snapshot(code, Path(part.script)),
        arguments=[*([] if part.verb is None else [part.verb]), *_options_in(code, part.options)],
        accelerate_config=None if part.accelerate_config is None else in_snapshot(code, Path(part.accelerate_config)),
        resources=dataclasses.replace(resources, nodes=1) if is_plain else resources,
        work_folder=Path.cwd(),
        snapshot=code,
        bin_folder=Path(sys.executable).parent,
        seeds=_seeds(asked.seeds),
        output_dir=str(values.get("output_dir", "")),
        container=asked.container,
        variables=_variables(asked),
    )


def _options_in(code: Path, options: Sequence[str]) -> list[str]:
    """Return a stage's options with its recipe in the snapshot."""
    place = options.index("--config") + 1 if "--config" in options else -1
    return [str(in_snapshot(code, Path(word))) if number == place else word for number, word in enumerate(options)]


def _recipes(parts: Sequence[_Part]) -> list[Path]:
    configs = [part.options[part.options.index("--config") + 1] for part in parts if "--config" in part.options]
    return [Path(name) for name in (*configs, *(p.accelerate_config for p in parts if p.accelerate_config is not None))]


def _seeds(text: str | None) -> list[int]:
    words = [] if text is None else text.split(",")
    for word in words:
        if not word.strip().isdigit() or int(word) >= 2**32:
            raise RecipeError(f"--seeds {text}: {word!r} is no seed; want whole numbers below 4294967296, as in 1,2,3")
    if len({int(word) for word in words}) < len(words):
        raise RecipeError(f"--seeds {text}: a seed comes twice; each needs a folder of its own")
    return [int(word) for word in words]


def _variables(asked: argparse.Namespace) -> dict[str, str]:
    """Return the job's variables. Nothing secret: a job file is read by others."""
    found = {} if asked.ranks_per_node is None else {"RANKS_PER_NODE": str(asked.ranks_per_node)}
    for word in asked.env:
        name, is_given, value = word.partition("=")
        if not is_given:
            raise RecipeError(f"--env {word}: want NAME=VALUE")
        if is_secret_name(name):
            raise RecipeError(
                f"--env {name}: a job file is no place for a secret; keep it in a file that its library reads, such as "
                "hf auth login's"
            )
        found[name] = value
    return found


def _submit(path: Path, before: str | None) -> str:
    """Hand a job file to sbatch and return the job's id."""
    log = f"{path.with_suffix('')}".replace("%", "%%") + "-%j.log"
    command = ["sbatch", "--parsable", f"--output={log}"]
    command += [] if before is None else [f"--dependency=afterok:{before}", "--kill-on-invalid-dep=yes"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RecipeError(f"sbatch refused {path}: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]


__all__ = ["run"]

if __name__ == "__main__":
    this_process.main(run, is_stage=False)
