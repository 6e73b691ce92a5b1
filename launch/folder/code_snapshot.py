"""A copy of code and recipes for a job: what is edited after it was submitted does not change it."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from launch.keys.shipped import ROOT

_PACKAGES = ("launch", "epo", "compressor", "recipes")


def take_snapshot(target: Path, recipes: Iterable[Path]) -> None:
    """Copy the project's packages, and each recipe's whole folder, into a new folder.

    Args:
        target: made here; must not be there.
        recipes: files; a folder of a user's own takes the place of one of the project's of the same name.
    """
    for name in _PACKAGES:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for folder in {recipe.resolve().parent for recipe in recipes}:
        if not folder.is_relative_to((ROOT / "recipes").resolve()):
            for file in (path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml", ".json")):
                kept = in_snapshot(target, folder / "x.yaml").parent / file.relative_to(folder)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, kept)


def in_snapshot(target: Path, file: Path) -> Path:
    """Return where a recipe, a script or an accelerate configuration lies in a snapshot, or would lie."""
    file = file.resolve()
    if file.is_relative_to(ROOT.resolve()) and file.relative_to(ROOT.resolve()).parts[0] in _PACKAGES:
        return target / file.relative_to(ROOT.resolve())
    return target / "recipes" / file.parent.name / file.name


__all__ = ["in_snapshot", "take_snapshot"]
