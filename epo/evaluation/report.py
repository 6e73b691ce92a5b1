"""The report: `report.json` for programs, and `report.html` for people, without a script and without network."""

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from epo.data.pages.page_files import PAGES
from epo.data.pages.waveform import HEIGHT, WIDTH
from epo.emotions import EMOTIONS
from epo.evaluation.sample_media import FOLDER, placed_clips
from epo.files import write_whole


class ReportError(ValueError):
    """A report that cannot be read or shown; the message names the file or the key."""


_EMPTY: dict[str, Any] = {
    "emotion_recognition": {}, "vad_recognition": {}, "chance": {}, "examples": [], "stages": [], "notes": [],
    "settings": {}, "hardware": {},
    "history_reduction": None, "prompt_reduction": None, "seconds": None, "peak_rss_mib": None, "seed": None,
    "gold_degenerate": None, "basis": {}, "breakdowns": [], "verdict": [], "comparisons": [], "measure_validity": {},
}  # fmt: skip
_PLAIN_SAMPLE: dict[str, Any] = {
    "dialogue_id": None, "turn": None, "user_emotion": None, "transcript": None, "history": [], "num_earlier_turns": 0,
    "prompt": None, "gold": None, "gold_emotion": None, "replies": {},
}  # fmt: skip
_PLAIN_COLUMN: dict[str, Any] = {
    "explanation": "", "better": None, "digits": 3, "has_interval": False, "is_charted": False, "in_console": True,
    "sampled_form_of": None, "levels": {}, "suite": "",
}  # fmt: skip


def write_report(output_dir: Path, report: Mapping[str, Any]) -> None:
    """Write `report.json` and `report.html` into a folder, each whole or not at all.

    Args:
        output_dir: made where missing.
        report: `rows`, and any other key that docs/evaluation.md lists. NaN becomes null.

    Raises:
        ReportError: there are no rows, or a row has no name.
    """
    plain = _plain(report)
    _check(plain)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_whole(output_dir / "report.json", json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(output_dir / "report.html", render_html(plain, output_dir))


def report_files(output_dir: Path) -> list[Path]:
    """Return what a folder's report consists of: both files, and the media of its samples where there are some."""
    paths = [output_dir / name for name in ("report.json", "report.html", FOLDER)]
    return [path for path in paths if path.exists()]


def merge_report(output_dir: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Set top-level keys of a folder's report, rewrite both files, and return the whole.

    Raises:
        ReportError: there is no report, or it is not JSON.
    """
    path = output_dir / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{path}: no such report; run launch/evaluate.py first") from None
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}: not JSON ({error}); delete it and run launch/evaluate.py again") from None
    report |= extra
    write_report(output_dir, report)
    return report


def render_html(report: Mapping[str, Any], folder: Path | None = None) -> str:
    """Return the report as one HTML page; every text is escaped, and no script runs.

    Args:
        report: as `write_report` takes it.
        folder: where the page will lie, with the media of its samples in `report_media`; None: it shows none of them.
    """
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, PAGES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["signed"] = _format_signed
    page = environment.get_template("report.html.j2")
    known = _EMPTY | {key: value for key, value in _plain(report).items() if value is not None}
    columns = shown_columns(known)
    return page.render(
        report=known,
        samples=_samples(known, folder),
        wave_size=(WIDTH, HEIGHT),
        columns=columns,
        charts=[column | {"lines": _lines(column, known)} for column in columns if column["is_charted"]],
        breakdowns=_breakdowns(known),
        emotions=EMOTIONS,
        kinds={row["name"]: row.get("kind", "base") for row in known["rows"]},
        variants={row["name"] for row in known["rows"] if row.get("kind") == "variant"},
        main=_main_row(known["rows"]),
        differences=_differences(known, columns),
        compared={one["column"] for one in known["comparisons"]},
    )


def _breakdowns(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables with the columns in which any row has something, and no table without."""
    tables = []
    for table in report["breakdowns"]:
        found = [row.get(table["key"]) or {} for row in report["rows"]]
        labels = [label for label in table["labels"] if any(cells.get(label) for cells in found)]
        if labels:
            tables.append({**table, "labels": labels})
    return tables


def _samples(report: Mapping[str, Any], folder: Path | None) -> list[dict[str, Any]]:
    """Return the samples with clips that can be shown, and with whatever an older report does not say of them."""
    examples = report["examples"]
    clips = placed_clips(examples, folder)
    return [_PLAIN_SAMPLE | example | {"clip": clip} for example, clip in zip(examples, clips, strict=True)]


def _differences(report: Mapping[str, Any], columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row of the table of differences for each row that was compared: its comparisons by column."""
    shown = {column["key"] for column in columns}
    rows: dict[str, dict[str, Any]] = {}
    for one in report["comparisons"]:
        if one["column"] in shown:
            row = rows.setdefault(one["row"], {"name": one["row"], "control": one["control"], "by": {}})
            row["by"][one["column"]] = one
    return list(rows.values())


def _main_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row whose numbers stand on top of the page: the first that is what is tested, else the last."""
    return next((row for row in rows if row.get("kind") == "main"), rows[-1])


def shown_columns(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the columns of a report that hold a number in some row, in order.

    A number that no column announces, as in a report without `columns`, is shown under its own key.
    """
    rows, announced = report["rows"], [_PLAIN_COLUMN | dict(column) for column in report.get("columns") or ()]
    known = {column["key"] for column in announced}
    strange = dict.fromkeys(key for row in rows for key, value in row.items() if _is_number(value))
    announced += [_PLAIN_COLUMN | {"key": key, "heading": key} for key in strange if key not in known]
    return [column for column in announced if any(_is_number(row.get(column["key"])) for row in rows)]


def format_table(report: Mapping[str, Any]) -> str:
    """Return the rows as a table for the terminal, and below it what its numbers rest on."""
    columns = [column for column in shown_columns(report) if column["in_console"]]
    cells = [["", *(column["heading"] for column in columns)]]
    for row in report["rows"]:
        cells.append([row["name"], *(format_number(row.get(column["key"]), column["digits"]) for column in columns)])
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns) + 1)]
    lines = [
        "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(row))
        for row in ([*zip(line, widths, strict=True)] for line in cells)
    ]
    bases = {column["suite"]: column["heading"] for column in reversed(columns)}
    rests = [
        f"{bases[suite]} rests on {basis['text']}"
        for suite, basis in (report.get("basis") or {}).items()
        if suite in bases
    ]
    kinds = {row["name"]: row.get("kind") for row in report["rows"]}
    said = [one["text"] for one in report.get("verdict") or () if kinds.get(one["row"]) != "variant"]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *rests, *said])


def _lines(column: Mapping[str, Any], report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines across a column's chart: their names and values, those that the report has."""
    lines = []
    for name, path in column["levels"].items():
        value: Any = report
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if _is_number(value):
            lines.append({"name": name, "value": value})
    return lines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, or a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def _format_signed(value: float, digits: int = 3) -> str:
    return f"{value:+,.{digits}f}".replace("-", "\u2212")


def describe_hardware() -> dict[str, Any]:
    """Return what this machine is: processor, cores it may use, memory in GiB, system, Python."""
    import psutil

    return {
        "processor": _processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _plain(value: Any) -> Any:
    """Turn cells into dicts, tuples into lists, numpy numbers into Python's, NaN and infinity into None."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy array or number
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _check(report: Mapping[str, Any]) -> None:
    rows = report.get("rows")
    if not isinstance(rows, list) or not rows:
        raise ReportError("report: 'rows' must be a list with at least one row")
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise ReportError(f"report: row {index} has no 'name'")
