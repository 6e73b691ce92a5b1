"""Which stage a recipe belongs to, what comes before it, and how it is started."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.seams import is_under_fsdp
from launch.keys.recipe_file import RecipeError, read_mapping
from launch.keys.shipped import find_shipped
from launch.planning.pipeline_files import StageFiles
from launch.planning.pipeline_recipe import Pipeline, Stage, read_pipeline
from launch.planning.preflight import StageCheck, look_at

SCRIPTS = ("data", "extractor", "compressor", "sft", "preferences", "epo", "evaluate")
"""Names of the stages' scripts."""


@dataclass(frozen=True)
class Start:
    """How a stage is started.

    Attributes:
        num_ranks: processes on all machines.
        ranks_here: of them on one machine.
        zero_stage: of DeepSpeed; None without it.
        wants_cpu: whether its settings say `use_cpu`.
        settings: file of accelerate's settings; None where there is none.
        is_fsdp: whether torch's FSDP2 spreads the model.
    """

    num_ranks: int = 1
    ranks_here: int = 1
    zero_stage: int | None = None
    wants_cpu: bool = True
    settings: str | None = None
    is_fsdp: bool = False


@dataclass(frozen=True)
class PlannedStage:
    """A stage to look at.

    Attributes:
        stage: as a pipeline would run it.
        script: name of its script, such as "sft.py".
        check: what it will have.
        recipe: its keys as attributes; None where it cannot be used.
        start: how it is started.
        files: what stages before it write.
    """

    stage: Stage
    script: str
    check: StageCheck
    recipe: Any
    start: Start
    files: StageFiles


def plan_pipeline(config: str, run: str | None, start: Start | None) -> list[PlannedStage]:
    """Plan all stages of a pipeline's recipe.

    Args:
        config: path of the recipe.
        run: folder of the run, None for what the recipe says.
        start: for all stages that accelerate starts; None for what the recipe says.
    """
    return _plan(read_pipeline(Path(config), run).stages, start)


def plan_stage(
    config: str, argv: Sequence[str], script: str | None, start: Start | None, verb: str | None = None
) -> PlannedStage:
    """Plan the stage of one recipe, after those that come before it in the pipeline in its folder, if any.

    Args:
        config: path of the recipe; empty where flags alone say all.
        argv: what overrides it.
        script: name of its script; None finds it out.
        start: how it is started; None for what the pipeline says, or one process.
        verb: of the script, where it has several that are stages.

    Raises:
        RecipeError: it is not told whose recipe this is, or a file is missing.
    """
    path = Path(find_shipped(config))
    pipeline, place = _pipeline_of(path, argv, script) if config else (None, None)
    if pipeline is None or place is None:
        name, verb = _script_of(path) if script is None else (script, verb)
        file = find_shipped(f"launch/{name}.py")
        return _plan([Stage(name, file, str(path) if config else "", "python", None, verb, tuple(argv))], start)[-1]
    own = pipeline.stages[place]
    stages = [*pipeline.stages[:place], dataclasses.replace(own, args=(*own.args, *argv))]
    return _plan(stages, start)[-1]


def read_start(settings: str | None, num_processes: int | None) -> Start:
    """Return how a stage is started by a file of accelerate's settings.

    Args:
        settings: path of the file; None for none.
        num_processes: in place of what the file says.

    Raises:
        RecipeError: there is no such file.
    """
    if settings is None:
        count = 1 if num_processes is None else num_processes
        return Start(count, count)
    said = read_mapping(Path(find_shipped(settings)))
    count = int(said.get("num_processes", 1)) if num_processes is None else num_processes
    zero = None
    if said.get("distributed_type") == "DEEPSPEED":
        zero = int((said.get("deepspeed_config") or {}).get("zero_stage", 2))
    here = -(-count // max(int(said.get("num_machines", 1)), 1))
    is_fsdp = said.get("distributed_type") == "FSDP"
    return Start(count, here, zero, bool(said.get("use_cpu", False)), settings, is_fsdp)


def start_of_this_job() -> Start | None:
    """Return how accelerate started this very process, None where it did not."""
    if "WORLD_SIZE" not in os.environ and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        return None
    count = int(os.environ.get("WORLD_SIZE", "1"))
    zero = None
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true":
        zero = int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(count)))
    import torch

    wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true" or not torch.cuda.is_available()
    return Start(count, here, zero, wants_cpu, "as launched", is_under_fsdp())


def _plan(stages: Sequence[Stage], start: Start | None) -> list[PlannedStage]:
    files, planned = StageFiles(), []
    for stage in stages:
        own = start
        if own is None or (stage.launcher == "python" and len(stages) > 1):
            own = read_start(stage.accelerate_config, None)
        check, recipe = look_at(stage, files, own.num_ranks)
        planned.append(PlannedStage(stage, Path(stage.script).name, check, recipe, own, files))
    return planned


def _pipeline_of(path: Path, argv: Sequence[str], script: str | None) -> tuple[Pipeline | None, int | None]:
    """Return the pipeline in a recipe's folder and the place in it of the recipe, None where it has none."""
    beside = path.with_name("pipeline.yaml")
    if not beside.is_file() or path == beside:
        return None, None
    flags = list(argv)
    run = flags[flags.index("--run") + 1] if "--run" in flags[:-1] else None
    pipeline = read_pipeline(beside, run)
    for place, stage in enumerate(pipeline.stages):
        is_script = script is None or Path(stage.script).stem == script
        if is_script and os.path.abspath(stage.config) == os.path.abspath(path):
            return pipeline, place
    return pipeline, None


def _script_of(path: Path) -> tuple[str, str | None]:
    """Return whose recipe a file is, script and verb: by its name, else those of the one that knows all its keys."""
    from launch.folder.stage_state import DATA_STAGES, recipe_types
    from launch.recipe import declared

    if path.stem in SCRIPTS and path.stem != "data":
        return path.stem, None
    for script in ("data",) if path.stem == "data" else SCRIPTS:
        for verb in DATA_STAGES if script == "data" else (None,):
            try:
                declared(recipe_types(find_shipped(f"launch/{script}.py"), verb) or [], ["--config", str(path)])
            except ValueError:
                continue
            return script, verb
    if path.stem == "data":
        return "data", "import"  # which says what is wrong with it
    raise RecipeError(
        f"{path}: is no stage's recipe as it stands; give it to its script with --dry_run, which says why"
    )


__all__ = ["SCRIPTS", "PlannedStage", "Start", "plan_pipeline", "plan_stage", "read_start", "start_of_this_job"]
