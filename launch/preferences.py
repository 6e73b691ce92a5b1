"""Preference pairs: `dialogues.jsonl` -> `pairs.jsonl` with a report, as `launch/preferences.py --config FILE`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from launch import stage
from epo.data.dialogue import SPLITS, Dialogue, Split, read_dialogues
from epo.data.replies import ReplyChoice
from epo.preferences.builder import Source, build_pairs
from epo.preferences.classifier import CorpusReader, ModelReader, confusion_table, rate_reader
from epo.preferences.counter import Choice, Strategy
from epo.preferences.gold import GoldReply, gold_of_splits
from epo.preferences.opposite_random import OppositeRandomSource
from epo.preferences.page import render_page
from epo.preferences.pair import PreferencePair, write_pairs
from epo.preferences.probe import probe_pairs
from epo.preferences.scores import EmotionReader, Examiner, Thresholds
from launch.preference_sources import make_source, refuse_idle_keys
from launch.provenance import write_whole
from launch.recipe import RecipeError, StageRecipe, read_recipe
from launch.stage_folder import open_folder


@dataclass(kw_only=True)
class PreferencesRecipe(StageRecipe):
    """Build preference pairs: the gold reply against one that says the like in a counter emotion."""

    data: str = field(metadata={"help": "dialogues.jsonl"})
    output_dir: str = field(metadata={"help": "where pairs.jsonl, report.json and pairs.html go"})
    source: Literal["rewrite", "retrieve", "opposite_random", "llm", "policy"] = field(
        default="retrieve", metadata={"help": "where rejected replies come from; docs/preferences.md compares them"}
    )
    counter_emotion: Strategy = field(default="inappropriate", metadata={"help": "how their emotion is chosen"})
    match_marginals: bool = field(default=True, metadata={"help": "chosen and rejected emotions equally often"})
    drop_surplus: bool = field(default=True, metadata={"help": "leave out replies where that is else impossible"})
    replies: ReplyChoice = field(default="all", metadata={"help": "each dialogue's last reply, or all"})
    require_clip: bool = field(default=False, metadata={"help": "only replies to a turn with a clip"})
    splits: list[str] = field(default_factory=lambda: list(SPLITS), metadata={"help": "of which dialogues"})
    emotion_classifier: str = field(
        default="corpus", metadata={"help": "corpus: trained on its own labels; or a text-classification model"}
    )
    embedding_model: str | None = field(
        default=None, metadata={"help": "retrieve: a sentence-transformers model; none: BM25, no download"}
    )
    context_turns: int = field(default=5, metadata={"help": "retrieve, llm: turns before the reply that are looked at"})
    llm_base_url: str | None = field(default=None, metadata={"help": "such as http://127.0.0.1:8000/v1"})
    llm_model: str | None = field(
        default=None, metadata={"help": "the model's name there; without llm_base_url, a folder or hub name to load"}
    )
    llm_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of a model loaded here"})
    llm_key_variable: str = field(default="OPENAI_API_KEY", metadata={"help": "environment variable with the key"})
    llm_temperature: float = field(default=0.7, metadata={"help": "of sampling"})
    llm_max_tokens: int = field(default=256, metadata={"help": "longest rewritten reply"})
    llm_timeout_s: float = field(default=60.0, metadata={"help": "seconds to wait for an answer"})
    llm_tries: int = field(default=6, metadata={"help": "times one request is sent before giving up"})
    llm_first_pause_s: float = field(default=1.0, metadata={"help": "pause before the second try; then doubled"})
    llm_concurrency: int = field(default=8, metadata={"help": "requests at a time"})
    llm_max_requests: int = field(default=10_000, metadata={"help": "most requests of a run"})
    policy_model: str | None = field(default=None, metadata={"help": "folder written by launch/sft.py"})
    policy_temperature: float = field(default=0.7, metadata={"help": "of sampling; 0: most likely words"})
    policy_max_new_tokens: int = field(default=48, metadata={"help": "longest reply"})
    policy_batch_size: int = field(default=32, metadata={"help": "replies at a time"})
    policy_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of the weights"})
    cache_dir: str | None = field(default=None, metadata={"help": "policy: folder for decoded features"})
    min_emotion_distance: float = field(default=0.0, metadata={"help": "of the two labels, 0 to 2.83"})
    min_emotion_divergence: float = field(default=0.0, metadata={"help": "of emotions read from the words, 0 to 1"})
    min_similarity: float = field(default=0.0, metadata={"help": "token F1 with the gold reply, 0 to 1"})
    max_similarity: float = field(default=1.0, metadata={"help": "token F1 with the gold reply, 0 to 1"})
    max_length_ratio: float = field(default=3.0, metadata={"help": "longer over shorter reply"})
    min_script_share: float = field(default=0.8, metadata={"help": "letters in the gold reply's script, 0 to 1"})
    seed: int = field(default=0, metadata={"help": "of every draw"})

    @property
    def reads_clips(self) -> bool:
        """Only a policy hears and sees what it answers to."""
        return self.source == "policy"


RECIPES = [PreferencesRecipe]


def run(argv: Sequence[str] | None = None) -> None:
    """Build the pairs a recipe names, unless the very same recipe has already been finished on the same data."""
    if stage.rank() != 0:
        return  # one process suffices; the others of an `accelerate launch` have nothing to wait for
    (recipe,) = read_recipe(RECIPES, argv)
    _check(recipe)
    out, data = Path(recipe.output_dir), Path(recipe.data)
    dialogues = {dialogue.id: dialogue for dialogue in read_dialogues(data)}
    gold_of = gold_of_splits(dialogues.values(), recipe.splits, recipe.replies, recipe.require_clip, recipe.data)
    with open_folder(out, [recipe], argv, rewritten=["pairs.jsonl"]) as folder:
        if folder.is_done:
            return
        reader = _emotion_reader(recipe, [reply for gold in gold_of.values() for reply in gold])
        examiner = Examiner(_limits(recipe), reader)
        source = make_source(recipe, examiner)
        from launch.tracking import open_run

        with open_run("preferences", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
            report, pairs = _build(recipe, gold_of, source, examiner, reader, dialogues)
            write_pairs(out / "pairs.jsonl", pairs)
            write_whole(out / "report.json", json.dumps(report, indent=2) + "\n")
            write_whole(out / "pairs.html", render_page(report, pairs, dialogues, recipe.seed))
            tracked.log_metrics(_metrics(report))
            for name in ("report.json", "pairs.html"):
                tracked.log_artifact(out / name)
        _print_report(report, out)
        folder.finish(report)


def _check(recipe: PreferencesRecipe) -> None:
    refuse_idle_keys(recipe, {entry.name: entry.default for entry in fields(recipe)})
    unknown = [split for split in recipe.splits if split not in SPLITS]
    if unknown or not recipe.splits:
        raise RecipeError(f"splits is {recipe.splits}, want some of {', '.join(SPLITS)}")
    if recipe.max_length_ratio < 1:
        raise RecipeError(f"max_length_ratio is {recipe.max_length_ratio}, want 1 or more")
    if recipe.context_turns < 1:
        raise RecipeError(f"context_turns is {recipe.context_turns}, want 1 or more")


def _build(
    recipe: PreferencesRecipe,
    gold_of: Mapping[Split, Sequence[GoldReply]],
    source: Source,
    examiner: Examiner,
    reader: EmotionReader,
    dialogues: Mapping[str, Dialogue],
) -> tuple[dict[str, Any], list[PreferencePair]]:
    """Build the pairs of each split; return the report on them and the pairs."""
    confusion = None
    if recipe.counter_emotion == "confusable":
        confusion = confusion_table([reply for gold in gold_of.values() for reply in gold], reader)
    choice = Choice(recipe.counter_emotion, recipe.match_marginals, recipe.drop_surplus, confusion)
    pairs: list[PreferencePair] = []
    splits: dict[str, Any] = {}
    for split, gold in gold_of.items():
        rng = np.random.default_rng([recipe.seed, SPLITS.index(split)])
        found = build_pairs(gold, source, choice, examiner, rng)
        pairs += found.pairs
        splits[split] = found.summary() | {
            **rate_reader(gold, reader).report(),
            "probes": probe_pairs(found.pairs, dialogues),
            "opposite_random": _baseline(recipe, gold, examiner, dialogues),
        }
    if not pairs:
        raise RecipeError(f"{recipe.data}: every reply was dropped: {_reasons(splits)}; loosen the thresholds")
    names = ("source", "counter_emotion", "match_marginals", "drop_surplus", "emotion_classifier")
    settings = {name: getattr(recipe, name) for name in names}
    quality = rate_reader([reply for gold in gold_of.values() for reply in gold], reader)
    settings |= quality.report() | {"reader_says_little": quality.is_hardly_better}
    return {"pairs": len(pairs), **settings, "splits": splits}, pairs


def _limits(recipe: PreferencesRecipe) -> Thresholds:
    names = {entry.name for entry in fields(Thresholds)}
    return Thresholds(**{name: value for name, value in asdict(recipe).items() if name in names})


def _emotion_reader(recipe: PreferencesRecipe, gold: Sequence[GoldReply]) -> EmotionReader:
    if recipe.emotion_classifier == "corpus":
        return CorpusReader(gold)
    return ModelReader(recipe.emotion_classifier)


def _baseline(
    recipe: PreferencesRecipe, gold: Sequence[GoldReply], examiner: Examiner, dialogues: Mapping[str, Dialogue]
) -> dict[str, Any]:
    """Return what the probes find in EmPO's pairs for the same replies, to read ours against."""
    rng = np.random.default_rng(recipe.seed)
    pairs = build_pairs(
        gold, OppositeRandomSource(recipe.seed), Choice("opposite", match_marginals=False), examiner, rng
    ).pairs
    return {"pairs": len(pairs), "probes": probe_pairs(pairs, dialogues)}


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    metrics = {name: report[name] for name in ("reader_accuracy", "reader_majority")}
    for split, summary in report["splits"].items():
        metrics[f"{split}/pairs"] = summary["pairs"]
        metrics[f"{split}/total_variation"] = summary["total_variation"]
        metrics |= {f"{split}/probe_{name}": value for name, value in summary["probes"].items()}
    return metrics


def _print_report(report: dict[str, Any], out: Path) -> None:
    for split, summary in report["splits"].items():
        if summary["pairs"] == 0:
            print(f"{split}: no pairs" + (f"; {_reasons({split: summary})}" if summary["dropped"] else ""))
            continue
        probes = ", ".join(f"{name} {value:.3f}" for name, value in sorted(summary["probes"].items()))
        print(
            f"{split}: {summary['pairs']} pairs, {sum(summary['dropped'].values())} replies dropped; emotions of "
            f"chosen and rejected differ by {summary['total_variation']:.3f}; told apart by {probes}"
        )
    print(
        f"the reader behind emotion_divergence is right on {report['reader_accuracy']:.3f} of the gold replies; always "
        f"the commonest label: {report['reader_majority']:.3f}"
        + (": hardly better, so that score says little" if report["reader_says_little"] else "")
    )
    print(f"wrote {out / 'pairs.jsonl'}; look at {out / 'pairs.html'}")


def _reasons(splits: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{split}: {reason} {count} times"
        for split, summary in splits.items()
        for reason, count in summary["dropped"].items()
    )


if __name__ == "__main__":
    stage.main(run)
