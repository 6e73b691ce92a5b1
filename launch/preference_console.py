"""What the preferences stage says of its pairs: lines for the console, numbers for tracking."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_report(report: Mapping[str, Any], out: Path) -> None:
    """Print the verdict, and what was built, lost and measured in each split.

    Args:
        report: what `report.json` holds.
        out: the folder it was written to.
    """
    for split, summary in report["splits"].items():
        _print_split(split, summary)
    print(describe_reader(report))
    for note in report.get("judge", {}).get("notes", ()):
        print(note)
    verdict = report["verdict"]
    print(f"verdict: {verdict['title']}")
    for reason in verdict["reasons"]:
        mark = "!" if reason["weight"] == "against" else "?"
        print(f"  {mark} {reason['split']}: {reason['what']}; want {reason['threshold']}; try: {reason['remedy']}")
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


def metrics_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that are tracked."""
    names = ("reader_accuracy", "reader_majority")
    metrics = {name: report[name] for name in names if report[name] is not None}
    for split, summary in report["splits"].items():
        metrics[f"{split}/pairs"] = summary["pairs"]
        metrics[f"{split}/total_variation"] = summary["total_variation"]
        metrics |= {f"{split}/probe_{name}": value for name, value in summary["probes"].items()}
    return metrics


def _print_split(split: str, summary: Mapping[str, Any]) -> None:
    if summary["pairs"] == 0:
        print(f"{split}: no pairs" + (f"; {reasons_of({split: summary['dropped']})}" if summary["dropped"] else ""))
        return
    accuracy = summary["reader_accuracy"]
    probes = ", ".join(f"{name} {value:.3f}" for name, value in sorted(summary["probes"].items()))
    print(
        f"{split}: {summary['pairs']} pairs of {summary['replies']} replies; emotions of chosen and rejected differ by "
        f"{summary['total_variation']:.3f}; told apart by {probes}"
        + ("" if accuracy is None else f"; reader {accuracy:.3f}, commonest label {summary['reader_majority']:.3f}")
    )
    for reason, count in summary["dropped"].items():
        print(f"  {count} replies without a pair: {reason}")
