"""Compare models, or replies from files, on held-out dialogues: `launch/evaluate.py --config FILE`.

Without a recipe: `launch/evaluate.py --replies FILE --dialogues FILE --out FOLDER`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch

from launch import stage
from epo.data.cache import ClipCache
from epo.data.dialogue import Dialogue
from epo.data.replies import replies_of
from epo.data.selection import held_out_dialogues, held_out_replies, labelled_clips, labelled_strategies, rated_clips
from epo.emotions import VAD_NAMES
from epo.evaluation.answers import FileReplies, read_replies
from epo.evaluation.chat_system import ChatSystem
from epo.evaluation.contestants import Contestant, Generation
from epo.evaluation.evaluating import Chosen, choose_suites, compare, prepare
from epo.evaluation.folders import row_names, thinks_in_labels
from epo.evaluation.kept_rows import KeptRows
from epo.evaluation.report import describe_hardware, format_table, report_files, write_report
from epo.evaluation.rollout import RollOut
from epo.evaluation.sample_media import with_sample_media
from epo.evaluation.stress_tests import stress_tests
from epo.evaluation.suite import Answers, Task
from epo.evaluation.vad_file import read_vad, unused_rows
from epo.model.heard_emotions import heard_emotions_of
from epo.model.loading import load_adapter, load_model
from epo.model.parts import load_text_model, load_tokenizer
from epo.preferences.pair import PreferencePair, pairs_of_split
from epo.training.collate import PromptBuilder
from launch.cascade_rows import cascade_rows
from launch.folder.stage_folder import StageFolder, open_folder
from launch.keys.recipe_pieces import (
    ClipsKeys,
    DescribedDataKeys,
    JudgeKeys,
    OutputKeys,
    PartsKeys,
    RepliesKeys,
    SeedKeys,
    StageRecipe,
    WeightsKeys,
)
from launch.measured_courses import with_measured_courses
from launch.planning.pipeline_files import StageFiles
from launch.planning.tested_systems import System, rows_made, systems_of, taken_names
from launch.precision_check import require_kernels
from launch.processes.process_group import join_ranks
from launch.recipe import RecipeError, read_recipe
from launch.tracking import open_run
from launch.training import open_corpus, open_pairs


@dataclass(kw_only=True)
class EvaluateRecipe(
    DescribedDataKeys, RepliesKeys, JudgeKeys, WeightsKeys, ClipsKeys, SeedKeys, OutputKeys, PartsKeys, StageRecipe
):
    """Score what models reply to held-out dialogues, with the clip or memory changed too, or what lies in a file."""

    models: list[str] | None = field(
        default=None,
        metadata={"help": "folders to test, each a model or an adapter, of launch/sft.py or launch/epo.py"},
    )
    answers: list[str] | None = field(
        default=None,
        metadata={"help": "files of replies to test, --replies too: lines with dialogue_id, turn and reply"},
    )
    chat_models: list[str] | None = field(
        default=None, metadata={"help": "chat models to test on the text alone: folders or hub names"}
    )
    chat_system_prompt: str = field(default="", metadata={"help": "what chat models are told before the dialogue"})
    sft: str | None = field(default=None, metadata={"help": "folder written by launch/sft.py; the reference"})
    control: str | None = field(default=None, metadata={"help": "folder of SFT continued on the chosen replies"})
    epo: str | None = field(default=None, metadata={"help": "folder written by launch/epo.py"})
    pairs: str | None = field(default=None, metadata={"help": "pairs.jsonl, for held-out rewards"})
    vad: str | None = field(default=None, metadata={"help": "vad.jsonl: valence and arousal measured in speech"})
    vad_extractor: str | None = field(
        default=None, metadata={"help": "extractor with a head for them (vad_weight): measures them, too"}
    )
    suites: list[str] | None = field(
        default=None, metadata={"help": "what to score, by names; none takes all that can be given, but memory"}
    )
    cascade: str | None = field(
        default=None, metadata={"help": "text language model that answers `(label) words`: rows of a cascade"}
    )
    cascade_extractor: str | None = field(
        default=None, metadata={"help": "folder with the extractor that recognises the cascade's labels"}
    )
    split: Literal["validation", "test"] = field(default="test", metadata={"help": "which dialogues to answer"})
    max_dialogues: int | None = field(default=None, metadata={"help": "answer only the first so many"})
    variants: bool = field(default=True, metadata={"help": "test models with clips and memories changed, too"})
    stress: list[str] | None = field(
        default=None, metadata={"help": "test models under noise=DECIBELS, blur=PERCENT or oracle, too: a row each"}
    )
    rollout: bool = field(
        default=False, metadata={"help": "test models in whole dialogues with their own replies, too"}
    )
    sampled: bool = field(default=True, metadata={"help": "let models also draw replies at temperature 1"})
    max_new_tokens: int = field(default=48, metadata={"help": "longest reply"})
    batch_size: int = field(default=50, metadata={"help": "prompts at a time on each rank"})
    bert_score_model: str | None = field(default=None, metadata={"help": "encoder for BERTScore; none leaves it out"})
    bert_score_layer: int | None = field(default=None, metadata={"help": "its layer; none: the package's choice"})

    def __post_init__(self) -> None:
        """Refuse keys that would do nothing; one file of replies may stand without a list around it."""
        if isinstance(self.answers, str):
            self.answers = [self.answers]
        if self.chat_system_prompt and not self.chat_models:
            raise RecipeError("chat_system_prompt would do nothing: name who is told it in chat_models too")
        stress_tests(self.stress or ())
        if self.stress and not (self.models or self.epo):
            raise RecipeError("stress would do nothing: name a model to test in models or epo too")
        _ = self.judge  # refuses keys of a judge that lack one another
        if self.cascade_extractor is not None and self.cascade is None:
            raise RecipeError("cascade_extractor would do nothing: name the language model in cascade too")
        if self.bert_score_layer is not None and self.bert_score_model is None:
            raise RecipeError("bert_score_layer would do nothing: name the encoder in bert_score_model too")
        if self.vad is not None and self.suites is not None and "trajectories" not in self.suites:
            raise RecipeError("vad would do nothing: add trajectories to suites")
        if self.vad_extractor and self.suites is not None and {"trajectories", "recognition"}.isdisjoint(self.suites):
            raise RecipeError("vad_extractor would do nothing: add trajectories or recognition to suites")
        if self.bert_score_model is not None and self.suites is not None and "overlap" not in self.suites:
            raise RecipeError("bert_score_model would do nothing: add overlap to suites")

    @property
    def reads_clips(self) -> bool:
        """Whether a model hears and sees: chat models, and replies from a file, are of words alone."""
        return any((self.models, self.sft, self.control, self.epo, self.cascade_extractor, self.vad_extractor))


RECIPES = [EvaluateRecipe]
_BESIDE = ("judge_accuracy", "judge_macro_f1", "judge_majority", "history_reduction")


def run() -> None:
    """Answer the held-out dialogues with each model, score what came, and write the report."""
    (recipe,) = read_recipe(RECIPES)
    systems = systems_of(recipe)
    require_kernels(recipe)
    recipe.require_judge_data()
    StageFiles().require_vad_head(recipe.vad_extractor)
    dialogues = open_corpus(recipe.data, recipe.descriptions, recipe.transcripts)
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    pairs = [] if recipe.pairs is None else open_pairs(recipe.pairs, by_id)
    task = task_of(recipe, dialogues, pairs)
    chosen = choose_suites(recipe.suites, task)
    read = _read(recipe, by_id, task)
    device = join_ranks()
    with open_folder(Path(recipe.output_dir), [recipe], rewritten=[]) as folder:
        if not folder.is_done:
            _evaluate(recipe, systems, read, dialogues, task, chosen, device, folder)


def task_of(recipe: EvaluateRecipe, dialogues: list[Dialogue], pairs: list[PreferencePair]) -> Task:
    """Return what is answered, and what there is to score it with.

    Raises:
        DataError: the split has no dialogue, or none with a reply.
    """
    held_out = held_out_dialogues(dialogues, recipe.split, recipe.data)[: recipe.max_dialogues]
    gold = held_out_replies(held_out, recipe.split, recipe.data, recipe.replies)
    tested = {reply.dialogue_id for reply in gold}
    return Task(
        gold,
        training=replies_of((d for d in dialogues if d.split == "train"), recipe.replies),
        pairs=[pair for pair in pairs_of_split(pairs, recipe.split) if pair.reply.dialogue_id in tested],
        clips=labelled_clips(held_out),
        rated=rated_clips(held_out),
        has_model=recipe.reads_clips,
        has_reference=recipe.sft is not None or any(system.adapter is not None for system in systems_of(recipe)),
        bert_score_model=recipe.bert_score_model,
        bert_score_layer=recipe.bert_score_layer,
        seed=recipe.seed,
        judge=recipe.judge,
        vad=() if recipe.vad is None else read_vad(recipe.vad, {dialogue.id: dialogue for dialogue in dialogues}),
        strategies=labelled_strategies(held_out),
        has_thoughts=any(thinks_in_labels(system.folder) for system in systems_of(recipe)),
    )


def _read(recipe: EvaluateRecipe, by_id: dict[str, Dialogue], task: Task) -> dict[str, FileReplies]:
    """Return the replies that lie in files, by the names of their rows."""
    names = row_names(recipe.answers or (), taken_names(recipe))
    found = {name: read_replies(file, by_id, task.gold) for name, file in zip(names, recipe.answers or (), strict=True)}
    if stage.rank() == 0:
        print("".join(f"{note}\n" for read in found.values() for note in read.notes), end="")
    return found


def _evaluate(
    recipe: EvaluateRecipe,
    systems: list[System],
    read: dict[str, FileReplies],
    dialogues: list[Dialogue],
    task: Task,
    chosen: Chosen,
    device: torch.device,
    folder: StageFolder,
) -> None:
    out = folder.path
    if stage.rank() == 0:  # where the suites that take it are scored
        task = with_measured_courses(recipe.vad_extractor, recipe.cache_dir, task, dialogues, device)
    prepare(chosen, task)
    with open_run("evaluate", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        generation = Generation(recipe.batch_size, recipe.max_new_tokens)
        made = rows_made(
            folder.identity, systems, {name: [said.replies, said.strategies] for name, said in read.items()}
        )
        kept = KeptRows(out / "replies", task.gold, made, is_taken_up=not recipe.fresh)
        entrants = chain(
            _entrants(recipe, systems, read, dialogues, device), cascade_rows(recipe, task, generation, device)
        )
        report = compare(entrants, task, chosen, generation, kept)
        if stage.rank() == 0:
            notes = [note for said in read.values() for note in said.notes]
            notes += unused_rows(task.vad, [row["name"] for row in report["rows"]])
            report |= {"notes": [*notes, *report["notes"]], "settings": _settings(recipe, task, chosen)}
            report["replies_read"] = {name: said.counts for name, said in read.items()}
            report["hardware"] = describe_hardware()
            report["examples"] = with_sample_media(report["examples"], task.gold, out)
            write_report(out, report)
            metrics = _metrics(report)
            tracked.log_metrics(metrics)
            for path in report_files(out):
                tracked.log_artifact(path)
            print(format_table(report))
            folder.finish(metrics)


def _entrants(
    recipe: EvaluateRecipe,
    systems: list[System],
    read: dict[str, FileReplies],
    dialogues: list[Dialogue],
    device: torch.device,
) -> Iterator[Contestant | ChatSystem | RollOut | Answers]:
    """Load each model when its turn comes; the reference stays."""
    cache = ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir))
    reference: Any = None
    for system in systems:
        if system.is_chat:
            chat = load_text_model(system.folder, recipe.dtype, recipe.quantize).to(device)
            tokenizer = load_tokenizer(system.folder, ())
            yield ChatSystem(
                name=system.name,
                model=chat,
                tokenizer=tokenizer,
                system_prompt=recipe.chat_system_prompt,
                is_sampled=recipe.sampled,
            )
            continue
        whole, processor = load_model(system.folder, recipe.dtype, quantize=recipe.quantize)
        model = (whole if system.adapter is None else load_adapter(whole, system.adapter)).to(device)
        if system.name == "sft":
            reference = model
        build = PromptBuilder(processor, cache, heard_emotions_of(model, processor, cache))
        contestant = Contestant(
            name=system.name,
            model=model,
            build=build,
            reference=reference,
            kind=system.kind,
            is_sampled=recipe.sampled,
        )
        yield contestant
        if system.kind == "main" and recipe.variants:
            yield from contestant.changed()
        if system.kind == "main":
            yield from contestant.stressed(stress_tests(recipe.stress or (), recipe.seed))
        if system.kind == "main" and recipe.rollout:
            yield RollOut(contestant, dialogues)
    for name, said in read.items():
        yield Answers(name, said.replies, strategies=said.strategies if any(said.strategies) else None)


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
    for name in VAD_NAMES:
        found[f"vad_recognition/{name}_ccc"] = report.get("vad_recognition", {}).get(f"{name}_ccc")
    found |= {name: report.get(name) for name in _BESIDE}
    return {
        re.sub(r"[^\w\-. /]", "_", name.replace(", ", "_")): value for name, value in found.items() if value is not None
    }


if __name__ == "__main__":
    stage.main(run)
