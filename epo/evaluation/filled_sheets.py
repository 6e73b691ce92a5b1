"""Filled sheets: what raters chose, what is amiss with their sheets, and what it says about the systems."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from epo.data.dialogue import DataError
from epo.evaluation.metrics import bootstrap_interval
from epo.evaluation.rater_agreement import bradley_terry, cohen_kappa, krippendorff_alpha
from epo.evaluation.rating_sheets import CHOICES, RatingItem
from epo.evaluation.sheet_ratings import Rated, format_ratings, read_ratings, summarise_ratings

_LABELS = {choice.lower(): choice for choice in CHOICES}


@dataclass(frozen=True)
class FilledSheet:
    """What one rater chose.

    Attributes:
        rater: name of the file.
        choices: of `CHOICES`, by item.
        amiss: items by what is wrong with them: `blank`, `missing`, `unknown`, `repeated`, `other_label`; and cells of
            ratings: `blank_rating`, `other_rating`.
        ratings: from 1 to 5, where the sheet asks for them.
    """

    rater: str
    choices: dict[str, str]
    amiss: dict[str, list[str]] = field(default_factory=dict)
    ratings: dict[Rated, int] = field(default_factory=dict)


def read_sheet(path: Path, items: Sequence[RatingItem]) -> FilledSheet:
    """Read a sheet as spreadsheets save it: with commas, semicolons or tabs, in UTF-8 or Windows-1252.

    Of an item that comes twice the first choice counts. A choice may be written in either case.

    Raises:
        DataError: there is no such file, or its head has no `item` and `choice`.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); want a filled sheet.csv") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
        if not {"item", "choice"} <= names.keys():
            raise DataError(
                f"{path}: its first line is {head.strip()[:60]!r}, want the head of sheet.csv: item,choice,..."
            )
        cells = [{name: (row[column] or "").strip() for name, column in names.items() if name} for row in rows]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}); save the sheet as CSV") from None
    known = [item.item for item in items]
    sheet = _sorted_out(path.stem, [(row["item"], row["choice"]) for row in cells], known)
    ratings, amiss = read_ratings(cells, known)
    return replace(sheet, ratings=ratings, amiss=sheet.amiss | amiss)


def _sorted_out(rater: str, pairs: Sequence[tuple[str, str]], known: Sequence[str]) -> FilledSheet:
    choices: dict[str, str] = {}
    amiss: dict[str, list[str]] = defaultdict(list)
    seen: set[str] = set()
    for item, choice in pairs:
        if not item and not choice:
            continue
        if item not in known:
            amiss["unknown"].append(item)
        elif item in seen:
            amiss["repeated"].append(item)
        elif not choice:
            amiss["blank"].append(item)
        elif choice.lower() not in _LABELS:
            amiss["other_label"].append(f"{item}: {choice[:20]}")
        else:
            choices[item] = _LABELS[choice.lower()]
        seen.add(item)
    amiss["missing"] = [item for item in known if item not in seen]
    return FilledSheet(rater, choices, {kind: found for kind, found in amiss.items() if found})


def rating_results(items: Sequence[RatingItem], sheets: Sequence[FilledSheet]) -> dict[str, Any]:
    """Return what the sheets say: wins with ties, strengths, agreement, and what is amiss with each sheet.

    Returns:
        `pairs`, of each two systems `wins`, `losses`, `ties` of the first, `win_rate` (ties count half) and its 95 %
        `interval` over dialogues, `num_ratings`, `num_items`; `strengths` (Bradley-Terry); `kappa`, for two raters;
        `alpha`, for two and more; `ratings` (`summarise_ratings`); `sheets`.

    Raises:
        DataError: two sheets have one name, or no sheet has a choice or a rating.
    """
    twice = [name for name, count in Counter(sheet.rater for sheet in sheets).items() if count > 1]
    if twice:
        raise DataError(f"two sheets are called {twice[0]!r}; name each file by its rater")
    if not any(sheet.choices or sheet.ratings for sheet in sheets):
        raise DataError("no sheet has a choice that counts; want A, B or tie in the column choice")
    raters = [_by_system(items, sheet) for sheet in sheets]
    found: dict[str, Any] = {"pairs": [], "num_raters": sum(bool(rater) for rater in raters)}
    wins: dict[tuple[str, str], float] = defaultdict(float)
    systems = sorted({name for item in items for name in (item.system_a, item.system_b)})
    for first, second in combinations(systems, 2):
        asked = [item for item in items if {item.system_a, item.system_b} == {first, second}]
        rated = [(item, rater[item.item]) for item in asked for rater in raters if item.item in rater]
        if not rated:
            continue
        scores = [1.0 if who == first else 0.0 if who == second else 0.5 for _, who in rated]
        dialogues = [item.dialogue_id for item, _ in rated]
        wins[first, second] += sum(scores)
        wins[second, first] += len(scores) - sum(scores)
        found["pairs"].append(
            {
                "systems": [first, second],
                "wins": scores.count(1.0),
                "losses": scores.count(0.0),
                "ties": scores.count(0.5),
                "win_rate": sum(scores) / len(scores),
                "interval": bootstrap_interval(scores, None, dialogues) if len(set(dialogues)) > 1 else None,
                "num_ratings": len(scores),
                "num_items": len({item.item for item, _ in rated}),
            }
        )
    found["strengths"] = bradley_terry(wins) if wins else {}
    found["kappa"] = cohen_kappa(*raters) if len(raters) == 2 else None
    found["alpha"] = krippendorff_alpha(raters) if len(raters) > 1 else None
    found["ratings"] = summarise_ratings(items, [sheet.ratings for sheet in sheets])
    found["sheets"] = {s.rater: {"num_choices": len(s.choices), "amiss": s.amiss} for s in sheets}
    return found


def _by_system(items: Sequence[RatingItem], sheet: FilledSheet) -> dict[str, str]:
    """Return who was preferred, "tie" for nobody, by item."""
    sides = {item.item: {"A": item.system_a, "B": item.system_b, "tie": "tie"} for item in items}
    return {item: sides[item][choice] for item, choice in sheet.choices.items()}


def format_results(found: Mapping[str, Any]) -> str:
    """Return the results in lines for the terminal."""
    lines = []
    for pair in found["pairs"]:
        first, second = pair["systems"]
        low_high = "" if pair["interval"] is None else " (95 % {:.2f} to {:.2f})".format(*pair["interval"])
        lines.append(
            f"{first} against {second}: preferred in {pair['win_rate']:.3f}{low_high}, ties counted half; "
            f"{pair['wins']} wins, {pair['losses']} losses, {pair['ties']} ties, {pair['num_items']} items"
        )
    strengths = ", ".join(f"{name} {value:.3f}" for name, value in found["strengths"].items())
    if strengths:
        lines.append(f"Bradley-Terry strengths, of sum 1: {strengths}")
    for name, key in (("Cohen's kappa", "kappa"), ("Krippendorff's alpha", "alpha")):
        if found[key] is not None:
            lines.append(f"{name}: {found[key]:.3f}")
    lines += format_ratings(found["ratings"])
    for rater, sheet in found["sheets"].items():
        lines.append(f"{rater}: {sheet['num_choices']} choices" + _amiss_words(sheet["amiss"]))
    return "\n".join(lines)


def _amiss_words(amiss: Mapping[str, Sequence[str]]) -> str:
    return "".join(
        f"; {len(items)} {kind.replace('_', ' ')} ({', '.join(items[:5])}{', ...' if len(items) > 5 else ''})"
        for kind, items in amiss.items()
    )


__all__ = ["FilledSheet", "format_results", "rating_results", "read_sheet"]
