"""JSON lines: what is one object in UTF-8 is read, whatever else is named with line and remedy."""

import gzip
import json

import pytest

from epo.data.findings import CollectFaults, DataError, StopAtFault
from epo.data.lines import read_lines


def read(tmp_path, raw):
    path = tmp_path / "a.jsonl"
    path.write_bytes(raw)
    findings = CollectFaults()
    rows = [(where.removeprefix(f"{path}:"), row) for where, row in read_lines(path, findings)]
    return rows, [fault.removeprefix(f"{path}:") for fault in findings.faults], dict(findings.notes)


@pytest.mark.parametrize(
    ("raw", "lines", "notes"),
    [
        (b'{"a":1}', ["1"], {}),
        (b'{"a":1}\r\n{"a":1}\r\n', ["1", "2"], {}),
        (b'\xef\xbb\xbf{"a":1}\n', ["1"], {"byte order mark before the text": 1}),
        (b'\xef\xbb\xbf{"a":1}\n\xef\xbb\xbf{"a":1}', ["1", "2"], {"byte order mark before the text": 2}),
        (b'\n{"a":1}\n \t\r\n{"a":1}\n\n', ["2", "4"], {"blank line": 3}),
        (b"", [], {}),
        (b"\n", [], {"blank line": 1}),
        (b"\xef\xbb\xbf", [], {"byte order mark before the text": 1, "blank line": 1}),
        ('{"a":1, "b": "\u2028\u0085"}\n'.encode(), ["1"], {}),  # no line ends in JSON
    ],
)
def test_lines_are_read_and_oddities_noted(tmp_path, raw, lines, notes):
    rows, faults, found = read(tmp_path, raw)
    assert ([where for where, _ in rows], faults, found) == (lines, [], notes)
    assert all(row["a"] == 1 for _, row in rows)


LINE = json.dumps({"a": "\u00e9"}, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (LINE.encode("utf-16"), "1: is UTF-16, want UTF-8; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
        (LINE.encode("utf-16-le"), "1: is UTF-16LE, want UTF-8"),
        (LINE.encode("utf-16-be"), "1: is UTF-16BE, want UTF-8"),
        (LINE.encode("utf-32"), "1: is UTF-32, want UTF-8"),
        (LINE.encode("utf-32-be"), "1: is UTF-32BE, want UTF-8"),
        (LINE.encode("cp1252"), "1: not UTF-8 (byte 0xe9 at 8, '\u00e9' in Windows-1252); convert the file, "
         "such as with `iconv -f WINDOWS-1252 -t UTF-8`"),
        (b'{"a":"\x81"}', "1: not UTF-8 (byte 0x81 at 7); convert the file with `iconv -t UTF-8`"),
        (gzip.compress(b"{}"), "1: is gzipped; unpack it: gunzip FILE"),
        (b"PK\x03\x04...", "1: is a ZIP archive (or .xlsx); unpack it"),
        (b'[{"a":1},\n{"a":2}]\n', "1: not JSON lines but a JSON array over several lines; write one object a line: "
         "jq -c '.[]' FILE > NEW"),
        (b'[\n {"a":1}]\n', "1: not JSON lines but a JSON array over several lines"),
        (b'[{"a":1}]\n', "1: want a JSON object, not a JSON array; write one object a line: jq -c '.[]' FILE > NEW"),
        (b'{\n "a": 1\n}\n', "1: not JSON lines but a JSON object over several lines; write one object a line: jq"),
        (b'{"a":1}\r{"a":2}\r', "1: not JSON (Extra data at 9); write one JSON object a line, ended by a line feed"),
        (b'{"a":1,"a":2}', "1: key 'a' comes twice in one object; keep the one that is meant"),
        (b'{"b":[{"c":{"a":1,"x":0,"a":1}}]}', "1: key 'a' comes twice in one object"),
        (b'{"\\ud83d":1,"\\ud83d":1}', "1: key '\\ud83d' comes twice"),
        (b'{"a":' + b"[" * 100_000, "1: not JSON (nested too deeply)"),
        (b'{"a":1', "1: not JSON (Expecting ',' delimiter at 7)"),
        (b'{"a":"\x01"}', "1: not JSON (Invalid control character at at 7)"),
        (b"3", "1: want a JSON object, not a JSON value; write one JSON object a line"),
        (b'"a"', "1: want a JSON object, not a JSON string"),
        (b'{"a":1}\nnull\n{"a":2}', "2: want a JSON object, not null"),
    ],
)  # fmt: skip
def test_what_is_no_line_of_json_is_named(tmp_path, raw, fault):
    rows, faults, _ = read(tmp_path, raw)
    assert len(faults) == 1 and faults[0].startswith(fault), faults
    assert len(rows) == (2 if fault.startswith("2") else 0)
    with pytest.raises(DataError) as stopped:
        list(read_lines(tmp_path / "a.jsonl", StopAtFault()))
    assert str(stopped.value) == f"{tmp_path / 'a.jsonl'}:{faults[0]}"


def test_numbers_of_any_size_are_read(tmp_path):
    huge = [b"9" * 5000, b"9" * 400, b"-" + b"9" * 400, b"1e999", b"123456789012345678", b"NaN"]
    rows, faults, _ = read(tmp_path, b'{"a":[' + b",".join(huge) + b"]}")
    *values, nan = rows[0][1]["a"]
    assert values == [float("inf"), float("inf"), float("-inf"), float("inf"), 123456789012345678] and nan != nan
    assert faults == []


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(DataError, match="Is a directory; see docs/data.md"):
        list(read_lines(tmp_path, StopAtFault()))
