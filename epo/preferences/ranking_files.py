"""Ranking files: rows of JSON lines, of a JSON array, of CSV, TSV and Parquet, one at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from epo.data.corpora.rows import read_separated
from epo.data.findings import DataError, Findings
from epo.data.lines import decode_json, read_lines

_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def read_rows(path: Path, findings: Findings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (place, row) of a file; its ending says what it is.

    Raises:
        DataError: the file is missing or of another kind; or a row is broken, and the findings say to stop.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the file with the rankings")
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise DataError(f"{path}: a file ending in {kind!r} is not known; want one of {', '.join(_KINDS)}")
    if kind == ".parquet":
        yield from _read_parquet(path)
    elif kind in (".csv", ".tsv"):
        yield from read_separated(path, "\t" if kind == ".tsv" else ",", findings)
    elif kind == ".json" and _is_array(path):
        yield from _read_array(path, findings)
    else:
        yield from read_lines(path, findings)


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _read_array(path: Path, findings: Findings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = decode_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), f"{path}", findings)
    for index, row in enumerate(rows if isinstance(rows, list) else []):
        where = f"{path}: entry {index}"
        if isinstance(row, dict):
            yield where, row
        else:
            findings.fault("entry is not a JSON object", f"{where}: {row!r:.60}", "write an object")


def _read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from pyarrow import ArrowException, parquet

    try:
        index = 0
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield f"{path}: row {index}", row
                index += 1
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error)[:200]}); download it again") from None


__all__ = ["read_rows"]
