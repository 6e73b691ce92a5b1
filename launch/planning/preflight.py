"""The check before a pipeline starts: every recipe is read strictly, and what each stage will have is counted."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from launch.folder.stage_state import reads_recipe, recipe_types
from launch.planning.pipeline_files import StageFiles, Writer
from launch.planning.stage_counts import StageCheck, check_stage
from launch.recipe import RecipeError, declared, read_mapping, said_output_dir

if TYPE_CHECKING:
    from launch.planning.pipeline_recipe import Stage


class PreflightError(ValueError):
    """Stages that could not run to their end; the message has a line for each reason."""


def check_pipeline(stages: Sequence["Stage"]) -> list[StageCheck]:
    """Check stages that are to run one after another, before the first of them starts.

    What no stage of these writes must lie on disk. Scripts that are not the project's own are passed over, and so is
    `launch/data.py` with a verb that is no stage.
    """
    files = StageFiles()
    return [look_at(stage, files)[0] for stage in stages]


def refuse(checks: Iterable[StageCheck]) -> None:
    """Raise where a stage cannot run.

    Raises:
        PreflightError: has one line for each error, with the stages that it would stop.
    """
    stages: dict[str, list[str]] = {}
    for check in checks:
        for error in check.errors:
            stages.setdefault(error, []).append(check.stage)
    if stages:
        lines = [f"stage {', '.join(names)}: {error}" for error, names in stages.items()]
        raise PreflightError("\n  ".join(["the pipeline cannot run to its end:", *lines]))


def format_checks(checks: Sequence[StageCheck]) -> str:
    """Return a table with a row for each stage, and the warnings below it."""
    head = ("stage", "training", "validation", "test", "clips", "labels", "notes")
    rows = [head, *(_row(check) for check in checks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 6)), row[6]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *_warnings(checks)])


def format_briefly(checks: Sequence[StageCheck]) -> str:
    """Return what each stage will have in one line, and the warnings below it."""
    known, waiting = [], []
    for check in checks:
        count = _main_count(check)
        if count is not None and not check.is_provisional:
            known.append(f"{check.stage} {_number(check, count)} {check.unit}")
        elif check.waits_for not in (None, check.stage):
            waiting.append(f"{check.stage} after {check.waits_for}")
    lines = [f"counted: {', '.join(known)}"] if known else []
    lines += [f"to be counted: {', '.join(waiting)}"] if waiting else []
    return "\n".join([*lines, *_warnings(checks)])


def look_at(stage: "Stage", files: StageFiles, num_ranks: int | None = None) -> tuple[StageCheck, Any]:
    """Return the check of a stage and its recipe, None where that cannot be used; note what it writes.

    Args:
        stage: to check.
        files: of the stages before it; this one is added.
        num_ranks: processes that it is started in; None for what it says itself.
    """
    check, script = StageCheck(stage.name), Path(stage.script)
    if not reads_recipe(stage.script, stage.verb) or recipe_types(stage.script, stage.verb) is None:
        return check, None
    args = ["--output_dir" + arg[5:] if arg.split("=")[0] == "--out" else arg for arg in stage.options]
    recipe = check.attempt(_read, stage, args)
    if recipe is None:  # what it writes is noted all the same, so that the stages after it are not blamed
        files.add(Writer(stage.name, script.name, None), said_output_dir(args))
        return check, None
    files.add(Writer(stage.name, script.name, recipe), recipe.output_dir)
    check_stage(check, script.name, recipe, _num_ranks(stage) if num_ranks is None else num_ranks, files, stage.verb)
    return check, recipe


def _read(stage: "Stage", args: Sequence[str]) -> Any:
    """Read the recipe of a stage as the stage will, but for what only transformers and TRL can tell.

    Raises:
        RecipeError: it cannot be used as written.
    """
    values, defaults = declared(recipe_types(stage.script, stage.verb) or [], args)
    if values.get("output_dir") is None:
        raise RecipeError(f"{stage.config}: output_dir is missing; say where the results go")
    return SimpleNamespace(**(defaults | values))


def _num_ranks(stage: "Stage") -> int | None:
    """Return the processes that a stage is started in, None where accelerate's own settings decide."""
    if stage.launcher == "python":
        return 1
    return None if stage.accelerate_config is None else read_mapping(Path(stage.accelerate_config)).get("num_processes")


def _row(check: StageCheck) -> tuple[str, ...]:
    counts = (check.training, check.validation, check.test, check.clips, check.labels)
    return (check.stage, *(_number(check, count) for count in counts), _note(check))


def _number(check: StageCheck, count: int | None) -> str:
    if count is None:
        return "-"
    return f"≤ {count:,}" if check.is_upper_bound else f"{count:,}"


def _note(check: StageCheck) -> str:
    left_out = f"{check.left_out:,} more replies have no past turn" if check.left_out else ""
    return "; ".join(note for note in (_state(check), left_out) if note)


def _state(check: StageCheck) -> str:
    if check.errors:
        return "cannot run: see below"
    if check.waits_for == check.stage:
        return "as it lies there now" if check.training is not None else "known once it is written"
    if check.waits_for is None:
        return "not counted" if _main_count(check) is None else ""
    if check.is_provisional and check.training is not None:
        return f"as it lies there now; counted again after stage {check.waits_for}"
    return f"{'at most; ' if check.is_upper_bound and check.training is not None else ''}known after {check.waits_for}"


def _main_count(check: StageCheck) -> int | None:
    counts = (check.training, check.test, check.validation)
    return next((count for count in counts if count is not None), None)


def _warnings(checks: Iterable[StageCheck]) -> list[str]:
    return [f"warning: stage {check.stage}: {warning}" for check in checks for warning in check.warnings]


__all__ = [
    "PreflightError",
    "StageCheck",
    "check_pipeline",
    "format_briefly",
    "format_checks",
    "look_at",
    "refuse",
]
