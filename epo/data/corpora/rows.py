"""Rows: CSV and JSON files read a row at a time, every fault named by file and line."""

import csv
import gzip
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from epo.data.characters import is_encodable
from epo.data.corpora.import_report import ImportReport
from epo.data.dialogue import DataError
from epo.data.findings import Findings
from epo.data.lines import STRICT_DECODER, name_other_encoding

Row = TypeVar("Row")


class Placed(Protocol):
    """A row that knows its place in a file."""

    @property
    def where(self) -> str:
        """Return `path:line`."""


PlacedRow = TypeVar("PlacedRow", bound=Placed)
_CHUNK_CHARS = 1 << 16


def read_csv(path: Path, columns: set[str], report: ImportReport) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (`path:line`, row) of a CSV file with a header, leaving out rows that cannot be read.

    Raises:
        DataError: the file is missing, is no text, or lacks one of `columns`, or `report` says to stop at a broken row.
    """
    yield from read_separated(path, ",", report, columns)


def read_separated(
    path: Path, delimiter: str, findings: Findings, columns: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (`path:line`, row) of a file with a header; rows that cannot be read are faults, rows of nothing none.

    Raises:
        DataError: the file is missing, its first line lacks one of `columns` or names a column twice, or `findings`
            say to stop.
    """
    csv.field_size_limit(sys.maxsize)  # a cell may be longer than the 128 KiB that csv allows
    with _open_text(path) as file:
        if name_other_encoding(path, file.buffer.peek(4096), findings):  # type: ignore[attr-defined]
            return
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        _check_header(rows, path, delimiter, columns)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                findings.fault("row is not CSV", f"{path}:{rows.line_num} ({error})", "mend the quotes")
                continue
            where = f"{path}:{rows.line_num}"
            if not any(isinstance(cell, list) or (cell or "").strip() for cell in row.values()):
                continue  # sheets end with rows of nothing
            if None in row or None in row.values():
                findings.fault("row has the wrong number of columns", where, "mend the quotes")
            elif not is_encodable("".join(row.values())):
                remedy = "convert the file, such as with `iconv -f WINDOWS-1252 -t UTF-8`"
                findings.fault("row is not UTF-8", where, remedy)
            else:
                yield where, row


def each_once(
    rows: Iterable[PlacedRow], place: Callable[[PlacedRow], int], report: ImportReport
) -> dict[int, PlacedRow]:
    """Return the rows of a dialogue by their place in it, as they come; a place that comes twice is a fault.

    Args:
        rows: of one dialogue.
        place: returns that of a row in its dialogue.
        report: hears of the fault; the first row counts.
    """
    found: dict[int, PlacedRow] = {}
    for row in rows:
        if place(row) in found:
            report.fault("utterance comes twice", row.where, "remove one of the rows")
        else:
            found[place(row)] = row
    return found


def read_members(path: Path, report: ImportReport) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of a file that holds one JSON object, one member at a time.

    The file may be gzipped (`.gz`). Memory is that of the largest member, not of the file.

    Raises:
        DataError: the file is missing or is not one JSON object; what came before was yielded.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from _Members(file).read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; see docs/corpora.md for the layout") from None
    except (ValueError, RecursionError, EOFError, OSError) as error:
        if isinstance(error, DataError):
            raise
        report.fault("rest of the file cannot be read", f"{path} ({error})", "download the file again")


def grouped(
    rows: Iterable[Row], key: Callable[[Row], Hashable], report: ImportReport
) -> Iterator[tuple[Hashable, list[Row]]]:
    """Group neighbouring rows of equal key; a key that comes back later is a duplicate, left out as a fault.

    Raises:
        DataError: such a duplicate, and `report` says to stop.
    """
    seen: set[Hashable] = set()
    for value, group in itertools.groupby(rows, key):
        members = list(group)
        if value in seen:
            where = f"dialogue {value!r} ({len(members)} rows)"
            report.fault("dialogue comes twice", where, "sort the file by dialogue, or give each its own id")
            continue
        seen.add(value)
        yield value, members


class _Members:
    """The members of the outermost object of a JSON text, decoded as the text comes in."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decoder = STRICT_DECODER
        self._text = ""
        self._at = 0

    def read(self) -> Iterator[tuple[str, Any]]:
        if self._peek() != "{":
            raise ValueError("not a JSON object")
        self._at += 1
        while self._peek() != "}":
            key = self._value()
            if not isinstance(key, str) or self._peek() != ":":
                raise ValueError('want "key": value')
            self._at += 1
            yield key, self._value()
            if self._peek() not in (",", "}"):
                raise ValueError("want , or }")
            self._at += self._text[self._at] == ","

    def _peek(self) -> str:
        """Return the next character that is no blank, without taking it."""
        while True:
            while self._at < len(self._text) and self._text[self._at].isspace():
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK_CHARS):
                raise EOFError("the file ends early")

    def _value(self) -> Any:
        """Decode one value, reading twice as much each time it turns out to be cut off."""
        self._peek()
        chars = _CHUNK_CHARS
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                if end < len(self._text) or not self._more(chars):  # a number at the end might go on
                    self._at = end
                    return value
            except json.JSONDecodeError:
                if not self._more(chars):
                    raise
            chars *= 2

    def _more(self, chars: int) -> bool:
        read = self._file.read(chars)
        self._text = self._text[self._at :] + read
        self._at = 0
        return read != ""


def _open_text(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; see docs/corpora.md for the layout") from None


def _check_header(rows: "csv.DictReader[str]", path: Path, delimiter: str, columns: Collection[str]) -> None:
    """Refuse a first line without the columns that are needed, and one that names a column twice."""
    try:
        names = list(rows.fieldnames or ())
    except csv.Error as error:
        raise DataError(f"{path}:1: {error}; is this the file as downloaded?") from None
    twice = [name for name, count in Counter(names).items() if count > 1 and name.strip()]
    if twice:
        raise DataError(f"{path}:1: column {', '.join(map(repr, twice))} comes twice; give each its own name")
    missing = sorted(set(columns) - set(names))
    if missing:
        said = delimiter.join(names).strip()
        raise DataError(
            f"{path}: column {', '.join(missing)} is missing; its first line is {said[:80]!r}; want names with commas "
            "between, as in the file as downloaded"
        )


__all__ = ["each_once", "grouped", "read_csv", "read_members", "read_separated"]
