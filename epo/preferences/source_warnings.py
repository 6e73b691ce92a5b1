"""Warnings about a source of rejected replies: too few pairs for what was asked, or pairs that give themselves away."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from epo.preferences.verdict import MIN_HELD_OUT_PAIRS, PROBES
from epo.preferences.verification import CHECKS

# Both are our choice.
MIN_YIELD = 0.2
MAX_PROBE = 0.65

_SHOWN_CHECKS = 3  # that failed most, in a warning


@dataclass(frozen=True)
class SourceWarning:
    """One thing wrong with a source.

    Attributes:
        split: of the pairs; "all" where it is of all.
        what: what was found, in a sentence that holds the number.
        remedy: what to do.
    """

    split: str
    what: str
    remedy: str


def warnings_of(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what a user should be warned of, ready for JSON; with `strict: true` any of it is an error.

    - fewer than a fifth of the replies that were asked for have a pair, over all splits;
    - a probe finds the chosen replies of a split of 20 pairs or more without the clip in more than 0.65 of them, and
      by more than chance (its 95 % interval lies above 0.5).

    Args:
        report: what `report.json` holds besides.
    """
    found = _low_yield(report["source"], list(report["splits"].values()))
    for split, summary in report["splits"].items():
        probes = summary["probes"] if summary["pairs"] >= MIN_HELD_OUT_PAIRS else {}
        for name, share in probes.items():
            if share > MAX_PROBE and summary["probe_intervals"][name][0] > 0.5:
                how, remedy = PROBES[name]
                what = f"the chosen reply is found {how} in {share:.3f} of {summary['pairs']} pairs, without the clip"
                found.append(SourceWarning(split, f"{what} (want at most {MAX_PROBE})", remedy))
    return [asdict(warning) for warning in found]


def _low_yield(source: str, summaries: list[Mapping[str, Any]]) -> list[SourceWarning]:
    asked, pairs = (sum(summary[name] for summary in summaries) for name in ("asked", "pairs"))
    if asked == 0 or pairs >= MIN_YIELD * asked:
        return []
    failed = {}
    for check in CHECKS:
        counts = [summary["checks"][check.name] for summary in summaries]
        failed[check] = sum(count["measured"] - count["passed"] for count in counts if count["drops"])
    candidates = sum(summary["candidates"] for summary in summaries)
    worst = sorted((check for check in CHECKS if failed[check]), key=lambda check: -failed[check])[:_SHOWN_CHECKS]
    what = f"{pairs} pairs of {asked} replies that source {source} was asked for (yield {pairs / asked:.2f}, "
    what += f"want {MIN_YIELD})"
    if worst:
        what += f"; of {candidates} candidates most often failed: "
        what += ", ".join(f"{check.name} {failed[check]} times" for check in worst)
    remedy = worst[0].remedy if worst else "another source"
    if worst and worst[0].keys:
        remedy += f" (key {' or '.join(worst[0].keys)})"
    return [SourceWarning("all", what, remedy)]


__all__ = ["MAX_PROBE", "MIN_YIELD", "SourceWarning", "warnings_of"]
