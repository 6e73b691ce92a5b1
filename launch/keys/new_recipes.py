"""`epo new NAME --from meld`: a folder of recipes of one's own, made from one of those that come with the project."""

import argparse
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launch.keys.recipe_file import RecipeError, read_mapping
from launch.keys.run_names import RUN_FILE
from launch.keys.shipped import ROOT

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def run(argv: Sequence[str]) -> None:
    """Write the folder that a command line asks for, and say what to do with it."""
    parser = argparse.ArgumentParser(prog="epo new", description=__doc__)
    parser.add_argument("name", help="of the folder and of its run: letters, digits, _ and -")
    parser.add_argument("--from", dest="origin", required=True, metavar="RECIPES", help=", ".join(_origins()))
    parser.add_argument("--into", metavar="FOLDER", help="the folder to write; recipes/NAME unless said")
    arguments = parser.parse_args(argv)
    into = Path("recipes", arguments.name) if arguments.into is None else Path(arguments.into)
    new_run = write_recipes(arguments.name, arguments.origin, into)
    command = shlex.join(["epo", "pipeline", "--config", str(into / "pipeline.yaml")])
    print(
        f"wrote {into}; its results will go to {new_run}, as {into / RUN_FILE} says\n"
        f"What each stage would have, and what is missing:  {command} --check\n"
        f"All of it:                                        {command}"
    )


def write_recipes(name: str, origin: str, into: Path) -> str:
    """Write a folder of recipes, with their comments, whose run and commands bear its own name.

    Args:
        name: of the new run.
        origin: the folder of `recipes/` to start from; one in the working folder comes before the project's.
        into: the folder to write.

    Returns:
        The new run's folder.

    Raises:
        RecipeError: the name is odd, there is no such origin, or the folder exists.
    """
    if _NAME.fullmatch(name) is None:
        raise RecipeError(f"{name!r} cannot name a run; want letters, digits, _ and -, such as my-meld")
    if origin not in _origins():
        raise RecipeError(f"--from {origin}: no such recipes; there are {', '.join(_origins())}")
    if into.exists() or into.is_symlink():
        raise RecipeError(f"{into}: exists already; choose another name or another folder with --into")
    source = next(place for place in _places() if _is_whole(place / origin)) / origin
    old_run = str(read_mapping(source / RUN_FILE)["run"])
    new_run = (Path(old_run).parent / name).as_posix()
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".new-") as scratch:
        made = shutil.copytree(source, Path(scratch) / "recipes")
        for path in sorted(made.rglob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            for old, new in ((f"recipes/{origin}", into.as_posix()), (old_run, new_run)):
                text = new.join(re.split(rf"(?<![\w./-]){re.escape(old)}(?![\w-])", text))
            path.write_text(text, encoding="utf-8")
        made.rename(into)
    return new_run


def _origins() -> list[str]:
    """Return the names of the folders with a whole pipeline: one that ends in EPO."""
    return sorted({folder.name for place in _places() for folder in place.glob("*") if _is_whole(folder)})


def _places() -> list[Path]:
    return [Path("recipes"), ROOT / "recipes"]


def _is_whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (RUN_FILE, "pipeline.yaml", "epo.yaml"))


__all__ = ["run", "write_recipes"]
