"""Table cells: what a field of ours is made of in a row of a table: a column, several, or a template over columns."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epo.data.dialogue import DataError

FIELDS = (
    "dialogue", "order", "speaker", "text", "emotion", "split", "group", "start", "end", "strategy", "description",
    "language", "background", "audio", "video",
)  # fmt: skip
"""What a table can say of a turn or of its dialogue."""

_HOLE = re.compile(r"\{([^{}:]+)(?::0?(\d+))?\}")
_UNIT = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?)")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Cell:
    """One of `FIELDS` in terms of columns.

    Attributes:
        source: as the user wrote it: `Utterance`; `user+reply`, the turns of a row one after the other; or
            `clips/{Dialogue_ID}_{Utterance_ID:03}.mp4`, where `:03` fills up with zeros.
    """

    source: str

    @property
    def is_template(self) -> bool:
        """Whether columns stand in braces."""
        return _HOLE.search(self.source) is not None

    @property
    def parts(self) -> list[str]:
        """Return the columns of several turns; "" is a turn that has none."""
        return [self.source] if self.is_template else [part.strip() for part in self.source.split("+")]

    @property
    def names(self) -> list[str]:
        """Return every column that is named."""
        if self.is_template:
            return [match[1] for match in _HOLE.finditer(self.source)]
        return [part for part in self.parts if part]

    def values(self, row: Mapping[str, Any], found: Mapping[str, str]) -> list[Any]:
        """Return a value a part.

        Args:
            row: columns by name.
            found: for each name that is written, the column it means.
        """
        if self.is_template:
            return [_HOLE.sub(lambda hole: as_text(look_up(row, found[hole[1]])).zfill(int(hole[2] or 0)), self.source)]
        return [look_up(row, found[part]) if part else None for part in self.parts]


def look_up(row: Mapping[str, Any], name: str) -> Any:
    """Return a column, or with `annotation.strategy` a member of the object in a column; None where there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def as_text(value: Any) -> str:
    """Return a cell as text: no outer blanks, whole numbers without a point, lists with commas, nothing as ""."""
    if value is None or isinstance(value, Mapping):
        return ""
    if isinstance(value, list):
        return ", ".join(text for text in map(as_text, value) if text)
    if isinstance(value, float) and not math.isfinite(value):
        return ""  # how pandas writes nothing into JSON
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def find_columns(wanted: Iterable[str], known: Sequence[str], where: str) -> dict[str, str]:
    """Return for each wanted name the column it means; case and outer blanks do not matter if one column is meant.

    Raises:
        DataError: a column is missing; those there are and the nearest are named.
    """
    found = {}
    for name in wanted:
        alike = [column for column in known if column.strip().lower() == name.strip().lower()]
        outer = name.split(".")[0]
        if name in known or (outer in known and outer != name):
            found[name] = name
        elif len(alike) == 1:
            found[name] = alike[0]
        else:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise DataError(f"{where}: no column {name!r}{hint}; there are {', '.join(map(repr, known))}")
    return found


def parse_assignments(text: str, key: str) -> dict[str, str]:
    r"""Return `a=b,c=d` as a mapping; a comma inside a name is written `\,`.

    Raises:
        DataError: a part is no assignment, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for part in re.split(r"(?<!\\),", text):
        name, sign, value = part.replace("\\,", ",").partition("=")
        name, value = name.strip(), value.strip()
        if not part.strip():
            continue
        if not sign or not name or not value:
            raise DataError(f"{key}: {part.strip()!r} is no NAME=VALUE; want several of them with commas between")
        if name in pairs:
            raise DataError(f"{key}: {name!r} comes twice")
        pairs[name] = value
    return pairs


def seconds_of(text: str) -> float | None:
    """Return the seconds of `12.5`, `1:02.5` or `00:14:38,127`; None where the text is no such time."""
    match = _UNIT.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = match.groups(default="0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def natural_key(text: str) -> tuple[Any, ...]:
    """Return what to sort by: numbers by size wherever they stand, so `u2` before `u10` and `9` before `10`."""
    number = _number(text)
    if number is not None:
        return (0, number, ())
    return (1, 0.0, tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(text)))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return seconds_of(text)
    return number if math.isfinite(number) else None


__all__ = [
    "FIELDS",
    "Cell",
    "as_text",
    "find_columns",
    "look_up",
    "natural_key",
    "parse_assignments",
    "seconds_of",
]
