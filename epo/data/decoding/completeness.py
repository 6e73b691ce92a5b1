"""Tell whether a media file is cut off, from how it is built; a header's word on its length proves nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

# Headers stray by padding and by a forgotten chunk.
_MISSING_BYTES, _MISSING_BYTES_SHARE = 1024, 0.01
# Writers into a pipe put the largest number they can where they do not know the size, or one a little below.
_UNKNOWN_32 = (2**31 - 2**16, 2**32 - 2**16)
_UNKNOWN_64 = 2**62
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MOST_PARTS = 200_000  # tags of an hour of FLV
_LAST_BYTES = 2**17  # twice the largest page of an Ogg file


def cut_off_evidence(path: Path) -> str | None:
    """Say in words what shows that a file is shorter than it was made; None where nothing does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        promised = _promised_bytes(file, size)
        if promised is not None and promised - size > max(_MISSING_BYTES, _MISSING_BYTES_SHARE * promised):
            return f"the file holds {size} bytes where its parts add up to {promised}"
        return "its last part is torn" if _is_torn_ogg(file, size) or _is_torn_flv(file, size) else None


def _promised_bytes(file: BinaryIO, size: int) -> int | None:
    """Return how long a file should be by the lengths of its parts; None where they do not say."""
    head = file.read(64)
    kind = head[:4]
    if kind in (b"RIFF", b"FORM") and head[8:12] in (b"WAVE", b"AVI ", b"AIFF", b"AIFC"):
        return _known(int.from_bytes(head[4:8], "little" if kind == b"RIFF" else "big"), 8)
    if kind in (b"RF64", b"BW64") and head[12:16] == b"ds64":
        return _known(int.from_bytes(head[20:28], "little"), 8)
    if kind == b"riff":
        return _known(int.from_bytes(head[16:24], "little"), 0)
    if kind == b".snd":
        return _known(int.from_bytes(head[8:12], "big"), int.from_bytes(head[4:8], "big"))
    if kind == b"caff":
        return _end_of_parts(file, size, 8, _caf_part)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"):
        return _end_of_parts(file, size, 0, _mp4_part)
    if kind == b"\x1a\x45\xdf\xa3":
        return _end_of_parts(file, size, 0, _matroska_part)
    if kind == b"\x30\x26\xb2\x75":
        return _asf_size(file)
    return None


def _known(value: int, before: int) -> int | None:
    is_unknown = value == 0 or value >= _UNKNOWN_64 or any(low <= value < low + 2**16 for low in _UNKNOWN_32)
    return None if is_unknown else value + before


def _end_of_parts(file: BinaryIO, size: int, at: int, read_part: Callable[[bytes], int | None]) -> int | None:
    """Walk over the parts of a file from `at` on; returns where the last one that begins in the file ends."""
    for _ in range(_MOST_PARTS):
        if at >= size:
            return at
        file.seek(at)
        length = read_part(file.read(32))
        if length is None or length <= 0:
            return None
        at += length
    return None


def _mp4_part(head: bytes) -> int | None:
    length = int.from_bytes(head[:4], "big")
    return int.from_bytes(head[8:16], "big") if length == 1 else length or None


def _caf_part(head: bytes) -> int | None:
    length = int.from_bytes(head[4:12], "big", signed=True)
    return None if length < 0 else length + 12


def _flv_part(head: bytes) -> int | None:
    return int.from_bytes(head[1:4], "big") + 11 + 4 if head[:1] in (b"\x08", b"\x09", b"\x12") else None


def _matroska_part(head: bytes) -> int | None:
    """Return the length of an EBML element with its head; None where it is unknown, as in live recordings."""
    id_length = _vint_length(head, 0)
    length = _vint_length(head, id_length)
    if not 0 < id_length <= 4 or not 0 < length <= 8 or len(head) < id_length + length:
        return None
    value = int.from_bytes(head[id_length : id_length + length], "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value + id_length + length


def _vint_length(head: bytes, at: int) -> int:
    return 9 - head[at].bit_length() if at < len(head) else 0


def _is_torn_flv(file: BinaryIO, size: int) -> bool:
    file.seek(0)
    return file.read(3) == b"FLV" and (_end_of_parts(file, size, 13, _flv_part) or 0) > size


def _is_torn_ogg(file: BinaryIO, size: int) -> bool:
    begin = max(0, size - _LAST_BYTES)
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    file.seek(begin)
    tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
    return len(page) < 27 or len(page) < 27 + page[26] + sum(lengths)


def _asf_size(file: BinaryIO) -> int | None:
    file.seek(0)
    head = file.read(2**16)
    at = head.find(_ASF_PROPERTIES)
    return None if at < 0 else _known(int.from_bytes(head[at + 40 : at + 48], "little"), 0)


__all__ = ["cut_off_evidence"]
