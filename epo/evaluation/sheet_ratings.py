"""Ratings on sheets: each reply's empathy, relevance, fluency and emotional fit from 1 to 5, read and summed up."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from epo.evaluation.metrics import bootstrap_interval
from epo.evaluation.rater_agreement import krippendorff_alpha, squared_difference
from epo.evaluation.rating_sheets import QUALITIES, RATING_COLUMNS, SIDES, RatingItem

Rated = tuple[str, str]
"""Item, and column of `RATING_COLUMNS`."""


def read_ratings(
    rows: Sequence[Mapping[str, str]], known: Sequence[str]
) -> tuple[dict[Rated, int], dict[str, list[str]]]:
    """Return the ratings of a sheet, and what is amiss with them.

    Args:
        rows: cells by column in lower case; the first row of an item counts.
        known: the items.

    Returns:
        Ratings from 1 to 5; and as `item: column` the cells that are `blank_rating` or `other_rating`, which count
        nowhere. Both are empty where the sheet has no such columns.
    """
    first: dict[str, Mapping[str, str]] = {}
    for row in rows:
        first.setdefault(row["item"], row)
    ratings: dict[Rated, int] = {}
    amiss: dict[str, list[str]] = defaultdict(list)
    for item in known:
        for column in RATING_COLUMNS:
            cell = first.get(item, {}).get(column)
            if cell is None:
                continue
            if cell in ("1", "2", "3", "4", "5"):
                ratings[item, column] = int(cell)
            else:
                kind, what = ("other_rating", f" {cell[:20]}") if cell else ("blank_rating", "")
                amiss[kind].append(f"{item}: {column}{what}")
    return ratings, dict(amiss)


def summarise_ratings(items: Sequence[RatingItem], raters: Sequence[Mapping[Rated, int]]) -> dict[str, Any]:
    """Return what ratings say.

    Returns:
        By quality `systems`, of each its `mean`, 95 % `interval` over dialogues and `num_ratings`; and `alpha`,
        Krippendorff's for numbers, of two raters and more. Empty without ratings.
    """
    found: dict[str, Any] = {}
    for quality in QUALITIES:
        values: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for item in items:
            for side, system in zip(SIDES, (item.system_a, item.system_b), strict=True):
                given = [rater.get((item.item, f"{quality}_{side}")) for rater in raters]
                values[system] += [(rating, item.dialogue_id) for rating in given if rating is not None]
        systems = {name: _mean(rated) for name, rated in sorted(values.items()) if rated}
        if systems:
            columns = tuple(f"{quality}_{side}" for side in SIDES)
            own = [{cell: rating for cell, rating in rater.items() if cell[1] in columns} for rater in raters]
            alpha = krippendorff_alpha(own, squared_difference) if len(own) > 1 else None
            found[quality] = {"systems": systems, "alpha": alpha}
    return found


def _mean(rated: Sequence[tuple[int, str]]) -> dict[str, Any]:
    numbers, dialogues = [float(rating) for rating, _ in rated], [dialogue for _, dialogue in rated]
    interval = bootstrap_interval(numbers, None, dialogues) if len(set(dialogues)) > 1 else None
    return {"mean": sum(numbers) / len(numbers), "interval": interval, "num_ratings": len(numbers)}


def format_ratings(found: Mapping[str, Any]) -> list[str]:
    """Return one line a quality."""
    lines = []
    for quality, of in found.items():
        means = ", ".join(
            f"{name} {one['mean']:.2f}"
            + ("" if one["interval"] is None else " ({:.2f} to {:.2f})".format(*one["interval"]))
            + f" of {one['num_ratings']}"
            for name, one in of["systems"].items()
        )
        alpha = "" if of["alpha"] is None else f"; Krippendorff's alpha of the ratings {of['alpha']:.3f}"
        lines.append(f"{quality.replace('_', ' ')}, 1 to 5: {means}{alpha}")
    return lines


__all__ = ["Rated", "format_ratings", "read_ratings", "summarise_ratings"]
