"""Preference pairs: `dialogues.jsonl` -> `pairs.jsonl` with a report, as `launch/preferences.py --config FILE`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

import launch  # noqa: F401
from launch import stage
from epo.data.dialogue import SPLITS, Dialogue, read_dialogues
from epo.preferences.builder import PairSet, Source, build_pairs
from epo.preferences.counter import Strategy
from epo.preferences.gold import Turns, collect_gold
from epo.preferences.pair import PreferencePair, write_pairs
from epo.preferences.probe import probe_accuracy
from epo.preferences.scores import Thresholds
from launch.recipe import RecipeError, file_digest, read_recipe, save_resolved


@dataclass
class PreferencesRecipe:
    """Build preference pairs: the gold reply against one that says the like in a counter emotion."""

    data: str
    output_dir: str
    source: Literal["rewrite"] = "rewrite"
    counter_emotion: Strategy = "inappropriate"
    match_marginals: bool = True
    turns: Turns = "all"
    needs_clip: bool = False
    splits: list[str] = field(default_factory=lambda: ["train", "validation", "test"])
    min_emotion_distance: float = 0.0
    min_similarity: float = 0.0
    max_similarity: float = 1.0
    max_length_ratio: float = 3.0
    min_script_share: float = 0.8
    seed: int = 0
    pipeline: str = "preferences"
    experiment: str = "epo"


def run(argv: Sequence[str] | None = None) -> None:
    """Build the pairs a recipe names, unless the very same recipe has already been finished on the same data."""
    if stage.rank() != 0:
        return  # one process suffices; the others of an `accelerate launch` have nothing to wait for
    (recipe,) = read_recipe([PreferencesRecipe], argv)
    _check(recipe)
    out, data = Path(recipe.output_dir), Path(recipe.data)
    dialogues = list(read_dialogues(data))
    resolved = save_resolved(out, [recipe], [data]) | {"data_sha256": file_digest(data)}
    if stage.is_done(out, resolved):
        print(f"{out}: pairs already built by this very recipe; delete the folder to build them anew")
        return
    from launch.tracking import open_run

    with open_run("preferences", recipe.pipeline, recipe.experiment, out, resolved) as tracked:
        pair_sets = _build(recipe, dialogues)
        write_pairs(out / "pairs.jsonl", _all_pairs(pair_sets))
        report = _report(pair_sets)
        _write_json(out / "report.json", report)
        tracked.log_metrics(_metrics(report))
        tracked.log_artifact(out / "report.json")
    _print_report(report, out)
    stage.mark_done(out, resolved, report)


def _check(recipe: PreferencesRecipe) -> None:
    unknown = [split for split in recipe.splits if split not in SPLITS]
    if unknown or not recipe.splits:
        raise RecipeError(f"splits is {recipe.splits}, want some of {', '.join(SPLITS)}")
    if recipe.max_length_ratio < 1:
        raise RecipeError(f"max_length_ratio is {recipe.max_length_ratio}, want 1 or more")


def _build(recipe: PreferencesRecipe, dialogues: list[Dialogue]) -> dict[str, PairSet]:
    source = _source(recipe)
    limits = Thresholds(
        recipe.min_emotion_distance,
        recipe.min_similarity,
        recipe.max_similarity,
        recipe.max_length_ratio,
        recipe.min_script_share,
    )
    pair_sets: dict[str, PairSet] = {}
    for index, split in enumerate(SPLITS):
        if split in recipe.splits:
            gold = collect_gold(dialogues, split, recipe.turns, recipe.needs_clip)
            rng = np.random.default_rng([recipe.seed, index])
            pair_sets[split] = build_pairs(gold, source, recipe.counter_emotion, recipe.match_marginals, limits, rng)
    if not _all_pairs(pair_sets):
        raise RecipeError(
            f"{recipe.data}: no pair could be built for splits {', '.join(recipe.splits)}; want assistant turns with "
            "an emotion after a user turn (with a clip, if needs_clip), in dialogues whose 'split' is set"
        )
    return pair_sets


def _source(recipe: PreferencesRecipe) -> Source:
    from epo.preferences.rewrite import RewriteSource

    return RewriteSource(recipe.seed)


def _report(pair_sets: dict[str, PairSet]) -> dict[str, Any]:
    splits = {
        split: pair_set.summary() | {"probe_accuracy": probe_accuracy(pair_set.pairs)}
        for split, pair_set in pair_sets.items()
    }
    return {"pairs": len(_all_pairs(pair_sets)), "splits": splits}


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    return {
        f"{split}/{name}": float(summary[name])
        for split, summary in report["splits"].items()
        for name in ("pairs", "total_variation", "probe_accuracy")
        if summary[name] is not None
    }


def _print_report(report: dict[str, Any], out: Path) -> None:
    for split, summary in report["splits"].items():
        probe = "too few" if summary["probe_accuracy"] is None else f"{summary['probe_accuracy']:.3f}"
        print(
            f"{split}: {summary['pairs']} pairs, {sum(summary['dropped'].values())} dropped, emotions of chosen and "
            f"rejected differ by {summary['total_variation']:.3f}, told apart by words alone {probe}"
        )
    print(f"wrote {out / 'pairs.jsonl'}")


def _all_pairs(pair_sets: dict[str, PairSet]) -> list[PreferencePair]:
    return [pair for pair_set in pair_sets.values() for pair in pair_set.pairs]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    stage.main(run)
