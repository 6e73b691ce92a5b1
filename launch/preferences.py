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
from epo.judging.sentence_encoder import SentenceEncoder
from epo.preferences.builder import BuiltKind, PairSet, build_pairs
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
from epo.preferences.gold import draw_gold, gold_of_splits
from epo.preferences.page import render_page
from epo.preferences.pair import write_pairs
from epo.preferences.readings import EmotionReader
from epo.preferences.shortcuts import probe_report
from epo.preferences.source import SOURCES, CountsSamples, PairSource, Source, SourceContext, get_source
from epo.preferences.source_warnings import warnings_of
from epo.preferences.sources.opposite_random import OppositeRandomSource
from epo.preferences.verdict import judge_pairs
from epo.preferences.verification import Examiner, Thresholds
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
from launch.preference_console import metrics_of, print_report, refuse_warnings, require_pairs
from launch.recipe import ChosenBy, RecipeError, read_recipe

_DEFAULT_SOURCE, _CONTRADICTS = "retrieve", "contradict"


@dataclass(kw_only=True)
class PreferencesRecipe(DataKeys, ClipRepliesKeys, JudgeKeys, SeedKeys, OutputKeys, PartsKeys, StageRecipe):
    """Build preference pairs: the gold reply against one that says the same in a counter emotion.

    Each source adds keys of its own.
    """

    source: str = field(
        default=_DEFAULT_SOURCE,
        metadata={"help": "where rejected replies come from: docs/preferences.md"},
    )
    kind: BuiltKind = field(
        default="emotion",
        metadata={"help": "the wrong emotion; none: the content, neutralised; or what contradicts the clip"},
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
    max_replies: int | None = field(
        default=None, metadata={"help": "build on so many at most, a seeded part of each split"}
    )
    embedding_model: str | None = field(
        default=None, metadata={"help": "a sentence model to compare contents; none: by words", "role": "part"}
    )
    coherence_model: str | None = field(
        default=None,
        metadata={"help": "language model that tries to tell pairs apart; none: not measured"},
    )
    coherence_dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of its weights"})
    strict: bool = field(
        default=False, metadata={"help": "end with exit code 2 where a warning is due", "role": "cosmetic"}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot be, and keys that would do nothing beside others.

        Raises:
            RecipeError: names the key and the remedy.
        """
        unknown = [split for split in self.splits if split not in SPLITS]
        if unknown or not self.splits:
            raise RecipeError(f"splits is {self.splits}, want some of {', '.join(SPLITS)}")
        if self.max_replies is not None and self.max_replies < 1:
            raise RecipeError(f"max_replies is {self.max_replies}, want 1 or more; leave it out to build on all")
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
    """Build the pairs a recipe names, unless the very same recipe has already been finished on the same data.

    Raises:
        RecipeError: no pair was kept; or a warning is due, and `strict` says to end with it, after all is written.
    """
    if stage.rank() != 0:
        return  # one process suffices; the others of an `accelerate launch` have nothing to wait for
    recipe, limits, settings = read_recipe(RECIPES, argv)
    chosen = get_source(recipe.source)
    chosen.check(settings)
    _check_content_keys(recipe, limits)
    _check_kind(recipe, chosen)
    recipe.require_judge_data()
    out, data = Path(recipe.output_dir), Path(recipe.data)
    dialogues = list(read_dialogues(data))
    whole = gold_of_splits(dialogues, recipe.splits, recipe.replies, recipe.require_clip, recipe.data)
    gold_of = draw_gold(whole, recipe.max_replies, recipe.seed)
    with open_folder(out, [recipe, limits, settings], argv, rewritten=["pairs.jsonl"]) as folder:
        if not folder.is_done:
            from launch.tracking import open_run

            work = _prepare(recipe, limits, chosen, settings, dialogues, whole, gold_of)
            with open_run("preferences", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
                found = _build(recipe, gold_of, work)
                pairs = [pair for split in found.values() for pair in split.pairs]
                report = _report(recipe, found, gold_of, work)
                if recipe.max_replies is not None:
                    report["not_drawn"] = {split: len(whole[split]) - len(gold_of[split]) for split in whole}
                write_whole(out / "report.json", json.dumps(report, indent=2) + "\n")
                write_whole(out / "pairs.html", render_page(report, pairs, recipe.seed, _measured(found)))
                require_pairs(report, recipe.data, out)
                write_pairs(out / "pairs.jsonl", pairs)
                tracked.log_metrics(metrics_of(report))
                for name in ("report.json", "pairs.html"):
                    tracked.log_artifact(out / name)
            print_report(report, out)
            folder.finish(report)
    if recipe.strict:
        refuse_warnings(out / "report.json")


@dataclass(frozen=True)
class _Work:
    """What pairs are built with.

    Attributes:
        source: of rejected replies.
        reader: of emotions.
        quality: how good the reader is.
        judge: what the report says of the judge behind the reader.
        examiner: of the source's candidates.
        onlooker: measures candidates of the baseline by the same checks, and drops none of them.
        coherence: the model of that probe, None where none is named.
    """

    source: Source
    reader: EmotionReader
    quality: ReaderQuality
    judge: dict[str, Any]
    examiner: Examiner
    onlooker: Examiner
    coherence: CoherenceReader | None


def _prepare(
    recipe: PreferencesRecipe,
    limits: Thresholds,
    chosen: PairSource[Any],
    settings: Any,
    dialogues: Sequence[Dialogue],
    whole: Mapping[Split, Sequence[Reply]],
    gold_of: Mapping[Split, Sequence[Reply]],
) -> _Work:
    """Load everything that pairs are built with, the quickest to be refused first.

    A reader of words learns from the `whole` corpus, also where pairs are built on a part of it.
    """
    gold = [reply for found in gold_of.values() for reply in found]
    reader, judge = _emotion_reader(recipe, dialogues, [r for found in whole.values() for r in found], gold)
    quality = rate_reader(gold, reader)
    _require_reader(recipe, limits, quality, chosen.names_emotions)
    encoder = None if recipe.embedding_model is None else SentenceEncoder.load(recipe.embedding_model)
    examiner = Examiner(limits, reader, encoder, chosen.keeps_content, chosen.is_certain)
    onlooker = Examiner(limits, reader, encoder, is_certain=True)
    for each in (examiner, onlooker):
        each.prepare((reply, reply.text) for reply in gold)
    context = SourceContext(recipe.seed, Path(recipe.output_dir), examiner, encoder, dialogues)
    source = chosen.make(settings, context)
    return _Work(source, reader, quality, judge, examiner, onlooker, _coherence_reader(recipe))


def _check_content_keys(recipe: PreferencesRecipe, limits: Thresholds) -> None:
    """Refuse a key that the absence of an embedding model makes idle."""
    key = "min_embedding_similarity"
    if recipe.embedding_model is None and getattr(limits, key) != getattr(Thresholds, key):
        raise RecipeError(f"key {key} belongs to embedding_model, and none is named: leave it out")


def _check_kind(recipe: PreferencesRecipe, chosen: PairSource[Any]) -> None:
    """Refuse what neutralised replies and contradictions cannot have, and other pairs of what contradicts clips."""
    if (recipe.kind == "contradiction") != (recipe.source == _CONTRADICTS):
        raise RecipeError(
            f"kind is {recipe.kind} and source {recipe.source}: what contradicts a clip comes from source "
            f"{_CONTRADICTS}, and nothing else does; set both or neither"
        )
    if chosen.names_emotions and recipe.counter_emotion != "inappropriate":
        raise RecipeError(
            f"key counter_emotion would do nothing: with source {recipe.source} it is the emotion that a sample has; "
            "leave it out"
        )
    if recipe.kind == "emotion":
        return
    if recipe.kind == "neutral" and not chosen.keeps_content:
        raise RecipeError(
            f"source is {recipe.source}, whose replies do not say what the gold reply says, and kind neutral is the "
            "same without emotion: set source to rewrite or llm"
        )
    if recipe.kind == "neutral" and recipe.marginals != "free":
        raise RecipeError(
            f"marginals is {recipe.marginals}, but kind neutral rejects neutral replies alone, which chosen ones "
            "cannot match: set marginals: free"
        )
    if recipe.kind == "contradiction" and (recipe.marginals, recipe.max_dropped_share) != ("near", 0.3):
        raise RecipeError(
            "keys marginals and max_dropped_share would do nothing: both replies of a contradiction have one emotion; "
            "leave them out"
        )
    if recipe.counter_emotion != "inappropriate":
        rejected = "neutral replies alone" if recipe.kind == "neutral" else "the chosen reply's emotion"
        raise RecipeError(f"key counter_emotion would do nothing: kind {recipe.kind} rejects {rejected}; leave it out")


def _require_reader(
    recipe: PreferencesRecipe, limits: Thresholds, quality: ReaderQuality, names_emotions: bool
) -> None:
    """Refuse what hangs on the reader of emotions where that says little: a threshold, a source's emotions."""
    if not quality.is_hardly_better:
        return
    rating = (
        f"emotion_judge {recipe.emotion_judge} is right on {quality.accuracy:.3f} of {quality.num_replies} gold "
        f"replies and always the commonest label on {quality.majority:.3f}"
    )
    if limits.min_emotion_divergence > 0:
        raise RecipeError(
            f"min_emotion_divergence is {limits.min_emotion_divergence}, but {rating}: pairs would be dropped by "
            "noise; set it to 0, or name a better emotion_judge"
        )
    if names_emotions:
        raise RecipeError(
            f"source {recipe.source} takes the emotion of each sample from the judge, but {rating}: which reply is "
            "rejected would be noise; name a better emotion_judge"
        )


def _build(recipe: PreferencesRecipe, gold_of: Mapping[Split, Sequence[Reply]], work: _Work) -> dict[Split, PairSet]:
    """Build the pairs of each split; one that gives none is passed over."""
    confusion = None
    if recipe.counter_emotion == "confusable":
        confusion = confusion_table([reply for gold in gold_of.values() for reply in gold], work.reader)
    nearest = work.examiner.limits.min_emotion_distance
    choice = Choice(recipe.counter_emotion, recipe.marginals, recipe.max_dropped_share, confusion, nearest)
    found = {}
    for split, gold in gold_of.items():
        rng = np.random.default_rng([recipe.seed, SPLITS.index(split)])
        found[split] = build_pairs(gold, work.source, choice, work.examiner, rng, recipe.kind)
    return found


def _report(
    recipe: PreferencesRecipe,
    found: Mapping[Split, PairSet],
    gold_of: Mapping[Split, Sequence[Reply]],
    work: _Work,
) -> dict[str, Any]:
    """Return what `report.json` holds."""
    splits = {
        split: pair_set.summary()
        | rate_reader(gold_of[split], work.reader).report()
        | probe_report(pair_set.pairs, work.coherence)
        | {"opposite_random": _baseline(recipe, gold_of[split], work.onlooker)}
        for split, pair_set in found.items()
    }
    names = (
        "source", "counter_emotion", "marginals", "max_dropped_share", "emotion_judge", "embedding_model",
        "coherence_model",
    )  # fmt: skip
    report = {
        "pairs": sum(len(pair_set.pairs) for pair_set in found.values()),
        **{name: getattr(recipe, name) for name in names},
        **work.quality.report(),
        "judge": work.judge,
        "splits": splits,
    }
    if isinstance(work.source, CountsSamples):
        report["samples"] = work.source.count_samples()
    return {"verdict": judge_pairs(report), "warnings": warnings_of(report), **report}


def _measured(found: Mapping[Split, PairSet]) -> list[dict[str, float]]:
    return [scores for pair_set in found.values() for scores in pair_set.measured]


def _emotion_reader(
    recipe: PreferencesRecipe, dialogues: Sequence[Dialogue], whole: Sequence[Reply], gold: Sequence[Reply]
) -> tuple[EmotionReader, dict[str, Any]]:
    """Return what reads emotions from words, and what the report says of it.

    The words of the corpus itself are read cross-fitted; any other judge is opened once for all replies.
    """
    if recipe.judge.is_own_words:
        reader = CorpusReader(whole)
        quality = rate_cross_fitted(whole, reader)
        own = {"name": WORDS_JUDGE, "fitted_on": {quality.texts: len(whole)}, "notes": []}
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


def _baseline(recipe: PreferencesRecipe, gold: Sequence[Reply], onlooker: Examiner) -> dict[str, Any]:
    """Return what probes and checks find in EmPO's pairs for the same replies, to read ours against."""
    rng = np.random.default_rng(recipe.seed)
    found = build_pairs(gold, OppositeRandomSource(recipe.seed), Choice("opposite", marginals="free"), onlooker, rng)
    checks = found.tally.report(len(found.pairs))["checks"]
    return {"pairs": len(found.pairs), **probe_report(found.pairs, None), "checks": checks}


if __name__ == "__main__":
    stage.main(run)
