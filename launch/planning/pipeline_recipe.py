"""A pipeline recipe: stages in order, each a script of launch/ with a recipe and a way to start it."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from launch.folder.stage_state import reads_recipe, recipe_types
from launch.keys.recipe_file import RecipeError, check_key, read_mapping
from launch.keys.recipe_pieces import PartsKeys
from launch.keys.run_names import Names, names_beside, says_run
from launch.keys.shipped import find_shipped
from launch.recipe import declared

Launcher = Literal["accelerate", "python"]


@dataclass(frozen=True)
class Stage:
    """One stage: a script of launch/, its recipe, and how it is started.

    `verb` stands right after the script (`launch/data.py import`), `args` at the end, where they override the recipe.
    """

    name: str
    script: str
    config: str
    launcher: Launcher = "accelerate"
    accelerate_config: str | None = None
    verb: str | None = None
    args: tuple[str, ...] = ()

    def command(self, python: str = "python", launcher: Sequence[str] = ("accelerate", "launch")) -> list[str]:
        """Return the command as a user types it, or with the given interpreter in place of the short names."""
        start = [python]
        if self.launcher == "accelerate":
            start = [*launcher]
            start += [] if self.accelerate_config is None else ["--config_file", self.accelerate_config]
        verb = [] if self.verb is None else [self.verb]
        return [*start, self.script, *verb, *self.options]

    @property
    def options(self) -> list[str]:
        """The recipe and what overrides it, as the script reads them."""
        return [*([] if self.config == "" else ["--config", self.config]), *self.args]


@dataclass(frozen=True)
class Pipeline:
    """Stages in order, and the folder that holds their results and the report."""

    name: str
    output_dir: str
    experiment: str
    stages: tuple[Stage, ...]


_KEYS = ("run", "name", "output_dir", "experiment", "accelerate_config", "stages")
"""`run` says the three after it, unless they are said; `accelerate_config` is that of each stage that says none."""


def read_pipeline(
    path: Path, run: str | None = None, parts_root: str | None = None, seed: int | None = None
) -> Pipeline:
    """Read a pipeline recipe and check that every file it names is there.

    A stage's recipe is NAME.yaml beside the pipeline's, unless it names another. Where that recipe says `${run}` and
    means another run than the pipeline, the stage is given `--run`.

    Args:
        path: of the recipe.
        run: folder of the run, in place of what the recipe or `run.yaml` beside it says.
        parts_root: folder of parts (`epo.part_names`) for every stage that has this key, whatever its recipe says.
        seed: of every stage that has one, whatever its recipe says.

    Raises:
        RecipeError: a key is unknown or missing, a value has the wrong type, or a file does not exist.
    """
    path = Path(find_shipped(str(path)))
    said = read_mapping(path)
    for key in said:
        check_key(str(key), _KEYS, str(path))
    names = names_beside(path, said.get("run") if run is None else run, str(path) if run is None else "command line")
    if run is not None and "output_dir" in said and not says_run(said["output_dir"]):
        raise RecipeError(f"--run {run}: {path} writes to {said['output_dir']} all the same; leave its output_dir out")
    recipe = {key: names.fill(value, f"{path}: {key}") for key, value in said.items()}
    shared = names.shared()
    defaults = {"output_dir": shared.get("run"), "name": shared.get("pipeline")}
    recipe = defaults | {"experiment": shared.get("experiment", "epo")} | recipe
    _require(isinstance(recipe.get("stages"), list) and recipe["stages"], path, "'stages' must list at least one stage")
    for key in ("name", "output_dir", "experiment"):
        _require(isinstance(recipe[key], str) and recipe[key] != "", path, f"{key!r} must be a word")
    rows = enumerate(recipe["stages"], 1)
    stages = tuple(_read_stage(row, path, number, recipe.get("accelerate_config"), names) for number, row in rows)
    twice = sorted({stage.name for stage in stages if [other.name for other in stages].count(stage.name) > 1})
    _require(not twice, path, f"two stages are named {twice[0] if twice else ''!r}; give each its own name")
    if parts_root is not None:
        stages = tuple(_with_parts_root(stage, parts_root) for stage in stages)
    if seed is not None:
        stages = tuple(_with_seed(stage, seed) for stage in stages)
    return Pipeline(recipe["name"], recipe["output_dir"], recipe["experiment"], stages)


def _read_stage(row: Any, path: Path, number: int, accelerate_config: Any, names: Names) -> Stage:
    where = f"{path}: stage {number}"
    _require(isinstance(row, dict), where, "want `name` and `script`")
    _check_keys(row, where)
    row = {"config": str(path.with_name(f"{row['name']}.yaml"))} | row
    launcher, args = row.get("launcher", "accelerate"), row.get("args", [])
    _require(launcher in get_args(Launcher), where, f"launcher is {launcher!r}, want {' or '.join(get_args(Launcher))}")
    if launcher == "accelerate" and accelerate_config is not None:
        row = {"accelerate_config": accelerate_config} | row
    _require(isinstance(args, list), where, "args must be a list, such as [--max_steps, 2]")
    texts = {key: value for key, value in row.items() if key != "args"}
    for key, value in texts.items():
        _require(isinstance(value, str) and value != "", where, f"{key} is {value!r}, want text")
    for place, arg in enumerate(args, 1):
        _require(isinstance(arg, str | int | float), where, f"args: item {place} is {arg!r}, want a word or a number")
    stage = Stage(**texts, args=tuple(str(arg) for arg in args))
    is_plain = stage.launcher == "python"
    _require(not (is_plain and stage.accelerate_config), where, "accelerate_config has no use with launcher: python")
    for file in (stage.script, stage.config, stage.accelerate_config):
        hint = "run from the folder that holds it, the repository's root for one of the project's own"
        _require(file is None or Path(file).is_file(), where, f"{file}: no such file; {hint}")
    return dataclasses.replace(stage, args=(*_run_flags(stage, names), *stage.args))


def _run_flags(stage: Stage, names: Names) -> tuple[str, ...]:
    """Return what tells a stage the pipeline's run, where its recipe would mean another one."""
    recipe = read_mapping(Path(stage.config))
    if names.run is None or not reads_recipe(stage.script, stage.verb) or not says_run([recipe, *stage.args]):
        return ()
    own = names_beside(Path(stage.config), recipe.get("run"), stage.config).run
    return () if own == names.run else ("--run", names.run)


