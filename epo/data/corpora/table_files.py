"""Table files: rows of CSV, TSV, JSONL and JSON, plain or gzipped, and of folders of recordings, one at a time."""

import csv
import gzip
import io
import itertools
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from epo.data.characters import is_encodable
from epo.data.corpora.import_report import ImportReport
from epo.data.dialogue import DataError
from epo.data.lines import STRICT_DECODER, parse_line

Row = dict[str, Any]
SEPARATED = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".ndjson")
TABLES = (*SEPARATED, *JSON_LINES, ".json")
SOUND = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac")
PICTURES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".flv", ".mpg", ".mpeg", ".m4v", ".ts", ".wmv", ".asf")
_DELIMITERS = ",;\t|"
_CUT_OFF = (UnicodeDecodeError, EOFError, OSError, zlib.error)  # of archives and of UTF-16
_HINT = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


def kind_of(path: Path) -> str:
    """Return the ending that says how a file is read, in lower case, without `.gz`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


@dataclass(frozen=True)
class TableForm:
    """How the text of a table is to be taken apart.

    Attributes:
        within: names of the members, from outside in, that hold the rows of a JSON object; `*` is every member.
        delimiter: between the cells of a separated file; None looks at its first line.
        quotes: whether cells of a separated file may stand in quotes.
    """

    within: Sequence[str] = ()
    delimiter: str | None = None
    quotes: bool = True


def read_rows(path: Path, root: Path, form: TableForm, report: ImportReport) -> Iterator[tuple[str, str, Row]]:
    """Yield (where, entry, row) of a table; a recording is one row that says its name.

    The entry is the number of the line, or of the outermost entry of a JSON document, or a recording's path without
    ending. Beside its own columns each row has `file`, the file's path below `root` without ending, and `row`, the
    entry; a column of the same name wins. A recording has `path`, `name` (without ending) and `folder`.

    Args:
        path: the file.
        root: the corpus.
        form: how the file is to be read.
        report: counts rows that cannot be read.

    Raises:
        DataError: the file cannot be read as a table, or a row cannot, and `report` says to stop.
    """
    kind = kind_of(path)
    beside = {"file": without_ending(path.relative_to(root).as_posix())}
    if kind in SOUND + PICTURES:
        name = without_ending(path.name)
        row = {"path": path.relative_to(root).as_posix(), "name": name, "folder": path.parent.name}
        yield str(path), beside["file"], beside | row
        return
    if kind in (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".db", ".sqlite"):
        raise DataError(f"{path}: a {kind} file is no text; save the sheet as CSV (UTF-8)")
    with _open(path) as file:
        if kind in JSON_LINES:
            rows = _json_lines(file, path, form.within, report)
        elif kind == ".json":
            rows = _json_document(file, path, form.within, report)
        else:
            rows = _separated(file, path, form, "\t" if kind == ".tsv" else None, report)
        try:
            for where, number, row in rows:
                yield where, str(number), {**beside, "row": number, **row}
        except _CUT_OFF as error:
            report.fault("rest of the file cannot be read", f"{path} ({error})", "download the file again")


def without_ending(name: str) -> str:
    """Return a file's name or path without `.csv`, `.json.gz`, `.wav` and the like."""
    for ending in (".gz", *TABLES, *SOUND, *PICTURES):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
    return name


def _open(path: Path) -> TextIO:
    """Open a file as text, UTF-8 with or without its mark, or UTF-16 with it, as Excel writes `Unicode text`."""
    try:
        raw: Any = path.open("rb")
        if raw.read(2) == b"\x1f\x8b":  # whatever it is called
            raw.close()
            raw = gzip.open(path, "rb")
        raw.seek(0)
        head = raw.read(1024)
        raw.seek(0)
    except _CUT_OFF as error:
        raise DataError(f"{path}: {error}; is this the file as downloaded?") from None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return io.TextIOWrapper(raw, "utf-16", errors="strict", newline="")
    if head.startswith(b"PK\x03\x04") or head.count(0) > len(head) // 4:
        raw.close()
        raise DataError(f"{path}: no text (a workbook or an archive?), or UTF-16 without its mark; save it as UTF-8")
    return io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="")


