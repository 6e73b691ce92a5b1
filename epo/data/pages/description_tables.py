"""The tables of a description: the same rows for a terminal and for a page."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from epo.data.clip_measures import TOO_SHORT_S, ClipMeasures
from epo.data.describing import SPEAKERS, Description, SplitNumbers, Spread
from epo.emotions import EMOTIONS

_MAX_NAMES = 8

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """A title, the heads of the columns after the first, and rows, each a name and a cell a column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_tables(
    description: Description, use_names: Mapping[str, str], measures: Mapping[str, ClipMeasures]
) -> list[Table]:
    """Return the tables of a description, a column a split.

    Args:
        description: of the whole corpus.
        use_names: what to call the keys of `SplitNumbers.uses`, in the order of the rows.
        measures: of the clips of each split; empty where they were not decoded.
    """
    splits = description.in_order()
    numbers = [description.splits[split] for split in splits]
    tables = [
        Table("Dialogues", tuple(splits), _rows(_SIZES, numbers)),
        Table("What each stage would find", tuple(splits), _use_rows(use_names, numbers)),
    ]
    for speaker in SPEAKERS:
        labels = [split.labels[speaker] for split in numbers]
        tables.append(Table(f"Emotions of {speaker} turns", tuple(splits), _label_rows(labels)))
    clips = [_extractor_labels(split) for split in numbers]
    if any(clips):
        tables.append(Table("Emotions of the clips that the extractor would learn", tuple(splits), _label_rows(clips)))
    if measures:
        measured = [measures[split] for split in splits if split in measures]
        names = tuple(split for split in splits if split in measures)
        tables.append(Table("Clips, decoded as training does", names, _rows(_CLIPS, measured)))
    if any(split.names for split in numbers):
        tables.append(Table("Most frequent speakers, turns", tuple(splits), _name_rows(numbers)))
    return [table for table in tables if table.rows]


def format_tables(tables: Sequence[Table]) -> str:
    """Return tables as text: names to the left, numbers to the right, in columns as wide as they need."""
    lines: list[str] = []
    for table in tables:
        rows = [(table.title, *table.columns), *table.rows]
        widths = [max(_width(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines.append("")
        for row in rows:
            cells = [" " * (width - _width(cell)) + cell for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join([row[0] + " " * (widths[0] - _width(row[0])), *cells]).rstrip())
    return "\n".join(lines[1:])


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese characters take two, combining marks none."""
    return sum((unicodedata.east_asian_width(c) in "WF") + 1 - bool(unicodedata.combining(c)) for c in text)


def _rows(cells: Mapping[str, Callable[[T], str]], columns: Sequence[T]) -> tuple[tuple[str, ...], ...]:
    rows = ((name, *(cell(column) for column in columns)) for name, cell in cells.items())
    return tuple(row for row in rows if any(value not in ("0", "-", _part(0, 1)) for value in row[1:]))


def _spread(spread: Spread, unit: float = 1) -> str:
    row = spread.as_json()
    if row["count"] == 0:
        return "-"
    median, p95, most = (f"{row[key] / unit:g}" for key in ("median", "p95", "most"))
    return f"{median} / {p95} / {most}"


_SIZES: dict[str, Callable[[SplitNumbers], str]] = {
    "dialogues": lambda n: f"{n.dialogues:,}",
    "groups": lambda n: f"{n.groups:,}",
    "user turns": lambda n: f"{n.turns['user']:,}",
    "assistant turns": lambda n: f"{n.turns['assistant']:,}",
    "turns a dialogue (median / 95 % / most)": lambda n: _spread(n.turns_a_dialogue),
    "words a user turn": lambda n: _spread(n.words["user"]),
    "words an assistant turn": lambda n: _spread(n.words["assistant"]),
    "words a reply that is learnt": lambda n: _spread(n.reply_words),
    "speakers by name": lambda n: f"{len(n.names):,}",
    "languages": lambda n: ", ".join(f"{name} {count:,}" for name, count in n.languages.most_common(3)),
    "turns with a clip": lambda n: _part(n.clips["any"], n.turns.total()),
    "with sound": lambda n: _part(n.clips["audio"], n.turns.total()),
    "with pictures": lambda n: _part(n.clips["video"], n.turns.total()),
    "hours of clips whose end is given": lambda n: f"{n.marked_seconds / 3600:.1f}" if n.marked_seconds else "-",
    "labels that a model gave": lambda n: f"{n.machine_labels.total():,}",
    "facts in the replies they belong to": lambda n: _part(n.facts["held"], n.facts["stated"]),
}

_CLIPS: dict[str, Callable[[ClipMeasures], str]] = {
    "examined": lambda m: f"{m.counts['examined']:,}",
    "that cannot be used": lambda m: f"{m.counts['faulty']:,}",
    "seconds (median / 95 % / most)": lambda m: _spread(m.tenths, 10),
    f"of less than {TOO_SHORT_S:g} s": lambda m: f"{m.counts['too short']:,}",
    "cut off at what training reads": lambda m: f"{m.counts['too long']:,}",
    "loudness, dBFS (median / 95 % / most)": lambda m: _spread(m.loudness),
    "silent": lambda m: f"{m.counts['silent']:,}",
    "whose pictures stand still": lambda m: f"{m.counts['frozen']:,}",
}


def _part(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.1f} %)" if total else "0"


def _use_rows(names: Mapping[str, str], numbers: Sequence[SplitNumbers]) -> tuple[tuple[str, ...], ...]:
    return tuple((name, *(f"{split.uses[key]:,}" for split in numbers)) for key, name in names.items())


def _extractor_labels(numbers: SplitNumbers) -> Counter[str]:
    prefix = "extractor "
    return Counter({key.removeprefix(prefix): n for key, n in numbers.uses.items() if key.startswith(prefix)})


def _label_rows(labels: Sequence[Counter[str]]) -> tuple[tuple[str, ...], ...]:
    occurring = [label for label in (*EMOTIONS, "none") if any(counts[label] for counts in labels)]
    return tuple((label, *(_part(counts[label], counts.total()) for counts in labels)) for label in occurring)


def _name_rows(numbers: Sequence[SplitNumbers]) -> tuple[tuple[str, ...], ...]:
    total = sum((split.names for split in numbers), Counter[str]())
    return tuple((name, *(f"{split.names[name]:,}" for split in numbers)) for name, _ in total.most_common(_MAX_NAMES))


__all__ = ["Table", "format_tables", "make_tables"]
