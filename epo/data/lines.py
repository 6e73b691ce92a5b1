"""Lines: a file of JSON objects, one a line, read strictly; dialogues, pairs and corpora are all read through here."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from epo.data.findings import DataError, Findings

_NOT_TEXT = {
    b"\x1f\x8b": ("file is gzipped", "is gzipped", "unpack it: gunzip FILE"),
    b"PK\x03\x04": ("file is a ZIP archive", "is a ZIP archive (or .xlsx)", "unpack it, or save it as JSON lines"),
}
_JQ = "write one object a line: jq -c {} FILE > NEW"


class _NotStrict(ValueError):
    """JSON that another program might read otherwise."""


def read_lines(path: Path, findings: Findings) -> Iterator[tuple[str, dict[str, Any]]]:
    r"""Yield (`path:line`, object) of each line of a file.

    A byte order mark and blank lines are passed over and noted; lines may end in `\r\n`. Whatever else is not one JSON
    object in UTF-8 with each key once is a fault, and left out.

    Args:
        path: the file.
        findings: hears of notes and faults.

    Raises:
        DataError: the file cannot be opened; or a fault, if `findings` says so.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; see docs/data.md for the layout") from None
    with file:
        if name_other_encoding(path, file.peek(4096), findings):
            return
        is_first = True
        for number, raw in enumerate(file, 1):
            where = f"{path}:{number}"
            if raw.startswith(codecs.BOM_UTF8):  # later ones are of files that were joined
                raw = raw.removeprefix(codecs.BOM_UTF8)
                findings.note("byte order mark before the text", where)
            if not raw.strip():
                findings.note("blank line", where)
                continue
            if is_first and _spans_lines(raw):
                _refuse_value_over_lines(raw, where, findings)
                return
            is_first = False
            row = parse_line(raw, where, findings)
            if row is not None:
                yield where, row


def parse_line(raw: bytes, where: str, findings: Findings) -> dict[str, Any] | None:
    """Return the object that a line holds, or None, and a fault, where it is not one JSON object in UTF-8."""
    row = decode_json(raw, where, findings)
    if row is None or isinstance(row, dict):
        return row
    kind = "array" if isinstance(row, list) else "string" if isinstance(row, str) else "value"
    advice = _JQ.format("'.[]'") if kind == "array" else "write one JSON object a line"
    findings.fault("line is not a JSON object", f"{where}: want a JSON object, not a JSON {kind}", advice)
    return None


def decode_json(raw: bytes, where: str, findings: Findings) -> Any:
    """Return the value of a JSON text in UTF-8, or None, and a fault, where it is none or `null`.

    Numbers of any size are read: an integer of more than 18 digits as a float, one too large for that as infinity.
    """
    try:
        row = STRICT_DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        findings.fault("line is not UTF-8", f"{where}: {_describe_bytes(error)}", _advise_encoding(raw))
    except _NotStrict as error:
        findings.fault("key comes twice", f"{where}: {error}", "keep the one that is meant")
    except RecursionError:
        findings.fault("line is not JSON", f"{where}: not JSON (nested too deeply)", "write one JSON object a line")
    except json.JSONDecodeError as error:
        findings.fault("line is not JSON", f"{where}: not JSON ({error.msg} at {error.colno})", _advise_json(raw))
    else:
        if row is not None:
            return row
        place = f"{where}: want a JSON object, not null"
        findings.fault("line is not a JSON object", place, "write one JSON object a line")
    return None


def name_other_encoding(path: Path, start: bytes, findings: Findings) -> bool:
    """Tell whether a file is no text, or text in UTF-16 or UTF-32, from its first bytes; if so that is a fault."""
    for magic, (kind, what, remedy) in _NOT_TEXT.items():
        if start.startswith(magic):
            findings.fault(kind, f"{path}:1: {what}", remedy)
            return True
    encoding = _wide_encoding(start)
    if encoding is not None:
        remedy = f"convert it: iconv -f {encoding} -t UTF-8 FILE > NEW"
        findings.fault(f"file is {encoding}", f"{path}:1: is {encoding}, want UTF-8", remedy)
    return encoding is not None


def _wide_encoding(start: bytes) -> str | None:
    """Return the name of UTF-16 or UTF-32 where bytes begin in one, with a mark or with an ASCII character."""
    for mark, name in ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32")):
        if start.startswith(mark):
            return name
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    zeros = [byte == 0 for byte in start[:4]]
    patterns = {
        (False, True, True, True): "UTF-32LE", (True, True, True, False): "UTF-32BE",
        (False, True, False, True): "UTF-16LE", (True, False, True, False): "UTF-16BE",
    }  # fmt: skip
    return patterns.get((zeros[0], zeros[1], zeros[2], zeros[3])) if len(zeros) == 4 else None


def _spans_lines(raw: bytes) -> bool:
    """Tell whether the first line of a file only opens a value that goes on: a pretty-printed object, or an array."""
    opening = raw.strip()
    if opening in (b"{", b"[", b"[{"):
        return True
    return opening.startswith(b"[") and not opening.endswith(b"]")


def _refuse_value_over_lines(raw: bytes, where: str, findings: Findings) -> None:
    if raw.strip().startswith(b"["):
        what, remedy = "a JSON array over several lines", _JQ.format("'.[]'")
    else:
        what, remedy = "a JSON object over several lines", _JQ.format(".")
    findings.fault("file is one JSON value, not a line each", f"{where}: not JSON lines but {what}", remedy)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _NotStrict(f"key {twice[:60]!r} comes twice in one object")
    return row


def _parse_int(digits: str) -> int | float:
    """Python refuses integers of more than 4,300 digits, and cannot make floats of those beyond 308."""
    return int(digits) if len(digits) <= 18 else float(digits)


STRICT_DECODER = json.JSONDecoder(object_pairs_hook=_each_key_once, parse_int=_parse_int)
"""Reads JSON as lines are read: a key that comes twice in one object is a ValueError."""


def _describe_bytes(error: UnicodeDecodeError) -> str:
    byte = bytes(error.object[error.start : error.start + 1])
    try:
        guess = f", {byte.decode('cp1252')!r} in Windows-1252"
    except UnicodeDecodeError:
        guess = ""
    return f"not UTF-8 (byte 0x{byte.hex()} at {error.start + 1}{guess})"


def _advise_encoding(raw: bytes) -> str:
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:
        return "convert the file with `iconv -t UTF-8`, or download it again"
    return "convert the file, such as with `iconv -f WINDOWS-1252 -t UTF-8`"


def _advise_json(raw: bytes) -> str:
    if re.search(rb"\}\r\s*\{", raw):
        return "write one JSON object a line, ended by a line feed: tr '\\r' '\\n' < FILE > NEW"
    return "write one JSON object a line"


__all__ = ["STRICT_DECODER", "decode_json", "name_other_encoding", "parse_line", "read_lines"]
