"""How far a stage is, seen from outside: what the pipeline driver asks before it starts anything."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.folder.identity import identify
from launch.folder.stage_folder import State, state_of
from launch.keys.chosen_keys import chosen_types
from launch.keys.roles import own_roles
from launch.recipe import declared

_HERE = Path(__file__).resolve().parents[1]
DATA_STAGES = ("import", "lend-clips", "describe-faces", "label")
"""Verbs of launch/data.py that are stages; named there with their keys."""


def recipe_types(script: str, verb: str | None = None) -> list[Any] | None:
    """Return the dataclasses that a stage's script reads its recipe into, None for a script of somebody else's.

    Args:
        script: path of the stage's script.
        verb: what stands right after it, where the script has several.
    """
    path = Path(script).resolve()
    if path.parent != _HERE:
        return None
    module = importlib.import_module(f"launch.{path.stem}")
    of_verbs: dict[str, list[Any]] = getattr(module, "RECIPES_OF_VERBS", {})
    return getattr(module, "RECIPES", None) if verb is None else of_verbs.get(verb)


def reads_recipe(script: str, verb: str | None) -> bool:
    """Tell whether a command starts a stage of the project, which reads a recipe and knows `--run`."""
    path = Path(script).resolve()
    return path.parent == _HERE and (verb in DATA_STAGES if path.name == "data.py" else verb is None)


def stage_state(script: str, options: Sequence[str], verb: str | None = None) -> State:
    """Compare what a stage's folder holds with what its recipe asks for, as the stage itself would.

    A stage whose inputs are not there yet, and a script of somebody else's, count as new.

    Args:
        script: path of the stage's script.
        options: its command line: `--config`, the recipe, and what overrides it.
        verb: what stands right after the script, where it has several.
    """
    types = recipe_types(script, verb)
    if types is None:
        return State("new")
    values, defaults = declared(types, options)
    names = {field.name for field in dataclasses.fields(types[0])}
    recipe = types[0](**{name: value for name, value in values.items() if name in names})
    try:
        roles = own_roles(chosen_types(types, values, script))
        identity = identify(values, defaults, num_ranks=1, reads_clips=recipe.reads_clips, own_roles=roles)
    except FileNotFoundError:
        return State("new")
    return state_of(Path(values["output_dir"]), identity)
