"""What the stages of launch/data.py will have: dialogues to import, clips to lend or to describe, turns to label."""

from pathlib import Path
from typing import Any

from epo.data.dialogue import SPLITS
from launch.planning.pipeline_files import StageFiles, builtin_settings
from launch.planning.stage_check import StageCheck, open_dialogues


def count_import(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count dialogues; clips and labels of all turns."""
    check.unit = "dialogues"
    from launch.data_verbs.importing import check_recipe

    if recipe.corpus != "builtin" or check.attempt(builtin_settings, recipe) is not None:
        check.attempt(check_recipe, recipe)
    if check.errors:
        return
    dialogues = open_dialogues(check, str(Path(recipe.output_dir) / "dialogues.jsonl"), files)
    if dialogues is None:
        return
    check.training, check.validation, check.test = (sum(d.split == split for d in dialogues) for split in SPLITS)
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    check.tally(turns, sum(turn.emotion is not None for turn in turns))


def count_lending(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count the turns that are to be lent a clip; not all need find a voice."""
    from epo.data.lending import is_to_be_voiced
    from launch.data_verbs.lending import check_recipe

    check.unit = "turns to lend a clip"
    check.attempt(check_recipe, recipe)
    if check.errors:
        return
    for file in recipe.voices:
        if files.undecided(file) is None:
            check.attempt(files.dialogues, file, key="voices")
    dialogues = open_dialogues(check, recipe.data, files)
    if dialogues is None or check.errors:
        return
    check.training, check.validation, check.test = (
        sum(is_to_be_voiced(turn) for d in dialogues if d.split == split for turn in d.turns) for split in SPLITS
    )
    if check.training + check.validation + check.test == 0:
        check.errors.append(f"data: no user turn of {recipe.data} has an emotion and lacks a clip: nothing to lend")


def count_describing(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count the clips with a picture; not all need get a sentence."""
    from launch.data_verbs.describing_faces import check_recipe

    check.unit = "clips to describe"
    check.attempt(check_recipe, recipe)
    dialogues = None if check.errors else open_dialogues(check, recipe.data, files)
    if dialogues is None:
        return
    check.training, check.validation, check.test = (
        sum(t.clip is not None and t.clip.video is not None for d in dialogues if d.split == split for t in d.turns)
        for split in SPLITS
    )
    if check.training + check.validation + check.test == 0:
        check.errors.append(f"data: no turn of {recipe.data} has a clip with a picture: nothing to describe")


def count_labelling(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count the turns that a model is to label; it need not be sure of all."""
    from epo.evaluation.labelling import human_labels, is_wanted
    from launch.data_verbs.labelling import CORPUS, check_recipe, require_clip_reader

    check.unit = "turns to label"
    check.attempt(check_recipe, recipe)
    if recipe.what == "clips" and files.writer(recipe.model) is None:
        check.attempt(require_clip_reader, recipe.model)
    if check.errors:
        return
    dialogues = open_dialogues(check, recipe.data, files)
    if dialogues is None:
        return
    due = {split: 0 for split in SPLITS if split in recipe.splits}
    for dialogue in dialogues:
        if dialogue.split in due:
            due[dialogue.split] += sum(is_wanted(turn, recipe.what) and turn.emotion is None for turn in dialogue.turns)
    check.training, check.validation, check.test = (due.get(split) for split in SPLITS)
    if not any(due.values()):
        check.warnings.append(f"no turn of {recipe.data} is left to label: its splits {', '.join(due)} have none")
    known = {emotion for *_, emotion in human_labels(dialogues, recipe.what, lambda split: split == "train")}
    if recipe.model == CORPUS and len(known) < 2:
        found = ", ".join(sorted(known)) or "none"
        check.errors.append(f"model corpus: want two emotions or more among labelled turns of train, found {found}")


__all__ = ["count_describing", "count_import", "count_labelling", "count_lending"]
