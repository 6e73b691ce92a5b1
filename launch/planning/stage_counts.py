"""What one stage will have to learn from and to test on, counted from its recipe and the files it reads."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epo.data.dialogue import SPLITS, Dialogue, Turn
from epo.data.replies import Reply, replies_of
from epo.data.selection import (
    clips_of_split,
    dialogues_of_split,
    labelled_clips,
    replies_of_split,
    with_history,
)
from epo.judging.opened_judge import EMBEDDINGS_JUDGE, WORDS_JUDGE
from epo.preferences.source import get_source
from launch.keys.recipe_pieces import judge_settings
from launch.planning.pipeline_files import StageFiles, builtin_settings, require_parts_named, require_something_tested
from launch.precision_check import require_kernels, require_precision
from launch.processes.ends import explain
from launch.recipe import accumulation_steps, require_max_steps

_FEW_TEST_REPLIES = 50


@dataclass
class StageCheck:
    """What a stage will have, and what is wrong with that.

    Attributes:
        stage: its name in the pipeline.
        unit: what is counted.
        training: how many of them there are to learn from; None where the stage uses none or they are not known yet.
        validation: likewise.
        test: likewise.
        clips: how many of those it learns from, or tests on, can be heard or seen.
        labels: how many of them have an emotion.
        left_out: how many training replies a compressor leaves out, for they have no past turn.
        waits_for: the stage of this run that decides on the numbers: count again after it.
        is_upper_bound: the pairs have yet to be built; there will be that many at most.
        is_provisional: the numbers are of a file that `waits_for` may write anew.
        errors: why the stage cannot run.
        warnings: why its result may be poor.
    """

    stage: str
    unit: str = "replies"
    training: int | None = None
    validation: int | None = None
    test: int | None = None
    clips: int | None = None
    labels: int | None = None
    left_out: int = 0
    waits_for: str | None = None
    is_upper_bound: bool = False
    is_provisional: bool = False
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def attempt(self, action: Callable[..., Any], *arguments: Any, key: str | None = None) -> Any:
        """Return what an action returns; where the user is at fault, note the error under a key and return None."""
        try:
            return action(*arguments)
        except ValueError as error:
            if explain(error) is None:
                raise
            self.errors.append(str(error) if key is None else f"{key}: {error}")
            return None

    def tally(self, turns: Iterable[Turn], labelled: int) -> None:
        """Count the clips of the turns that are answered, and note how many labels there are."""
        self.clips = sum(turn.clip is not None for turn in turns)
        self.labels = labelled


def check_stage(
    check: StageCheck, script: str, recipe: Any, num_ranks: int | None, files: StageFiles, verb: str | None = None
) -> None:
    """Fill in the check of a stage.

    Args:
        check: to fill in.
        script: the name of the stage's script, such as "sft.py".
        recipe: has the keys of its recipe as attributes.
        num_ranks: processes that it runs in, None where that is not known.
        files: what it will find.
        verb: of the script, where it has several that are stages.
    """
    trains = hasattr(recipe, "max_steps")
    if trains:
        check.attempt(require_max_steps, recipe.max_steps)
        check.attempt(require_precision, recipe, recipe)
        if num_ranks is not None:
            batch = (recipe.global_batch_size, recipe.per_device_train_batch_size, num_ranks)
            check.attempt(accumulation_steps, *batch)
    else:
        check.attempt(require_kernels, recipe)
    if script == "sft.py":
        check.attempt(require_parts_named, recipe)
    for key in part_keys(script, recipe, verb):
        parts = getattr(recipe, key)
        for part in parts if isinstance(parts, list) else [] if parts is None else [parts]:
            check.attempt(files.require_part, part, getattr(recipe, "parts_root", None), key=key)
    for path in getattr(recipe, "judge_data", ()):
        if files.writer(path) is None and not Path(path).is_file():
            check.errors.append(f"judge_data: {path}: no such file")
    num_errors = len(check.errors)
    count = _COUNTS_OF_VERBS.get(str(verb), _COUNTS[script])
    count(check, recipe, files)
    if check.is_provisional:  # what lies there may be replaced before the stage starts: no reason to stop
        check.warnings += check.errors[num_errors:]
        del check.errors[num_errors:]
    if trains and check.training is not None and 0 < check.training < recipe.global_batch_size:
        check.warnings.append(
            f"{check.training} to learn from are fewer than global_batch_size {recipe.global_batch_size}: every step "
            "repeats some"
        )


def part_keys(script: str, recipe: Any, verb: str | None = None) -> Sequence[str]:
    """Return the keys under which a recipe names the models that it uses."""
    if verb == "label":
        return {"corpus": (), "embeddings": ("judge_embeddings",)}.get(recipe.model, ("model",))
    if script == "sft.py":
        if recipe.input == "text":
            return ("llm",)
        return ("llm", "extractor", "compressor") if recipe.model is None else ("model",)
    if script == "preferences.py":
        source = get_source(recipe.source)
        return (*source.parts(source.settings_from(vars(recipe))), *_judge_keys(recipe))
    if script == "evaluate.py":
        return ("sft", "control", "epo", "models", "bert_score_model", *_judge_keys(recipe))
    return {
        "extractor.py": ("audio_encoder", "vision_tower"),
        "compressor.py": ("llm", "backbone"),
        "epo.py": ("model",),
    }.get(script, ())


def _judge_keys(recipe: Any) -> Sequence[str]:
    """Return the keys under which a recipe names the models of its judge."""
    is_fitted = recipe.emotion_judge in (WORDS_JUDGE, EMBEDDINGS_JUDGE)
    return ("judge_embeddings",) if is_fitted else ("emotion_judge",)


def _dialogues(check: StageCheck, data: str, files: StageFiles) -> list[Dialogue] | None:
    """Return the dialogues of a file, None where they are not known or faulty."""
    check.waits_for = files.undecided(data)
    check.is_provisional = check.waits_for is not None
    dialogues: list[Dialogue] | None = check.attempt(files.dialogues, data, key="data")
    return dialogues


def _pairs_to_learn(check: StageCheck, recipe: Any, files: StageFiles) -> Any:
    """Return the examples of the pairs of each split, None where they are not known or faulty."""
    writer = files.writer(recipe.pairs)
    if writer is not None:
        undecided = check.waits_for or (None if writer.recipe is None else files.undecided(writer.recipe.data))
        check.is_provisional = undecided is not None
        check.waits_for = undecided or writer.stage
        check.is_upper_bound = True
    return check.attempt(files.pairs, recipe.pairs, recipe.data, True, key="pairs")


def _count_import(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count dialogues; clips and labels of all turns."""
    check.unit = "dialogues"
    from launch.data_verbs.importing import check_recipe

    if recipe.corpus != "builtin" or check.attempt(builtin_settings, recipe) is not None:
        check.attempt(check_recipe, recipe)
    if check.errors:
        return
    dialogues = _dialogues(check, str(Path(recipe.output_dir) / "dialogues.jsonl"), files)
    if dialogues is None:
        return
    check.training, check.validation, check.test = (sum(d.split == split for d in dialogues) for split in SPLITS)
    turns = [turn for dialogue in dialogues for turn in dialogue.turns]
    check.tally(turns, sum(turn.emotion is not None for turn in turns))