def _types_of(stage: Stage) -> list[Any]:
    """Return what a stage's script reads its recipe into; nothing where it is no stage of the project."""
    return (recipe_types(stage.script, stage.verb) or []) if reads_recipe(stage.script, stage.verb) else []


def _with_parts_root(stage: Stage, parts_root: str) -> Stage:
    """Return a stage that is told the folder of parts, if it is one that names parts; what it says of it gives way."""
    if not any(isinstance(type_, type) and issubclass(type_, PartsKeys) for type_ in _types_of(stage)):
        return stage
    return dataclasses.replace(stage, args=(*stage.args, "--parts_root", parts_root))


def _with_seed(stage: Stage, seed: int) -> Stage:
    """Return a stage that is told the seed, if its recipe can hold one; what it says of it gives way."""
    types = _types_of(stage)
    try:
        keys = declared(types, stage.options)[1] if types else {}
    except RecipeError:  # the check of all stages tells it, with what is wrong in the others
        return stage
    return dataclasses.replace(stage, args=(*stage.args, "--seed", str(seed))) if "seed" in keys else stage


def _check_keys(row: Mapping[Any, Any], where: str) -> None:
    fields = dataclasses.fields(Stage)
    for key in row:
        check_key(str(key), sorted(field.name for field in fields), where)
    missing = [key for key in ("name", "script") if key not in row]
    _require(not missing, where, f"missing {', '.join(missing)}")


def _require(condition: object, where: object, message: str) -> None:
    if not condition:
        raise RecipeError(f"{where}: {message}")


__all__ = ["Launcher", "Pipeline", "Stage", "read_pipeline"]
