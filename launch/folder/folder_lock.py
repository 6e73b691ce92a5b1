"""A lock on a folder: one run at a time writes there."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

_BEAT_S = 30.0
_SILENT_S = 5 * _BEAT_S


class FolderInUseError(ValueError):
    """Another run writes into this folder."""


@contextlib.contextmanager
def hold(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keep every other run out of a folder until the block ends or this process does.

    The kernel gives the lock back when its holder is gone, however it went, so what a crash leaves behind is no
    obstacle. Some network file systems keep such locks on one machine only; so the holder also writes who it is and
    shows every 30 s that it lives, and a sign of life from another machine counts as a lock as well.

    Raises:
        FolderInUseError: names who holds it, since when, and what to do.
    """
    path = folder / name
    with path.open("a+", encoding="utf-8") as file:
        if not _lock(file):
            raise FolderInUseError(_message(folder, _read(file)))
        holder = _read(file)
        if _lives_elsewhere(holder, path):
            raise FolderInUseError(_message(folder, holder))
        _write(file, _myself())
        over = threading.Event()
        threading.Thread(target=_beat, args=(path, over), name="folder-lock", daemon=True).start()
        try:
            yield
        finally:
            over.set()
            with contextlib.suppress(OSError):
                _write(file, {})


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks leaves the signs of life.
        return error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
    return True


def _myself() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _lives_elsewhere(holder: dict[str, Any], path: Path) -> bool:
    """Tell whether another machine held the folder and gave a sign of life lately; a requeued job is no other."""
    if not holder or holder.get("host") == platform.node():
        return False
    if holder.get("job") is not None and holder["job"] == os.environ.get("SLURM_JOB_ID"):
        return False
    return _file_system_time_s(path.parent) - path.stat().st_mtime < _SILENT_S


def _file_system_time_s(folder: Path) -> float:
    """Return the time of the machine that keeps the files, against which theirs are written."""
    probe = folder / f".time.{os.getpid()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(_BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        holder = json.loads(file.read() or "{}")
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _write(file: IO[str], holder: dict[str, Any]) -> None:
    file.seek(0)
    file.truncate()
    file.write(json.dumps(holder))
    file.flush()


def _message(folder: Path, holder: dict[str, Any]) -> str:
    who = "another run"
    if holder:
        job = f", job {holder['job']}" if holder.get("job") else ""
        who = f"process {holder.get('pid')} on {holder.get('host')}{job}, since {holder.get('since')}"
    return f"{folder}: in use by {who}; wait until it has ended, or end it, or set another output_dir"
