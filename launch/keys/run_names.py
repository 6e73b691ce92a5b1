"""Names that the recipes of a folder share: `run.yaml` gives `run` and others, and values say `${run}/corpus`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.keys.recipe_file import RecipeError, read_mapping
from launch.keys.shipped import find_shipped

RUN_FILE = "run.yaml"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PLACE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")


@dataclass(frozen=True)
class Names:
    """What `${name}` stands for in a recipe.

    Attributes:
        values: by name: text, a number, true or false.
        file: the `run.yaml` that they come from; it need not be there.
    """

    values: dict[str, Any]
    file: Path

    @property
    def run(self) -> str | None:
        """The folder of the whole run, None where nobody says it."""
        return self.values.get("run")

    def shared(self) -> dict[str, Any]:
        """Return the keys that a run says for each of its recipes: `run`, and the names that its tracking goes by."""
        if self.run is None:
            return {}
        given = {key: self.values[key] for key in ("pipeline", "experiment") if key in self.values}
        return {"run": self.run, "pipeline": Path(self.run).name} | given

    def fill(self, value: Any, where: str) -> Any:
        """Return a value with every `${name}` in it replaced, in lists and mappings too.

        A value that is nothing but one `${name}` keeps the type of what the name stands for. `$${` is `${` itself. A
        path of the project's own files that is not in the working folder becomes that of the installed one.

        Raises:
            RecipeError: a name is not known, or its brace is not closed.
        """
        if isinstance(value, list):
            return [self.fill(item, where) for item in value]
        if isinstance(value, dict):
            return {key: self.fill(item, where) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        alone = _PLACE.fullmatch(value)
        if alone is not None and alone[1] is not None:
            return self._value(alone, where)
        return find_shipped(
            _PLACE.sub(lambda match: "${" if match[1] is None else str(self._value(match, where)), value)
        )

    def _value(self, match: re.Match[str], where: str) -> Any:
        name = match[1]
        if match[2] != "}" or _NAME.fullmatch(name) is None:
            raise RecipeError(f"{where}: {match[0]!r}: want a name in braces, such as ${{run}}; write $${{ for '${{'")
        if name in self.values:
            return self.values[name]
        if not self.values:
            remedy = f"write `run: runs/NAME` into {self.file}, or give --run FOLDER"
            raise RecipeError(f"{where}: nothing says what ${{{name}}} is: {remedy}")
        known = ", ".join(f"${{{known}}}" for known in sorted(self.values))
        raise RecipeError(f"{where}: ${{{name}}} is not known; {self.file} gives {known}")


def names_beside(recipe: Path | None, run: Any = None, where: str = "command line") -> Names:
    """Return the names that a recipe may use: those of the `run.yaml` in its folder.

    Args:
        recipe: path of the recipe, None for flags alone.
        run: takes the place of the file's `run`, or stands alone where there is no such file.
        where: who says `run`, for messages.

    Raises:
        RecipeError: `run.yaml` cannot be used, or `run` is no folder's name.
    """
    path = Path(RUN_FILE) if recipe is None else recipe.with_name(RUN_FILE)
    values = _read(path) if recipe is not None and path.is_file() else {}
    if run is not None:
        _require_folder(run, where)
        values["run"] = run
    return Names(values, path)


def says_run(value: Any) -> bool:
    """Tell whether a recipe, or one value of it, says `${run}`."""
    if isinstance(value, Mapping):
        return any(says_run(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(says_run(item) for item in value)
    return isinstance(value, str) and any(match[1] == "run" for match in _PLACE.finditer(value))


def _read(path: Path) -> dict[str, Any]:
    values = read_mapping(path)
    for name, value in values.items():
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise RecipeError(f"{path}: {name!r} is no name; want small letters, digits and _")
        if not isinstance(value, str | int | float) or "${" in str(value):
            raise RecipeError(f"{path}: {name} is {value!r}, want text without ${{}}, a number, true or false")
    if "run" not in values:
        raise RecipeError(f"{path}: run is missing; say where the results go, such as `run: runs/mine`")
    _require_folder(values["run"], str(path))
    return values


def _require_folder(run: Any, where: str) -> None:
    if not isinstance(run, str) or Path(run).name in ("", "..") or "${" in run:
        raise RecipeError(f"{where}: run is {run!r}, want the path of a folder, such as runs/mine")


__all__ = ["RUN_FILE", "Names", "names_beside", "says_run"]
