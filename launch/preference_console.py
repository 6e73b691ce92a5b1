"""What the preferences stage says of its pairs: lines for the console, numbers for tracking."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.recipe import RecipeError


def print_report(report: Mapping[str, Any], out: Path) -> None:
    """Print the verdict, and what was built, lost and measured in each split.

    Args:
        report: what `report.json` holds.
        out: the folder it was written to.
    """
    for split, summary in report["splits"].items():
        _print_split(split, summary)
    if "not_drawn" in report:
        print("not drawn: " + ", ".join(f"{count} {split} replies" for split, count in report["not_drawn"].items()))
    for split, drawn in report.get("samples", {}).items():
        print(f"{split}: {drawn['samples']} samples of the policy, {drawn['right']:.3f} of them right: {_kinds(drawn)}")
    print(describe_reader(report))
    for note in report.get("judge", {}).get("notes", ()):
        print(note)
    verdict = report["verdict"]
    print(f"verdict: {verdict['title']}")
    for reason in verdict["reasons"]:
        mark = "!" if reason["weight"] == "against" else "?"
        print(f"  {mark} {reason['split']}: {reason['what']}; want {reason['threshold']}; try: {reason['remedy']}")
    for warning in report["warnings"]:
        print(f"warning: {warning['split']}: {warning['what']}; try: {warning['remedy']}")
    print(f"wrote {out / 'pairs.jsonl'}; look at {out / 'pairs.html'}")


def describe_reader(quality: Mapping[str, Any]) -> str:
    """Return how good the reader behind emotion_divergence is, in one sentence.

    Args:
        quality: the keys of `ReaderQuality.report`, and `judge`, of which every rating is told.
    """
    judge = quality.get("judge", {})
    ratings = [f"macro-F1 {found['macro_f1']:.3f} ({found['texts']})" for found in judge.get("qualities", ())]
    if quality["reader_accuracy"] is None:
        unknown = f"the judge {judge.get('name')} is not rated here: no reply that is new to it has a person's label"
        return "; ".join([unknown, *ratings])
    low, high = quality["reader_interval"]
    text = (
        f"the reader behind emotion_divergence is right on {quality['reader_accuracy']:.3f} ({low:.2f} to {high:.2f}) "
        f"of the gold replies; always the commonest label: {quality['reader_majority']:.3f}"
    )
    text += "".join(f"; {rating}" for rating in ratings)
    return text + (": hardly better, so that score says little" if quality["reader_says_little"] else "")


def reasons_of(dropped_of: Mapping[str, Mapping[str, int]]) -> str:
    """Return why replies of each split were dropped, and how many, in one line."""
    return "; ".join(
        f"{split}: {reason} {count} times" for split, dropped in dropped_of.items() for reason, count in dropped.items()
    )


def require_pairs(report: Mapping[str, Any], data: str, out: Path) -> None:
    """Refuse to end well without a pair.

    Raises:
        RecipeError: names the reasons for which replies have none, and what to try.
    """
    if report["pairs"] > 0:
        return
    reasons = reasons_of({split: summary["dropped"] for split, summary in report["splits"].items()})
    remedies = [warning["remedy"] for warning in report["warnings"]]
    remedy = remedies[0] if remedies else _remedy_without_candidates(report)
    raise RecipeError(f"{data}: every reply was dropped: {reasons}; try: {remedy}; {out / 'pairs.html'} says more")


def refuse_warnings(path: Path) -> None:
    """End a strict run whose pairs call for a warning.

    Args:
        path: of `report.json`.

    Raises:
        RecipeError: there is a warning in it.
    """
    found = json.loads(path.read_text(encoding="utf-8")).get("warnings", [])
    if found:
        told = "; ".join(f"{warning['split']}: {warning['what']}; try: {warning['remedy']}" for warning in found)
        raise RecipeError(f"strict: {told} (pairs, report and page are written beside {path})")


def _kinds(drawn: Mapping[str, Any]) -> str:
    return "; ".join(f"{count} {kind}" for kind, count in drawn["found"].items())


def _remedy_without_candidates(report: Mapping[str, Any]) -> str:
    if "samples" in report:
        samples = " and of ".join(f"{split}: {_kinds(drawn)}" for split, drawn in report["samples"].items())
        return f"more policy_samples, or another policy; samples of {samples}"
    emotions = Counter[str]()
    for summary in report["splits"].values():
        emotions.update(summary["gold_emotions"])
    found = [emotion for emotion, count in emotions.items() if count]
    if len(found) == 1:
        return f"source: llm or policy, which can write other emotions; every reply of the corpus is {found[0]}"
    return "another source, or more dialogues with emotions on both sides"


def metrics_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that are tracked."""
    names = ("reader_accuracy", "reader_majority")
    metrics = {name: report[name] for name in names if report[name] is not None}
    for split, summary in report["splits"].items():
        metrics[f"{split}/pairs"] = summary["pairs"]
        if summary["yield"] is not None:
            metrics[f"{split}/yield"] = summary["yield"]
        metrics[f"{split}/total_variation"] = summary["total_variation"]
        metrics |= {f"{split}/probe_{name}": value for name, value in summary["probes"].items()}
    return metrics | {f"{split}/samples_right": drawn["right"] for split, drawn in report.get("samples", {}).items()}


def _print_split(split: str, summary: Mapping[str, Any]) -> None:
    if summary["pairs"] == 0:
        print(f"{split}: no pairs" + (f"; {reasons_of({split: summary['dropped']})}" if summary["dropped"] else ""))
    else:
        accuracy = summary["reader_accuracy"]
        probes = ", ".join(f"{name} {value:.3f}" for name, value in sorted(summary["probes"].items()))
        print(
            f"{split}: {summary['pairs']} pairs of {summary['replies']} replies; emotions of chosen and rejected "
            f"differ by {summary['total_variation']:.3f}; told apart by {probes}"
            + ("" if accuracy is None else f"; reader {accuracy:.3f}, commonest label {summary['reader_majority']:.3f}")
        )
        for reason, count in summary["dropped"].items():
            print(f"  {count} replies without a pair: {reason}")
    if summary["asked"]:
        print(
            f"  yield {summary['yield']:.2f}: {summary['pairs']} pairs of {summary['asked']} replies asked for; "
            f"{summary['accepted']} of {summary['candidates']} candidates passed"
        )
    for reason, count in summary["refused"].items():
        print(f"  {count} candidates refused: {reason}")
