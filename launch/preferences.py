"""Preference pairs: `dialogues.jsonl` -> `pairs.jsonl` with a report, as `launch/preferences.py --config FILE`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from launch import stage
from epo.data.dialogue import SPLITS, Split, read_dialogues
from epo.data.replies import Reply, ReplyChoice
from epo.files import write_whole
from epo.preferences.builder import PairSet, Source, build_pairs
from epo.preferences.classifier import CorpusReader, ModelReader, ReaderQuality, confusion_table, rate_reader
from epo.preferences.coherence import CoherenceReader
from epo.preferences.counter import Choice, Marginals, Strategy
from epo.preferences.gold import gold_of_splits
from epo.preferences.opposite_random import OppositeRandomSource
from epo.preferences.page import render_page
from epo.preferences.pair import write_pairs
from epo.preferences.probe import probe_report
from epo.preferences.scores import EmotionReader, Examiner, Thresholds
from epo.preferences.verdict import judge_pairs
from launch.preference_console import metrics_of, print_report, reasons_of
from launch.preference_sources import make_source, refuse_idle_keys
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
    marginals: Marginals = field(
        default="near",
        metadata={"help": "emotions chosen and rejected equally often: at any cost, near it, or not looked at"},
    )
    max_dropped_share: float = field(
        default=0.3, metadata={"help": "near: replies that may be left out for it, 0 to 1"}
    )
    replies: ReplyChoice = field(default="all", metadata={"help": "each dialogue's last reply, or all"})
    require_clip: bool = field(default=False, metadata={"help": "only replies to a turn with a clip"})
    splits: list[str] = field(default_factory=lambda: list(SPLITS), metadata={"help": "of which dialogues"})
    emotion_classifier: str = field(
        default="corpus", metadata={"help": "corpus: trained on its own labels; or a text-classification model"}
    )
    coherence_model: str | None = field(
        default=None,
        metadata={
            "help": "causal language model, folder or hub name, that tries to tell pairs apart; none: not measured"
        },
    )
    coherence_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of its weights"})
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
    dialogues = list(read_dialogues(data))
    gold_of = gold_of_splits(dialogues, recipe.splits, recipe.replies, recipe.require_clip, recipe.data)
    with open_folder(out, [recipe], argv, rewritten=["pairs.jsonl"]) as folder:
        if folder.is_done:
            return
        gold = [reply for found in gold_of.values() for reply in found]
        reader = _emotion_reader(recipe, gold)
        quality = rate_reader(gold, reader)
        _require_reader(recipe, quality)
        examiner = Examiner(_limits(recipe), reader)
        source = make_source(recipe, examiner)
        coherence = _coherence_reader(recipe)
        from launch.tracking import open_run

        with open_run("preferences", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
            found = _build(recipe, gold_of, source, examiner, reader)
            pairs = [pair for split in found.values() for pair in split.pairs]
            report = _report(recipe, found, gold_of, quality, examiner, reader, coherence)
            write_pairs(out / "pairs.jsonl", pairs)
            write_whole(out / "report.json", json.dumps(report, indent=2) + "\n")
            write_whole(out / "pairs.html", render_page(report, pairs, recipe.seed))
            tracked.log_metrics(metrics_of(report))
            for name in ("report.json", "pairs.html"):
                tracked.log_artifact(out / name)
        print_report(report, out)
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
    if not 0 <= recipe.max_dropped_share <= 1:
        raise RecipeError(f"max_dropped_share is {recipe.max_dropped_share}, want a share of the replies, 0 to 1")


def _require_reader(recipe: PreferencesRecipe, quality: ReaderQuality) -> None:
    """Refuse a threshold on what the reader of emotions reads where that says little."""
    if recipe.min_emotion_divergence > 0 and quality.is_hardly_better:
        raise RecipeError(
            f"min_emotion_divergence is {recipe.min_emotion_divergence}, but emotion_classifier "
            f"{recipe.emotion_classifier} is right on {quality.accuracy:.3f} of {quality.num_replies} gold replies and "
            f"always the commonest label on {quality.majority:.3f}: pairs would be dropped by noise; set it to 0, or "
            "name a better emotion_classifier"
        )


def _build(
    recipe: PreferencesRecipe,
    gold_of: Mapping[Split, Sequence[Reply]],
    source: Source,
    examiner: Examiner,
    reader: EmotionReader,
) -> dict[Split, PairSet]:
    """Build the pairs of each split; one that gives none is passed over, unless none gives any."""
    confusion = None
    if recipe.counter_emotion == "confusable":
        confusion = confusion_table([reply for gold in gold_of.values() for reply in gold], reader)
    choice = Choice(recipe.counter_emotion, recipe.marginals, recipe.max_dropped_share, confusion)
    found = {}
    for split, gold in gold_of.items():
        rng = np.random.default_rng([recipe.seed, SPLITS.index(split)])
        found[split] = build_pairs(gold, source, choice, examiner, rng)
    if not any(split.pairs for split in found.values()):
        dropped = reasons_of({split: pairs.dropped for split, pairs in found.items()})
        raise RecipeError(f"{recipe.data}: every reply was dropped: {dropped}; loosen the thresholds")
    return found


def _report(
    recipe: PreferencesRecipe,
    found: Mapping[Split, PairSet],
    gold_of: Mapping[Split, Sequence[Reply]],
    quality: ReaderQuality,
    examiner: Examiner,
    reader: EmotionReader,
    coherence: CoherenceReader | None,
) -> dict[str, Any]:
    """Return what `report.json` holds."""
    splits = {
        split: pair_set.summary()
        | rate_reader(gold_of[split], reader).report()
        | probe_report(pair_set.pairs, coherence)
        | {"opposite_random": _baseline(recipe, gold_of[split], examiner)}
        for split, pair_set in found.items()
    }
    names = (
        "source", "counter_emotion", "marginals", "max_dropped_share", "emotion_classifier", "coherence_model",
    )  # fmt: skip
    report = {
        "pairs": sum(len(pair_set.pairs) for pair_set in found.values()),
        **{name: getattr(recipe, name) for name in names},
        **quality.report(),
        "splits": splits,
    }
    return {"verdict": judge_pairs(report), **report}


def _limits(recipe: PreferencesRecipe) -> Thresholds:
    names = {entry.name for entry in fields(Thresholds)}
    return Thresholds(**{name: value for name, value in asdict(recipe).items() if name in names})


def _emotion_reader(recipe: PreferencesRecipe, gold: Sequence[Reply]) -> EmotionReader:
    if recipe.emotion_classifier == "corpus":
        return CorpusReader(gold)
    return ModelReader(recipe.emotion_classifier)


def _coherence_reader(recipe: PreferencesRecipe) -> CoherenceReader | None:
    if recipe.coherence_model is None:
        return None
    import torch

    from epo.model.parts import load_llm, load_tokenizer

    model = load_llm(recipe.coherence_model, recipe.coherence_dtype)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return CoherenceReader(model, load_tokenizer(recipe.coherence_model, ()))


def _baseline(recipe: PreferencesRecipe, gold: Sequence[Reply], examiner: Examiner) -> dict[str, Any]:
    """Return what the probes find in EmPO's pairs for the same replies, to read ours against."""
    rng = np.random.default_rng(recipe.seed)
    pairs = build_pairs(
        gold, OppositeRandomSource(recipe.seed), Choice("opposite", marginals="free"), examiner, rng
    ).pairs
    return {"pairs": len(pairs), **probe_report(pairs, None)}


if __name__ == "__main__":
    stage.main(run)
