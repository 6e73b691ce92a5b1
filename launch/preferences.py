"""Preference pairs: `dialogues.jsonl` -> `pairs.jsonl` with a report, as `launch/preferences.py --config FILE`."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from launch import stage
from epo.data.dialogue import SPLITS, Dialogue, Split, read_dialogues
from epo.data.replies import Reply, ReplyChoice, replies_of
from epo.files import write_whole
from epo.judging.opened_judge import WORDS_JUDGE, open_judge
from epo.preferences.builder import PairSet, build_pairs
from epo.preferences.classifier import (
    CorpusReader,
    JudgeReader,
    ReaderQuality,
    confusion_table,
    rate_cross_fitted,
    rate_reader,
)
from epo.preferences.coherence import CoherenceReader
from epo.preferences.counter import Choice, Marginals, Strategy
from epo.preferences.gold import gold_of_splits
from epo.preferences.page import render_page
from epo.preferences.pair import write_pairs
from epo.preferences.scores import EmotionReader, Examiner, Thresholds
from epo.preferences.shortcuts import probe_report
from epo.preferences.source import SOURCES, Source, SourceContext, get_source
from epo.preferences.sources.opposite_random import OppositeRandomSource
from epo.preferences.verdict import judge_pairs
from launch.folder.stage_folder import open_folder
from launch.keys.recipe_pieces import (
    ClipRepliesKeys,
    DataKeys,
    JudgeKeys,
    OutputKeys,
    PartsKeys,
    SeedKeys,
    StageRecipe,
)
from launch.preference_console import metrics_of, print_report, reasons_of
from launch.recipe import ChosenBy, RecipeError, read_recipe

_DEFAULT_SOURCE = "retrieve"


@dataclass(kw_only=True)
class PreferencesRecipe(DataKeys, ClipRepliesKeys, JudgeKeys, SeedKeys, OutputKeys, PartsKeys, StageRecipe):
    """Build preference pairs: the gold reply against one that says the same in a counter emotion.

    Each source adds keys of its own.
    """

    source: str = field(
        default=_DEFAULT_SOURCE,
        metadata={"help": "where rejected replies come from: docs/preferences.md"},
    )
    counter_emotion: Strategy = field(default="inappropriate", metadata={"help": "how it is chosen"})
    marginals: Marginals = field(
        default="near",
        metadata={"help": "counts of each emotion, chosen and rejected"},
    )
    max_dropped_share: float = field(
        default=0.3, metadata={"help": "near: replies that may be left out for it, 0 to 1"}
    )
    replies: ReplyChoice = "all"
    splits: list[str] = field(default_factory=lambda: list(SPLITS), metadata={"help": "of which dialogues"})
    coherence_model: str | None = field(
        default=None,
        metadata={"help": "language model that tries to tell pairs apart; none: not measured"},
    )
    coherence_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of its weights"})

    def __post_init__(self) -> None:
        """Refuse values that cannot be, and keys that would do nothing beside others.

        Raises:
            RecipeError: names the key and the remedy.
        """
        unknown = [split for split in self.splits if split not in SPLITS]
        if unknown or not self.splits:
            raise RecipeError(f"splits is {self.splits}, want some of {', '.join(SPLITS)}")
        _ = self.judge  # refuses keys of a judge that lack one another
        if not 0 <= self.max_dropped_share <= 1:
            raise RecipeError(f"max_dropped_share is {self.max_dropped_share}, want a share of the replies, 0 to 1")
        if self.marginals != "near" and self.max_dropped_share != PreferencesRecipe.max_dropped_share:
            raise RecipeError(
                f"key max_dropped_share belongs to marginals: near; this recipe's are {self.marginals}: leave it out"
            )
        if self.coherence_model is None and self.coherence_dtype != PreferencesRecipe.coherence_dtype:
            raise RecipeError("key coherence_dtype belongs to coherence_model, and none is named: leave it out")

    @property
    def reads_clips(self) -> bool:
        """Only some sources hear and see what they answer to."""
        return get_source(self.source).reads_clips


def _sources() -> list[str]:
    """Return the sources that can be loaded: asked whose a key is, one that another package broke has no say."""
    names = []
    for name in SOURCES.names():
        with contextlib.suppress(ValueError, ImportError, AttributeError):
            get_source(name)
            names.append(name)
    return names


RECIPES = [
    PreferencesRecipe,
    Thresholds,
    ChosenBy("source", _DEFAULT_SOURCE, lambda name: get_source(name).settings, _sources),
]


def run(argv: Sequence[str] | None = None) -> None:
    """Build the pairs a recipe names, unless the very same recipe has already been finished on the same data."""
    if stage.rank() != 0:
        return  # one process suffices; the others of an `accelerate launch` have nothing to wait for
    recipe, limits, settings = read_recipe(RECIPES, argv)
    chosen = get_source(recipe.source)
    chosen.check(settings)
    out, data = Path(recipe.output_dir), Path(recipe.data)
    dialogues = list(read_dialogues(data))
    gold_of = gold_of_splits(dialogues, recipe.splits, recipe.replies, recipe.require_clip, recipe.data)
    with open_folder(out, [recipe, limits, settings], argv, rewritten=["pairs.jsonl"]) as folder:
        if folder.is_done:
            return
        gold = [reply for found in gold_of.values() for reply in found]
        reader, judge = _emotion_reader(recipe, dialogues, gold)
        quality = rate_reader(gold, reader)
        _require_reader(recipe, limits, quality)
        examiner = Examiner(limits, reader)
        source = chosen.make(settings, SourceContext(recipe.seed, out, examiner))
        coherence = _coherence_reader(recipe)
        from launch.tracking import open_run

        with open_run("preferences", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
            found = _build(recipe, gold_of, source, examiner, reader)
            pairs = [pair for split in found.values() for pair in split.pairs]
            report = _report(recipe, found, gold_of, (quality, judge), examiner, reader, coherence)
            write_pairs(out / "pairs.jsonl", pairs)
            write_whole(out / "report.json", json.dumps(report, indent=2) + "\n")
            write_whole(out / "pairs.html", render_page(report, pairs, recipe.seed))
            tracked.log_metrics(metrics_of(report))
            for name in ("report.json", "pairs.html"):
                tracked.log_artifact(out / name)
        print_report(report, out)
        folder.finish(report)


def _require_reader(recipe: PreferencesRecipe, limits: Thresholds, quality: ReaderQuality) -> None:
    """Refuse a threshold on what the reader of emotions reads where that says little."""
    if limits.min_emotion_divergence > 0 and quality.is_hardly_better:
        raise RecipeError(
            f"min_emotion_divergence is {limits.min_emotion_divergence}, but emotion_judge "
            f"{recipe.emotion_judge} is right on {quality.accuracy:.3f} of {quality.num_replies} gold replies and "
            f"always the commonest label on {quality.majority:.3f}: pairs would be dropped by noise; set it to 0, or "
            "name a better emotion_judge"
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
    quality: tuple[ReaderQuality, dict[str, Any]],
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
        "source", "counter_emotion", "marginals", "max_dropped_share", "emotion_judge", "coherence_model",
    )  # fmt: skip
    report = {
        "pairs": sum(len(pair_set.pairs) for pair_set in found.values()),
        **{name: getattr(recipe, name) for name in names},
        **quality[0].report(),
        "judge": quality[1],
        "splits": splits,
    }
    return {"verdict": judge_pairs(report), **report}


def _emotion_reader(
    recipe: PreferencesRecipe, dialogues: Sequence[Dialogue], gold: Sequence[Reply]
) -> tuple[EmotionReader, dict[str, Any]]:
    """Return what reads emotions from words, and what the report says of it.

    The words of the corpus itself are read cross-fitted; any other judge is opened once for all replies.
    """
    if recipe.judge.is_own_words:
        reader = CorpusReader(gold)
        quality = rate_cross_fitted(gold, reader)
        own = {"name": WORDS_JUDGE, "fitted_on": {quality.texts: len(gold)}, "notes": []}
        return reader, own | {"qualities": [quality.report()]}
    inside, outside = (
        replies_of((d for d in dialogues if (d.split == "train") is is_train), recipe.replies)
        for is_train in (True, False)
    )
    opened = open_judge(recipe.judge, inside, outside)
    return JudgeReader(opened, gold), opened.report()


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
