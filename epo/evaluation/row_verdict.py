"""The verdict of a report in words: which rows differ from their control by more than noise, and which do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epo.evaluation.comparison import Comparison

_NUM_UNCLEAR = 4


@dataclass(frozen=True)
class RowVerdict:
    """What may be said of one row.

    Attributes:
        row: that is spoken of.
        control: with which it is compared.
        better: of each number that is better beyond noise, a phrase with difference and interval.
        worse: likewise.
        other: that differs beyond noise where neither direction is good.
        unclear: headings of the numbers that do not differ beyond noise.
        num_replies: that were compared, at most.
    """

    row: str
    control: str
    better: list[str]
    worse: list[str]
    other: list[str]
    unclear: list[str]
    num_replies: int

    @property
    def text(self) -> str:
        """One or two sentences."""
        said = [
            f"{word} {'; '.join(phrases)}"
            for word, phrases in (("better in", self.better), ("worse in", self.worse), ("different in", self.other))
            if phrases
        ]
        if not said:
            return f"{self.row} against {self.control}: no difference beyond noise in {_listed(self.unclear)}."
        rest = f" No difference beyond noise in {_listed(self.unclear)}." if self.unclear else ""
        return f"{self.row} against {self.control}: {', '.join(said)}.{rest}"


def verdicts(comparisons: Sequence[Comparison], columns: Sequence[Mapping[str, Any]]) -> list[RowVerdict]:
    """Return a verdict on each row that was compared, over the columns that the console shows or the page draws.

    Only a difference whose 95 % interval leaves 0 out, and which stands after Holm's correction, is called one.

    Args:
        comparisons: of `compare_rows`.
        columns: of the report.
    """
    shown = {
        column["key"]: column
        for column in columns
        if (column.get("in_console") or column.get("is_charted")) and not column.get("sampled_form_of")
    }
    found: list[RowVerdict] = []
    for name in dict.fromkeys(one.row for one in comparisons):
        ours = [one for one in comparisons if one.row == name and one.column in shown]
        if not ours:
            continue
        groups: dict[bool | str | None, list[str]] = {True: [], False: [], None: [], "unclear": []}
        for one in ours:
            heading = shown[one.column]["heading"]
            is_unclear = one.verdict == "unclear"
            groups["unclear" if is_unclear else one.is_better].append(heading if is_unclear else _phrase(one, shown))
        largest = max(one.num_replies for one in ours)
        found.append(
            RowVerdict(name, ours[0].control, groups[True], groups[False], groups[None], groups["unclear"], largest)
        )
    return found


def _phrase(one: Comparison, columns: Mapping[str, Mapping[str, Any]]) -> str:
    column = columns[one.column]
    digits = max(int(column.get("digits", 3)) - 1, 1)
    low, high = (0.0, 0.0) if one.interval is None else one.interval
    return f"{column['heading']} {one.difference:+.{digits}f} (95 % {low:+.{digits}f} to {high:+.{digits}f})"


def _listed(headings: Sequence[str]) -> str:
    first = ", ".join(headings[:_NUM_UNCLEAR])
    return first if len(headings) <= _NUM_UNCLEAR else f"{first} and {len(headings) - _NUM_UNCLEAR} more"


__all__ = ["RowVerdict", "verdicts"]
