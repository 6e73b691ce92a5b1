"""A clip's table of facial action units: read from what OpenFace or py-feat write, frames without a face left out."""

import csv
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

_OPENFACE = re.compile(r"AU(\d\d)_r")
_PY_FEAT = re.compile(r"AU(\d\d)")
_SURE_FROM = 0.5
"""Least confidence of a face (OpenFace writes it, and py-feat as FaceScore)."""
_ROUNDING = 0.05


class TableError(ValueError):
    """A table that a clip cannot be described by; `reason` is the same for every such table."""

    def __init__(self, reason: str, message: str) -> None:
        """Say why, and where."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Table:
    """Action units over time.

    Attributes:
        units: their numbers in the Facial Action Coding System, one a column.
        times_s: float64 (F,), of the frames with a face, rising.
        intensities: float64 (F, A).
        most: end of the scale: 5 of OpenFace, 1 of py-feat.
        ends_s: time of the last row, with a face or without.
    """

    units: tuple[int, ...]
    times_s: np.ndarray
    intensities: np.ndarray
    most: int
    ends_s: float

    def between(self, start_s: float, end_s: float | None, path: Path) -> "Table":
        """Return the rows of a span, their times counted from its beginning.

        Raises:
            TableError: there is no face in it.
        """
        if start_s == 0 and end_s is None:
            return self
        kept = (self.times_s >= start_s) & (self.times_s <= (math.inf if end_s is None else end_s))
        if not kept.any():
            raise TableError("clip without a face", f"{path}: has no face from {start_s:g} s to {end_s} s")
        return replace(self, times_s=self.times_s[kept] - start_s, intensities=self.intensities[kept])


def read_table(path: Path, fps: float) -> Table:
    """Read a table.

    Args:
        path: a CSV with a header: columns `AU01_r` (OpenFace) or `AU01` (py-feat), and `timestamp` or `frame`.
        fps: frames a second, where it has frames and no times.

    Raises:
        TableError: it has other columns, a value that is no number or beyond the scale, times that fall, or no face.
    """
    header, rows = _read(path)
    columns, most = _unit_columns(header, path)
    clock = "timestamp" if "timestamp" in header else "frame"
    if clock not in header:
        raise TableError(_OTHER_COLUMNS, f"{path}: has neither timestamp nor frame; its columns are {_named(header)}")
    times: list[float] = []
    values: list[list[float]] = []
    first, last_s = None, 0.0
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise TableError("table with a broken row", f"{path}:{number}: {len(row)} cells, want {len(header)}")
        cells = dict(zip(header, row, strict=True))
        moment = _number(cells[clock], path, number, clock)
        first = moment if first is None else first  # OpenFace counts frames from 1, py-feat from 0
        last_s = moment if clock == "timestamp" else (moment - first) / fps
        if times and last_s < times[-1]:
            reason = "table whose times fall (two faces?)"
            raise TableError(
                reason, f"{path}:{number}: {clock} {cells[clock]} after a later one; keep one face a table"
            )
        if _has_face(cells, columns):
            times.append(last_s)
            values.append([_number(cells[name], path, number, name) for name in columns])
    if not times:
        raise TableError("clip without a face", f"{path}: no row has a face")
    intensities = np.array(values)
    if intensities.min() < -_ROUNDING or intensities.max() > most + _ROUNDING:
        raise TableError(
            "table beyond its scale",
            f"{path}: intensities from {intensities.min():g} to {intensities.max():g}, want 0 to {most}",
        )
    return Table(tuple(columns.values()), np.array(times), intensities, most, last_s)


_OTHER_COLUMNS = "table with other columns"


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError("table that cannot be read", f"{path}: {error}") from error
    if not rows:
        raise TableError("table that cannot be read", f"{path}: is empty")
    return [name.strip() for name in rows[0]], rows[1:]


def _unit_columns(header: list[str], path: Path) -> tuple[dict[str, int], int]:
    """Return the number of each column's action unit, and the end of the scale."""
    for form, most in ((_OPENFACE, 5), (_PY_FEAT, 1)):
        found = {name: int(match[1]) for name in header if (match := form.fullmatch(name))}
        if found:
            return found, most
    raise TableError(
        _OTHER_COLUMNS, f"{path}: want AU01_r, ... (OpenFace) or AU01, ... (py-feat); its columns are {_named(header)}"
    )


def _named(header: list[str]) -> str:
    return ", ".join(header[:8])[:120] + (", ..." if len(header) > 8 else "")


def _has_face(cells: dict[str, str], columns: dict[str, int]) -> bool:
    """Tell whether a row has a face: by what the program says of it, and by its cells, which are empty without."""
    if cells.get("success", "1").strip() in ("0", "0.0"):
        return False
    for name in ("confidence", "FaceScore"):
        said = cells.get(name, "1").strip().lower()
        if said in ("", "nan") or (said.replace(".", "", 1).isdigit() and float(said) < _SURE_FROM):
            return False
    return all(cells[name].strip().lower() not in ("", "nan") for name in columns)


def _number(text: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TableError("table with a broken row", f"{path}:{line}: {column} is {text!r:.40}, want a number")
    return value


__all__ = ["Table", "TableError", "read_table"]
