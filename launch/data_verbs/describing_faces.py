"""`data describe-faces`: say in a sentence what each clip's face does, into a side file of descriptions."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epo.data.checking import dialogues_file
from epo.data.describers.describer import DESCRIBERS
from epo.data.describing_clips import describe_clips
from epo.data.descriptions import DESCRIPTION
from epo.data.dialogue import DataError, read_dialogues
from epo.data.side_files import write_side_file
from epo.files import write_whole
from launch.data_verbs.derived_corpus import refuse_same_folder, with_output_dir
from launch.folder.stage_folder import open_folder
from launch.keys.recipe_pieces import DataKeys, OutputKeys, SeedKeys, StageRecipe
from launch.recipe import ChosenBy, RecipeError, read_recipe
from launch.tracking import open_run


@dataclass(kw_only=True)
class DescribeRecipe(SeedKeys, OutputKeys, DataKeys, StageRecipe):
    """Describe the face of each clip, and no label of it, in `descriptions.jsonl` with the numbers behind each."""

    source: str = field(
        default="builtin", metadata={"help": "what sentences are made from: builtin, au, csv or vision"}
    )


def _options_of(source: str) -> type[Any] | None:
    return DESCRIBERS.get(source).options


RECIPES = [DescribeRecipe, ChosenBy("source", "builtin", _options_of, DESCRIBERS.names)]
"""The keys of a description: its own, and those that only its source has."""


def run(argv: Sequence[str]) -> None:
    """Write the descriptions that a recipe asks for, unless this very recipe was finished before."""
    argv = with_output_dir(argv)
    recipes = read_recipe(RECIPES, argv)
    recipe, *options = recipes
    check_recipe(recipe)
    data = dialogues_file(Path(recipe.data))
    out = Path(recipe.output_dir)
    with open_folder(out, list(recipes), argv, rewritten=["descriptions.jsonl"]) as folder:
        if folder.is_done:
            return
        with open_run("describe-faces", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
            dialogues = list(read_dialogues(data))
            source = DESCRIBERS.get(recipe.source)
            describe = source.open(options[0] if options else None, data, dialogues, recipe.seed, out)
            found = describe_clips(dialogues, describe, recipe.source)
            print(*found.summary(), sep="\n")
            lines = "".join(json.dumps(left, ensure_ascii=False) + "\n" for left in found.left)
            write_whole(out / "left_out.jsonl", lines)
            if not found.lines:
                raise DataError(
                    f"{data}: no clip could be described by source {recipe.source}; the reasons stand above"
                )
            write_side_file(out / "descriptions.jsonl", DESCRIPTION, found.lines)
            card = {"source": recipe.source, "data": str(data), **found.as_json()}
            write_whole(out / "card.json", json.dumps(card, indent=2, ensure_ascii=False) + "\n")
            tracked.log_metrics({f"described/{split}": count for split, count in card["described"].items()})
            tracked.log_artifact(out / "card.json")
        folder.finish(card)
    print(f"wrote {out / 'descriptions.jsonl'}")


def check_recipe(recipe: Any) -> None:
    """Refuse a description that would lie in the folder of its dialogues.

    Args:
        recipe: has the keys of a `DescribeRecipe` as attributes.

    Raises:
        RecipeError: with the remedy.
    """
    refuse_same_folder(recipe.output_dir, {"data": [recipe.data]})
    if recipe.source not in DESCRIBERS.names():
        raise RecipeError(f"source {recipe.source!r}: want one of {', '.join(DESCRIBERS.names())}")


__all__ = ["RECIPES", "DescribeRecipe", "check_recipe", "run"]
