"""Rating sheets: pairs of replies whose systems nobody can see, for people to judge, and a key of who wrote what."""

import csv
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from epo.data.dialogue import DataError
from epo.data.pages.page_files import PAGES
from epo.data.pages.waveform import HEIGHT, WIDTH
from epo.data.replies import Reply
from epo.evaluation.answers import Place
from epo.evaluation.sample_media import placed_clips, with_sample_media
from epo.files import write_whole

COLUMNS = ("item", "choice", "comment", "user", "reply_a", "reply_b")
CHOICES = ("A", "B", "tie")
QUALITIES = ("empathy", "relevance", "fluency", "emotional_fit")
"""Of a single reply, each from 1 (bad) to 5 (good)."""
SIDES = ("a", "b")
RATING_COLUMNS = tuple(f"{quality}_{side}" for side in SIDES for quality in QUALITIES)
SHOWN_TURNS = 6
"""Turns before the replies that a rater sees."""


@dataclass(frozen=True)
class RatingItem:
    """Two replies to one turn.

    Attributes:
        item: its name on the sheet.
        dialogue_id: of the turn.
        turn: of the gold reply.
        system_a: who wrote reply A.
        system_b: who wrote reply B.
        reply_a: words alone, without a label.
        reply_b: likewise.
    """

    item: str
    dialogue_id: str
    turn: int
    system_a: str
    system_b: str
    reply_a: str
    reply_b: str


def draw_items(
    said: Mapping[str, Mapping[Place, str]], count: int, seed: int
) -> tuple[list[RatingItem], dict[str, int]]:
    """Draw pairs of replies in random order, each system as often A as B but for one.

    Args:
        said: by system the words of its replies; every pair of systems is compared.
        count: of turns to judge for each pair of systems, at most.
        seed: of all draws.

    Returns:
        The items; and by pair of systems how many turns were left out because both say the same.

    Raises:
        DataError: no turn is left for a pair of systems.
    """
    rng = random.Random(seed)
    drawn, same = [], {}
    for first, second in combinations(said, 2):
        both = sorted(place for place in said[first] if place in said[second])
        apart = [place for place in both if said[first][place].split() != said[second][place].split()]
        if not apart:
            raise DataError(f"{first} and {second}: no turn to which they reply differently; nothing can be compared")
        same[f"{first} / {second}"] = len(both) - len(apart)
        chosen = rng.sample(apart, min(count, len(apart)))
        drawn += [(place, (first, second) if i % 2 else (second, first)) for i, place in enumerate(chosen)]
    rng.shuffle(drawn)
    digits = len(str(len(drawn)))
    items = [
        RatingItem(f"p{number:0{digits}d}", *place, *sides, *(said[side][place] for side in sides))
        for number, (place, sides) in enumerate(drawn, 1)
    ]
    return items, same


def write_sheets(
    out: Path, key: Path, items: Sequence[RatingItem], gold: Sequence[Reply], about: Mapping[str, Any]
) -> None:
    """Write `sheet.csv` and `pairs.html` for raters into a folder, and the key into a file that they do not get.

    Args:
        out: the folder; media of the page lie in it too.
        key: says who wrote what.
        items: in the order of the sheet.
        gold: replies whose turns they answer.
        about: what the key says besides; with a true `ratings` sheets have `RATING_COLUMNS` too.

    Raises:
        DataError: there is a sheet or a key already, which may be filled in.
    """
    for path in (out / "sheet.csv", key):
        if path.exists():
            raise DataError(f"{path}: is there already, and may belong to filled sheets; name another folder in --out")
    asked = {(reply.dialogue_id, reply.turn): reply for reply in gold}
    write_whole(key, json.dumps({**about, "items": [asdict(item) for item in items]}, indent=1, ensure_ascii=False))
    write_whole(out / "pairs.html", _page(out, items, asked, has_ratings=bool(about.get("ratings"))))
    write_whole(out / "sheet.csv", sheet_text(items, gold, bool(about.get("ratings")), {}))


def sheet_text(
    items: Sequence[RatingItem], gold: Sequence[Reply], has_ratings: bool, filled: Mapping[str, Mapping[str, str]]
) -> str:
    """Return a sheet, with a byte order mark, by which Excel knows UTF-8.

    Args:
        items: one row each.
        gold: replies whose turns they answer.
        has_ratings: whether it has `RATING_COLUMNS` too.
        filled: by item and column what is filled in; nothing on a sheet for people.
    """
    text = io.StringIO()
    columns = (*COLUMNS, *(RATING_COLUMNS if has_ratings else ()))
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    asked = {(reply.dialogue_id, reply.turn): reply.current.text for reply in gold}
    for item in items:
        words = {"user": asked[item.dialogue_id, item.turn], "reply_a": item.reply_a, "reply_b": item.reply_b}
        row = {column: _as_text(value) for column, value in (words | dict(filled.get(item.item, {}))).items()}
        writer.writerow({"item": item.item} | row)
    return "\ufeff" + text.getvalue()


def read_key(path: Path) -> list[RatingItem]:
    """Return the items of a key.

    Raises:
        DataError: there is none, or it is none.
    """
    try:
        return [RatingItem(**row) for row in json.loads(path.read_text(encoding="utf-8"))["items"]]
    except FileNotFoundError:
        raise DataError(f"{path}: no such key; want the .key.json that `rate.py sheets` wrote") from None
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(f"{path}: not a key ({error}); want the .key.json that `rate.py sheets` wrote") from None


def read_key_facts(path: Path) -> dict[str, Any]:
    """Return what a key says besides its items: `report`, `seed`, `ratings`; to be read after `read_key`."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key != "items"}


def _page(out: Path, items: Sequence[RatingItem], asked: Mapping[Place, Reply], has_ratings: bool) -> str:
    places: list[dict[str, Any]] = [{"dialogue_id": item.dialogue_id, "turn": item.turn} for item in items]
    clips = placed_clips(with_sample_media(places, list(asked.values()), out), out)
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, PAGES]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    shown = [
        {"item": item, "clip": clip, "turns": asked[item.dialogue_id, item.turn].last_turns(SHOWN_TURNS)}
        for item, clip in zip(items, clips, strict=True)
    ]
    return environment.get_template("ratings.html.j2").render(
        shown=shown, wave_size=(WIDTH, HEIGHT), qualities=QUALITIES if has_ratings else ()
    )


def _as_text(words: str) -> str:
    """Return words that a spreadsheet does not take for a formula."""
    return f"'{words}" if words.startswith(("=", "+", "-", "@", "\t", "\r")) else words


__all__ = [
    "CHOICES",
    "COLUMNS",
    "QUALITIES",
    "RATING_COLUMNS",
    "SHOWN_TURNS",
    "SIDES",
    "RatingItem",
    "draw_items",
    "read_key",
    "read_key_facts",
    "sheet_text",
    "write_sheets",
]
