"""`data import-pairs`: bring a file of prompt, chosen and rejected, as people or models ranked them, into our form."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from launch.recipe import RecipeError


def run(argv: Sequence[str]) -> None:
    """Write dialogues.jsonl and pairs.jsonl from a file of rankings: JSON lines, a JSON array, CSV, TSV or Parquet."""
    from epo.data.corpora.import_report import ImportReport
    from epo.data.splits import SplitShares
    from epo.preferences.import_rankings import import_rankings

    parser = argparse.ArgumentParser(prog="launch/data.py import-pairs", description=run.__doc__)
    parser.add_argument("file", type=Path, help="the rankings; the ending says what it is")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--columns", default="", help="names in the file, such as prompt=question,chosen=response_a")
    parser.add_argument(
        "--on_error",
        choices=("stop", "skip"),
        default="stop",
        help="stop at the first fault, or skip such rows and count them",
    )
    parser.add_argument("--validation_share", type=float, default=0.1, help="share of the prompts held out")
    parser.add_argument("--test_share", type=float, default=0.1, help="share of the prompts held out")
    parser.add_argument("--seed", type=int, default=0, help="of the splits")
    parser.add_argument("--language", default="en", help="of all texts")
    parser.add_argument("--source", default="rankings", help="what the pairs say they come from")
    given = parser.parse_args(argv)
    report = ImportReport(given.on_error)
    card = import_rankings(
        given.file,
        given.out,
        parse_columns(given.columns),
        SplitShares(given.validation_share, given.test_share, given.seed),
        report,
        language=given.language,
        source=given.source,
    )
    print(*report.summary(), sep="\n", end="\n" if report.summary() else "")
    for kind in ("dialogues", "pairs"):
        print(f"{kind}: " + ", ".join(f"{count} {split}" for split, count in card[kind].items()))
    for split in (split for split, count in card["pairs"].items() if count == 0):
        print(f"no {split} pairs: with few prompts, change validation_share and test_share, or the seed")
    print(f"wrote {given.out / 'dialogues.jsonl'} and {given.out / 'pairs.jsonl'}")


def parse_columns(text: str) -> dict[str, str]:
    """Return the names in `prompt=question,chosen=response_a` by what they stand for.

    Raises:
        RecipeError: one is not of this form, or stands for nothing.
    """
    from epo.preferences.rankings import COLUMNS

    columns = {}
    for entry in filter(None, text.split(",")):
        key, equals, name = entry.partition("=")
        if not equals or not name or key.strip() not in COLUMNS:
            raise RecipeError(f"columns: {entry!r}: want NAME=COLUMN with a name of {', '.join(COLUMNS)}")
        columns[key.strip()] = name
    return columns


__all__ = ["parse_columns", "run"]
