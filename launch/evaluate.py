"""Compare models, or replies from a file, on held-out dialogues: `launch/evaluate.py --config FILE`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from launch import stage
from epo.data.cache import ClipCache
from epo.data.dialogue import Dialogue
from epo.data.replies import replies_of
from epo.data.selection import dialogues_of_split, labelled_clips, replies_of_split
from epo.evaluation.answers import read_answers, write_replies
from epo.evaluation.contestants import Contestant, Generation
from epo.evaluation.evaluating import Chosen, choose_suites, compare, prepare
from epo.evaluation.folders import base_folder, is_adapter, row_names
from epo.evaluation.report import describe_hardware, format_table, write_report
from epo.evaluation.suite import Answers, Kind, Task
from epo.model.heard_emotions import heard_emotions_of
from epo.model.loading import load_adapter, load_model
from epo.preferences.pair import PreferencePair, pairs_of_split
from epo.training.collate import PromptBuilder
from launch.folder.stage_folder import StageFolder, open_folder
from launch.keys.recipe_pieces import (
    ClipsKeys,
    DataKeys,
    JudgeKeys,
    OutputKeys,
    PartsKeys,
    RepliesKeys,
    SeedKeys,
    StageRecipe,
    WeightsKeys,
)
from launch.planning.pipeline_files import require_something_tested
from launch.precision_check import require_kernels
from launch.processes.process_group import join_ranks
from launch.recipe import RecipeError, read_recipe
from launch.tracking import open_run
from launch.training import open_corpus, open_pairs


@dataclass(kw_only=True)
class EvaluateRecipe(
    DataKeys, RepliesKeys, JudgeKeys, WeightsKeys, ClipsKeys, SeedKeys, OutputKeys, PartsKeys, StageRecipe
):
    """Score what models reply to held-out dialogues, with the clip or memory changed too, or what lies in a file."""

    models: list[str] | None = field(
        default=None, metadata={"help": "folders to test, each a model of launch/sft.py or an adapter of launch/epo.py"}
    )
    answers: str | None = field(
        default=None, metadata={"help": "file of replies to test: lines with dialogue_id, turn and reply"}
    )
    sft: str | None = field(default=None, metadata={"help": "folder written by launch/sft.py; the reference"})
    control: str | None = field(default=None, metadata={"help": "folder of SFT continued on the chosen replies"})
    epo: str | None = field(default=None, metadata={"help": "adapter folder written by launch/epo.py"})
    pairs: str | None = field(default=None, metadata={"help": "pairs.jsonl, for held-out rewards"})
    suites: list[str] | None = field(
        default=None, metadata={"help": "what to score, by names; none takes all that can be given"}
    )
    split: Literal["validation", "test"] = field(default="test", metadata={"help": "which dialogues to answer"})
    max_dialogues: int | None = field(default=None, metadata={"help": "answer only the first so many"})
    variants: bool = field(default=True, metadata={"help": "test models with clips and memories changed, too"})
    max_new_tokens: int = field(default=48, metadata={"help": "longest reply"})
    batch_size: int = field(default=50, metadata={"help": "prompts at a time on each rank"})
    bert_score_model: str | None = field(default=None, metadata={"help": "encoder for BERTScore; none leaves it out"})
    bert_score_layer: int | None = field(default=None, metadata={"help": "its layer; none: the package's choice"})

    def __post_init__(self) -> None:
        """Refuse keys that would do nothing."""
        _ = self.judge  # refuses keys of a judge that lack one another
        if self.bert_score_layer is not None and self.bert_score_model is None:
            raise RecipeError("bert_score_layer would do nothing: name the encoder in bert_score_model too")
        if self.bert_score_model is not None and self.suites is not None and "overlap" not in self.suites:
            raise RecipeError("bert_score_model would do nothing: add overlap to suites")

    @property
    def reads_clips(self) -> bool:
        """Whether a model is asked: replies from a file are scored by their words alone."""
        return any((self.models, self.sft, self.control, self.epo))


@dataclass(frozen=True)
class System:
    """A model to load when its turn comes.

    Attributes:
        name: of its row.
        folder: of the whole model.
        adapter: folder of the LoRA on it, None where there is none.
        kind: of its row; what is tested itself is tested with changed clips and memories too.
    """

    name: str
    folder: str
    adapter: str | None
    kind: Kind


RECIPES = [EvaluateRecipe]
_BESIDE = ("judge_accuracy", "judge_macro_f1", "judge_majority", "history_reduction")


def run() -> None:
    """Answer the held-out dialogues with each model, score what came, and write the report."""
    (recipe,) = read_recipe(RECIPES)
    systems = systems_of(recipe)
    require_kernels(recipe)
    recipe.require_judge_data()
    dialogues = open_corpus(recipe.data)
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    pairs = [] if recipe.pairs is None else open_pairs(recipe.pairs, by_id)
    task = task_of(recipe, dialogues, pairs)
    chosen = choose_suites(recipe.suites, task)
    read = _read(recipe, systems, by_id, task)
    device = join_ranks()
    with open_folder(Path(recipe.output_dir), [recipe], rewritten=[]) as folder:
        if not folder.is_done:
            _evaluate(recipe, systems, read, task, chosen, device, folder)


def systems_of(recipe: EvaluateRecipe) -> list[System]:
    """Return the models that a recipe tests, in the order of their rows.

    Raises:
        RecipeError: nothing is tested.
        FolderError: a folder of `models` holds nothing to test, is named twice, or an adapter's model is not there.
    """
    require_something_tested(recipe)
    found = []
    if recipe.sft is not None:
        found.append(System("sft", recipe.sft, None, "base"))
    if recipe.control is not None:
        found.append(System("sft+chosen", recipe.control, None, "base"))
    if recipe.epo is not None:
        base = base_folder(recipe.epo) if recipe.sft is None else recipe.sft
        found.append(System("sft+epo", base, recipe.epo, "main"))
    named = [recipe.sft, recipe.control, recipe.epo]
    paths = [*(path for path in named if path is not None), *(recipe.models or ())]
    names = row_names(paths, {"majority", *(system.name for system in found)})[len(found) :]
    for name, folder in zip(names, recipe.models or (), strict=True):
        is_lora = is_adapter(folder)
        found.append(System(name, base_folder(folder) if is_lora else folder, folder if is_lora else None, "main"))
    return found


def task_of(recipe: EvaluateRecipe, dialogues: list[Dialogue], pairs: list[PreferencePair]) -> Task:
    """Return what is answered, and what there is to score it with.

    Raises:
        DataError: the split has no dialogue, or none with a reply.
    """
    held_out = dialogues_of_split(dialogues, recipe.split, recipe.data)[: recipe.max_dialogues]
    gold = replies_of_split(held_out, recipe.split, recipe.data, recipe.replies)
    tested = {reply.dialogue_id for reply in gold}
    return Task(
        gold,
        training=replies_of((d for d in dialogues if d.split == "train"), recipe.replies),
        pairs=[pair for pair in pairs_of_split(pairs, recipe.split) if pair.reply.dialogue_id in tested],
        clips=labelled_clips(held_out),
        has_model=recipe.reads_clips,
        has_reference=recipe.sft is not None or any(system.adapter is not None for system in systems_of(recipe)),
        bert_score_model=recipe.bert_score_model,
        bert_score_layer=recipe.bert_score_layer,
        seed=recipe.seed,
        judge=recipe.judge,
    )


def _read(
    recipe: EvaluateRecipe, systems: list[System], by_id: dict[str, Dialogue], task: Task
) -> tuple[list[Answers], list[str]]:
    """Return the replies that lie in a file, and notes on them."""
    if recipe.answers is None:
        return [], []
    replies, notes = read_answers(recipe.answers, by_id, task.gold)
    (name,) = row_names([recipe.answers], {"majority", *(system.name for system in systems)})
    if notes and stage.rank() == 0:
        print("\n".join(notes))
    return [Answers(name, replies)], notes


def _evaluate(
    recipe: EvaluateRecipe,
    systems: list[System],
    read: tuple[list[Answers], list[str]],
    task: Task,
    chosen: Chosen,
    device: torch.device,
    folder: StageFolder,
) -> None:
    out, (answers, notes) = folder.path, read
    prepare(chosen, task)
    with open_run("evaluate", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        generation = Generation(recipe.batch_size, recipe.max_new_tokens)

        def keep(said: Answers) -> None:
            if stage.rank() == 0:
                write_replies(out / "replies", said, task.gold)

        report = compare(_entrants(recipe, systems, answers, device), task, chosen, generation, keep)
        if stage.rank() == 0:
            report |= {"notes": [*notes, *report["notes"]], "settings": _settings(recipe, task, chosen)}
            report["hardware"] = describe_hardware()
            write_report(out, report)
            metrics = _metrics(report)
            tracked.log_metrics(metrics)
            tracked.log_artifact(out / "report.json")
            tracked.log_artifact(out / "report.html")
            print(format_table(report))
            folder.finish(metrics)


def _entrants(
    recipe: EvaluateRecipe, systems: list[System], answers: list[Answers], device: torch.device
) -> Iterator[Contestant | Answers]:
    """Load each model when its turn comes; the reference stays."""
    cache = ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir))
    reference: Any = None
    for system in systems:
        whole, processor = load_model(system.folder, recipe.dtype, quantize=recipe.quantize)
        model = (whole if system.adapter is None else load_adapter(whole, system.adapter)).to(device)
        if system.name == "sft":
            reference = model
        build = PromptBuilder(processor, cache, heard_emotions_of(model, processor, cache))
        contestant = Contestant(name=system.name, model=model, build=build, reference=reference, kind=system.kind)
        yield contestant
        if system.kind == "main" and recipe.variants:
            yield from contestant.changed()
    yield from answers


def _settings(recipe: EvaluateRecipe, task: Task, chosen: Chosen) -> dict[str, Any]:
    return {
        "split": recipe.split,
        "num_dialogues": len({reply.dialogue_id for reply in task.gold}),
        "num_replies": len(task.gold),
        "data": recipe.data,
        "suites": ", ".join(chosen.suites),
        "emotion_judge": recipe.emotion_judge,
        "bert_score_model": recipe.bert_score_model,
        "bert_score_layer": recipe.bert_score_layer,
    }


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    """Return every number of the rows, and those beside them, under names that MLflow takes."""
    keys = [column["key"] for column in report["columns"]]
    found = {f"{row['name']}/{key}": row[key] for row in report["rows"] for key in keys}
    for name in ("accuracy", "majority"):
        found[f"emotion_recognition/{name}"] = report.get("emotion_recognition", {}).get(name)
    found |= {name: report.get(name) for name in _BESIDE}
    return {
        re.sub(r"[^\w\-. /]", "_", name.replace(", ", "_")): value for name, value in found.items() if value is not None
    }


if __name__ == "__main__":
    stage.main(run)