def _separated(
    file: TextIO, path: Path, form: TableForm, usual: str | None, report: ImportReport
) -> Iterator[tuple[str, int, Row]]:
    csv.field_size_limit(sys.maxsize)  # a cell may be longer than 128 KiB
    lines = iter(file)
    header, first_line = _header_line(lines, path)
    hint = _HINT.fullmatch(header.strip())
    if hint is not None:  # Excel's own line about the delimiter
        usual = hint[1]
        header, more = _header_line(lines, path)
        first_line += more
    quoting: Any = csv.QUOTE_MINIMAL if form.quotes else csv.QUOTE_NONE
    chosen = form.delimiter or usual or _delimiter(header)
    reader = csv.reader(itertools.chain([header], lines), delimiter=chosen, quoting=quoting, strict=True)
    names = _names(_first_row(reader, path), path)
    while True:
        number = first_line + reader.line_num
        where = f"{path}:{number}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            report.fault("row is not CSV", f"{where} ({error})", "mend the quotes, or say --quotes false")
            continue
        if not any(cell.strip() for cell in cells):
            continue  # sheets end with rows of nothing
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()  # delimiters at the end of a line
        if len(cells) != len(names):
            wrong = f"{where} ({len(cells)} cells, {len(names)} columns)"
            report.fault("row has the wrong number of columns", wrong, "mend the quotes, or name the --delimiter")
        elif _is_readable("".join(cells), where, report):
            yield where, number, dict(zip(names, cells, strict=True))


def _header_line(lines: Iterator[str], path: Path) -> tuple[str, int]:
    """Return the first line that is not blank, and how many came before it."""
    for number, line in enumerate(lines):
        if line.strip():
            return line, number + 1
    raise DataError(f"{path}: empty; want a line of column names, then one row a line")


def _first_row(reader: Any, path: Path) -> list[str]:
    """Return the header of a CSV reader."""
    try:
        row: list[str] = next(reader)
    except csv.Error as error:
        raise DataError(f"{path}:1: {error}; is this the file as downloaded?") from None
    return row


def _delimiter(header: str) -> str:
    """Return the delimiter that the header has most of, outside quotes; a comma where it has none."""
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=lambda mark: (outside.count(mark), mark == ","))


def _names(header: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in header]
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise DataError(f"{path}:1: column {', '.join(map(repr, twice))} comes twice; give each its own name")
    return names


def _json_lines(
    file: TextIO, path: Path, within: Sequence[str], report: ImportReport
) -> Iterator[tuple[str, int, Row]]:
    for number, line in enumerate(file, 1):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        if number == 1 and line.strip() in ("[", "[{"):
            raise DataError(f"{where}: a JSON array over several lines, not an object a line; name the file .json")
        value = parse_line(line.encode(errors="surrogateescape"), where, report)
        if value is not None and _is_readable(line, where, report):
            for row in _inside(value, within, {}, where, report):
                yield where, number, row


def _json_document(
    file: TextIO, path: Path, within: Sequence[str], report: ImportReport
) -> Iterator[tuple[str, int, Row]]:
    try:
        document = STRICT_DECODER.decode(file.read())
    except (ValueError, RecursionError, *_CUT_OFF) as error:
        raise DataError(f"{path}: not JSON ({error}); download the file again, or name it .jsonl") from None
    if isinstance(document, dict) and not within:
        members = [name for name, value in document.items() if isinstance(value, list | dict)]
        shown = ", ".join(map(repr, members[:5])) + (" ..." if len(members) > 5 else "")
        raise DataError(f"{path}: one object; say where its rows lie, --rows NAME of {shown}, or --rows '*' for all")
    entries = document if isinstance(document, list) else [document]
    for number, entry in enumerate(entries, 1):
        for row in _inside(entry, within, {}, f"{path}: entry {number}", report):
            where = f"{path}: entry {number}" + (f", {row['key']}" if "key" in row else "")
            if _is_readable("".join(value for value in row.values() if isinstance(value, str)), where, report):
                yield where, number, row


def _inside(value: Any, within: Sequence[str], outer: Row, where: str, report: ImportReport) -> Iterator[Row]:
    """Yield the objects at a place inside a JSON value, each with what the objects around it say."""
    if isinstance(value, list):
        for item in value:
            yield from _inside(item, within, outer, where, report)
    elif not isinstance(value, dict):
        report.fault("entry is no object", f"{where}: {str(value)[:40]!r}", "correct --rows")
    elif not within:
        yield outer | value
    elif within[0] == "*":
        for key, member in value.items():
            yield from _inside(member, within[1:], outer | {"key": key}, where, report)
    elif within[0] in value:
        rest = {name: member for name, member in value.items() if name != within[0]}
        yield from _inside(value[within[0]], within[1:], outer | rest, where, report)
    else:
        report.fault(f"entry has no {within[0]!r}", f"{where}: it has {', '.join(value)}", "correct --rows")


def _is_readable(text: str, where: str, report: ImportReport) -> bool:
    if not is_encodable(text):
        report.fault("row is not UTF-8", where, "convert the file with `iconv -t UTF-8`")
    elif "\0" in text:
        report.fault("row holds a NUL", where, "download the file again")
    else:
        return True
    return False


__all__ = ["PICTURES", "SOUND", "TABLES", "Row", "TableForm", "kind_of", "read_rows", "without_ending"]
