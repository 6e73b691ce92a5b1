"""What one stage will have to learn from and to test on, counted from its recipe and the files it reads."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from epo.data.dialogue import SPLITS, Dialogue
from epo.data.replies import Reply, replies_of
from epo.data.selection import (
    clips_of_split,
    clips_to_recognise,
    held_out_dialogues,
    held_out_replies,
    labelled_clips,
    labelled_strategies,
    rated_clips,
    rated_clips_of_split,
    replies_of_split,
    with_history,
)
from epo.judging.opened_judge import EMBEDDINGS_JUDGE, WORDS_JUDGE
from epo.preferences.source import get_source
from launch.keys.recipe_pieces import judge_settings
from launch.planning.data_counts import count_describing, count_import, count_labelling, count_lending
from launch.planning.pipeline_files import StageFiles, require_parts_named, require_something_tested
from launch.planning.stage_check import StageCheck, open_dialogues
from launch.precision_check import require_kernels, require_precision
from launch.recipe import accumulation_steps, require_max_steps, require_rated_batches

_FEW_TEST_REPLIES = 50


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
    for key, made_by in (("descriptions", "; launch/data.py describe-faces writes one"), ("transcripts", "")):
        path = getattr(recipe, key, None)
        if path is not None and files.writer(path) is None and not Path(path).is_file():
            check.errors.append(f"{key}: {path}: no such file{made_by}")
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
    if verb == "describe-faces":
        return ()
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
        tested = ("sft", "control", "epo", "models", "cascade", "cascade_extractor", "vad_extractor")
        return (*tested, "bert_score_model", *_judge_keys(recipe))
    return {
        "extractor.py": ("audio_encoder", "vision_tower", "extractor", "llm"),
        "compressor.py": ("llm", "backbone"),
        "epo.py": ("model", "adapter"),
    }.get(script, ())


def _judge_keys(recipe: Any) -> Sequence[str]:
    """Return the keys under which a recipe names the models of its judge."""
    is_fitted = recipe.emotion_judge in (WORDS_JUDGE, EMBEDDINGS_JUDGE)
    return ("judge_embeddings",) if is_fitted else ("emotion_judge",)


def _pairs_to_learn(check: StageCheck, recipe: Any, files: StageFiles) -> Any:
    """Return the examples of the pairs of each split, None where they are not known or faulty."""
    writer = files.writer(recipe.pairs)
    if writer is not None:
        undecided = check.waits_for or (None if writer.recipe is None else files.undecided(writer.recipe.data))
        check.is_provisional = undecided is not None
        check.waits_for = undecided or writer.stage
        check.is_upper_bound = True
    return check.attempt(files.pairs, recipe.pairs, recipe.data, True, key="pairs")


def _count_extractor(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count labelled clips."""
    check.unit = "labelled clips"
    dialogues = open_dialogues(check, recipe.data, files)
    if dialogues is None:
        return
    if recipe.descriptions is not None:
        _count_described(check, recipe, dialogues)
        return
    if recipe.vad_weight > 0:
        _count_rated(check, recipe, dialogues)
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


def _count_rated(check: StageCheck, recipe: Any, dialogues: Sequence[Dialogue]) -> None:
    """Count clips with an emotion, or with valence, arousal and dominance."""
    check.unit = "labelled or rated clips"
    check.attempt(require_rated_batches, recipe.vad_weight, recipe.per_device_train_batch_size)
    train = check.attempt(rated_clips_of_split, dialogues, "train", recipe.data, key="data")
    if train is None:
        return
    check.training = check.clips = len(train)
    check.labels = sum(one.emotion is not None for one in train)
    check.validation = len(clips_to_recognise(d for d in dialogues if d.split == "validation"))
    _warn_without_validation(check)


def _count_described(check: StageCheck, recipe: Any, dialogues: Sequence[Dialogue]) -> None:
    """Count clips with a picture, of which each may be described."""
    check.unit, check.is_upper_bound = "described clips", True
    seen = {
        split: [turn for d in dialogues if d.split == split for turn in d.turns if turn.speaker == "user"]
        for split in ("train", "validation")
    }
    shown = {
        split: [t for t in turns if t.clip is not None and t.clip.video is not None] for split, turns in seen.items()
    }
    check.training, check.validation = len(shown["train"]), len(shown["validation"])
    check.tally(shown["train"], sum(turn.emotion is not None for turn in shown["train"]))
    if not shown["train"]:
        check.errors.append(
            f"data: no user turn of split 'train' of {recipe.data} has a clip with a picture to describe"
        )
    _warn_without_validation(check)


def _count_sft(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count replies, or chosen replies where the recipe names pairs."""
    dialogues = open_dialogues(check, recipe.data, files)
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
    dialogues = open_dialogues(check, recipe.data, files)
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
    if open_dialogues(check, recipe.data, files) is None:
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
    if recipe.tune == "all":
        from epo.training.term_needs import require_kept_reference

        check.attempt(require_kept_reference, recipe)
    if open_dialogues(check, recipe.data, files) is None:
        return
    pairs = _pairs_to_learn(check, recipe, files)
    if pairs is not None:
        train = pairs["train"]
        check.training, check.validation = len(train), len(pairs.get("validation", ()))
        check.tally((example.current for example in train), sum(example.emotion is not None for example in train))
        _warn_without_validation(check)


def _count_evaluate(check: StageCheck, recipe: Any, files: StageFiles) -> None:
    """Count the replies to compare with."""
    split, data, check.unit = recipe.split, recipe.data, f"{recipe.split} replies"
    check.attempt(require_something_tested, recipe)
    check.attempt(files.require_vad_head, recipe.vad_extractor)
    for file in [recipe.answers] if isinstance(recipe.answers, str) else recipe.answers or ():
        if files.writer(file) is None and not Path(file).is_file():
            check.errors.append(f"answers: {file}: no such file")
    dialogues = open_dialogues(check, data, files)
    if dialogues is None:
        return
    pairs = None if recipe.pairs is None else check.attempt(files.pairs, recipe.pairs, data, False, key="pairs")
    held_out = check.attempt(held_out_dialogues, dialogues, split, data, key="data")
    if held_out is None:
        return
    choice = (held_out[: recipe.max_dialogues], split, data, recipe.replies)
    tested = check.attempt(held_out_replies, *choice, key="data")
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
        rated=rated_clips(d for d in dialogues if d.split == recipe.split),
        has_model=any((recipe.models, recipe.sft, recipe.control, recipe.epo, recipe.vad_extractor)),
        has_reference=any((recipe.sft, recipe.epo, recipe.models)),
        judge=judge,
        strategies=labelled_strategies(d for d in dialogues if d.split in (recipe.split, None)),
    )
    chosen = check.attempt(choose_suites, recipe.suites, task, key="suites")
    if chosen is not None:
        check.warnings += chosen.notes


def _warn_without_validation(check: StageCheck) -> None:
    if check.validation == 0:
        check.warnings.append("nothing to validate on: its numbers will be of training alone")


_COUNTS: dict[str, Callable[[StageCheck, Any, StageFiles], None]] = {
    "data.py": count_import,
    "extractor.py": _count_extractor,
    "sft.py": _count_sft,
    "compressor.py": _count_compressor,
    "preferences.py": _count_preferences,
    "epo.py": _count_epo,
    "evaluate.py": _count_evaluate,
}

_COUNTS_OF_VERBS = {"lend-clips": count_lending, "describe-faces": count_describing, "label": count_labelling}

__all__ = ["StageCheck", "check_stage", "part_keys"]
