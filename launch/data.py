"""Data: corpus folder -> `dialogues.jsonl` and its media, as `python launch/data.py import --config FILE`."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import launch  # noqa: F401
from launch import stage
from launch.recipe import RecipeError, read_recipe, save_resolved
from launch.tracking import open_run


@dataclass
class ImportRecipe:
    """Read a corpus as downloaded, or write the built-in one, into a folder with `dialogues.jsonl` and `media/`."""

    output_dir: str
    corpus: Literal["builtin"] = "builtin"
    seed: int = 0
    workers: int = 2
    num_train: int = 600
    num_train_with_clips: int = 600
    num_validation: int = 60
    num_test: int = 200
    num_train_speakers: int = 24
    num_validation_speakers: int = 4
    num_test_speakers: int = 10
    generic_share: float = 0.6
    clips_per_dialogue: int = 2
    pipeline: str = "data"
    experiment: str = "epo"


def main() -> None:
    """Dispatch on the verb, the first argument."""
    verb, *argv = sys.argv[1:]
    if verb != "import":
        raise RecipeError(f"unknown verb {verb!r}; want import")
    run_import(argv)


def run_import(argv: list[str]) -> None:
    """Write the corpus a recipe names, unless the very same recipe has already been finished."""
    (recipe,) = read_recipe([ImportRecipe], argv)
    out = Path(recipe.output_dir)
    resolved = save_resolved(out, [recipe], [])
    if stage.is_done(out, resolved):
        print(f"{out}: already written by this very recipe; delete the folder to write it anew")
        return
    with open_run("data", recipe.pipeline, recipe.experiment, out, resolved) as run:
        _write_builtin(recipe, out)
        card = json.loads((out / "card.json").read_text())
        run.log_artifact(out / "card.json")
    stage.mark_done(out, resolved, card)


def _write_builtin(recipe: ImportRecipe, out: Path) -> None:
    from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus

    names = {field.name for field in dataclasses.fields(BuiltinCorpus)}
    settings = BuiltinCorpus(**{key: value for key, value in dataclasses.asdict(recipe).items() if key in names})
    write_builtin_corpus(out, settings, recipe.workers)


if __name__ == "__main__":
    stage.main(main)