def _count_lending(check: StageCheck, recipe: Any, files: StageFiles) -> None:
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
    dialogues = _dialogues(check, recipe.data, files)
    if dialogues is None or check.errors:
        return
    check.training, check.validation, check.test = (
        sum(is_to_be_voiced(turn) for d in dialogues if d.split == split for turn in d.turns) for split in SPLITS
    )
    if check.training + check.validation + check.test == 0:
        check.errors.append(f"data: no user turn of {recipe.data} has an emotion and lacks a clip: nothing to lend")


def _count_labelling(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count the turns that a model is to label; it need not be sure of all."""
    from epo.evaluation.labelling import human_labels, is_wanted
    from launch.data_verbs.labelling import CORPUS, check_recipe, require_clip_reader

    check.unit = "turns to label"
    check.attempt(check_recipe, recipe)
    if recipe.what == "clips" and files.writer(recipe.model) is None:
        check.attempt(require_clip_reader, recipe.model)
    if check.errors:
        return
    dialogues = _dialogues(check, recipe.data, files)
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


def _count_extractor(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count labelled clips."""
    check.unit = "labelled clips"
    dialogues = _dialogues(check, recipe.data, files)
    if dialogues is None:
        return
    train = check.attempt(clips_of_split, dialogues, "train", recipe.data, key="data")
    if train is None:
        return
    check.training = check.clips = check.labels = len(train)
    check.validation = len(labelled_clips(d for d in dialogues if d.split == "validation"))
    emotions = sorted({emotion for _, emotion in train})
    if len(emotions) == 1:
        check.warnings.append(f"every training clip is labelled {emotions[0]}: there is nothing to tell apart")
    _warn_without_validation(check)


def _count_sft(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count replies, or chosen replies where the recipe names pairs."""
    dialogues = _dialogues(check, recipe.data, files)
    if dialogues is None and check.waits_for is None:
        return  # faulty, which is said once
    if recipe.pairs is not None:
        check.unit = "chosen replies"
        pairs = _pairs_to_learn(check, recipe, files)
        train = None if pairs is None else pairs["train"]
    elif dialogues is not None:
        choice = (recipe.replies, recipe.require_clip)
        train = check.attempt(replies_of_split, dialogues, "train", recipe.data, *choice, key="data")
    if dialogues is None or train is None:
        return
    check.training = len(train)
    if recipe.input == "text":
        check.labels = sum(example.emotion is not None for example in train)
        _count_facts(check, recipe, dialogues)
        return
    labelled = [e for e in train if e.current.clip is not None and e.current.emotion is not None]
    check.tally((example.current for example in train), len(labelled))
    if check.clips == 0:
        check.warnings.append("no training reply answers a turn with a clip: only words are learnt from")
    elif recipe.emotion_weight > 0 and not labelled:
        check.warnings.append("no clip that is answered has an emotion: emotion_weight has nothing to act on")


def _count_facts(check: StageCheck, recipe: Any, dialogues: Sequence[Dialogue]) -> None:
    """Count the validation replies that a language model's recall of facts is measured on."""
    facts = {dialogue.id: dialogue.facts for dialogue in dialogues}
    held_out = replies_of((d for d in dialogues if d.split == "validation"), recipe.replies)
    check.validation = sum(bool(facts[example.dialogue_id].get(example.turn)) for example in held_out)
    if recipe.min_fact_recall is not None and check.validation == 0:
        check.errors.append(f"min_fact_recall: no validation reply of {recipe.data} has facts; leave the key out")


def _count_compressor(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count replies with a history; clips are not read."""
    dialogues = _dialogues(check, recipe.data, files)
    if dialogues is None:
        return
    replies = check.attempt(replies_of_split, dialogues, "train", recipe.data, recipe.replies, key="data")
    train = None if replies is None else check.attempt(with_history, replies, "train", recipe.data, key="data")
    if replies is not None and train is not None:
        check.training, check.left_out = len(train), len(replies) - len(train)
        check.labels = sum(example.emotion is not None for example in train)
        held_out = replies_of((d for d in dialogues if d.split == "validation"), recipe.replies)
        check.validation = sum(bool(example.history) for example in held_out)
        _warn_without_validation(check)


def _count_preferences(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count the replies that pairs can be built on."""
    source = get_source(recipe.source)
    check.attempt(source.check, source.settings_from(vars(recipe)))
    if _dialogues(check, recipe.data, files) is None:
        return
    gold = check.attempt(files.gold, recipe, key="data")
    if gold is not None:
        check.training, check.validation, check.test = (len(gold[s]) if s in gold else None for s in SPLITS)
        replies = [example for split in gold for example in gold[split]]
        check.tally((example.current for example in replies), len(replies))
        empty = [split for split in gold if not gold[split]]
        if empty:
            check.warnings.append(f"no pair can be built on split {', '.join(empty)}")


def _count_epo(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count pairs."""
    check.unit = "pairs"
    if _dialogues(check, recipe.data, files) is None:
        return
    pairs = _pairs_to_learn(check, recipe, files)
    if pairs is not None:
        train = pairs["train"]
        check.training, check.validation = len(train), len(pairs.get("validation", ()))
        check.tally((example.current for example in train), sum(example.emotion is not None for example in train))
        _warn_without_validation(check)


def _count_evaluate(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count the replies to compare with."""
    split, data = recipe.split, recipe.data
    check.unit = f"{split} replies"
    check.attempt(require_something_tested, recipe)
    if recipe.answers is not None and files.writer(recipe.answers) is None and not Path(recipe.answers).is_file():
        check.errors.append(f"answers: {recipe.answers}: no such file")
    dialogues = _dialogues(check, data, files)
    if dialogues is None:
        return
    pairs = None if recipe.pairs is None else check.attempt(files.pairs, recipe.pairs, data, False, key="pairs")
    held_out = check.attempt(dialogues_of_split, dialogues, split, data, key="data")
    if held_out is None:
        return
    held_out = held_out[: recipe.max_dialogues]
    tested = check.attempt(replies_of_split, held_out, split, data, recipe.replies, key="data")
    if tested is None:
        return
    _choose_suites(check, recipe, dialogues, tested, [] if pairs is None else pairs.get(split, []))
    setattr(check, split, len(tested))
    check.tally((e.current for e in tested), sum(e.emotion is not None for e in tested))
    if len(tested) < _FEW_TEST_REPLIES:
        width = 1.96 * math.sqrt(0.25 / len(tested))  # of a share near one half, the normal approximation
        check.warnings.append(f"{len(tested)} replies to score: a share near 0.5 has a 95 % interval of ± {width:.2f}")


def _choose_suites(
    check: StageCheck, recipe: Any, dialogues: Sequence[Dialogue], tested: Sequence[Reply], pairs: Sequence[Reply]
) -> None:
    """Note which suites cannot be given; one that was named is an error."""
    from epo.evaluation.evaluating import choose_suites
    from epo.evaluation.suite import Task
    from epo.preferences.pair import PreferencePair

    judge = check.attempt(judge_settings, recipe)
    if judge is None:
        return
    task = Task(
        tested,
        training=replies_of((d for d in dialogues if d.split == "train"), recipe.replies),
        pairs=[PreferencePair(reply, "", None) for reply in pairs],  # what is rejected is not known yet
        clips=labelled_clips(d for d in dialogues if d.split == recipe.split),
        has_model=any((recipe.models, recipe.sft, recipe.control, recipe.epo)),
        has_reference=any((recipe.sft, recipe.epo, recipe.models)),
        judge=judge,
    )
    chosen = check.attempt(choose_suites, recipe.suites, task, key="suites")
    if chosen is not None:
        check.warnings += chosen.notes


def _warn_without_validation(check: StageCheck) -> None:
    if check.validation == 0:
        check.warnings.append("nothing to validate on: its numbers will be of training alone")


_COUNTS: dict[str, Callable[[StageCheck, Any, StageFiles], None]] = {
    "data.py": _count_import,
    "extractor.py": _count_extractor,
    "sft.py": _count_sft,
    "compressor.py": _count_compressor,
    "preferences.py": _count_preferences,
    "epo.py": _count_epo,
    "evaluate.py": _count_evaluate,
}

_COUNTS_OF_VERBS = {"lend-clips": _count_lending, "label": _count_labelling}

__all__ = ["StageCheck", "check_stage", "part_keys"]
