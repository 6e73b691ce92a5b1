"""How a run ends: a user's mistake or a fault of the surroundings is one line and exit code 2, a crash a traceback."""

import atexit
import errno
import os
import sys
import time
import traceback

from launch.processes.job_record import note

MISTAKE = 2
"""Exit code of what only the user can mend: starting again without a change would end the same way."""
CRASH = 1

GRACE_S = 10.0
"""How long a rank that may only suffer from another's end waits before it speaks: its launcher ends it meanwhile."""

_BY_NUMBER = {
    errno.ENOSPC: "the disk is full; free some space, or set output_dir (and cache_dir) on another file system",
    errno.EDQUOT: "your disk quota is used up; free some space, or set output_dir on another file system",
    errno.EROFS: "the file system cannot be written to; set output_dir on another one",
    errno.EACCES: "permission denied; change the file's permissions, or name another path",
    errno.EPERM: "permission denied; change the file's permissions, or name another path",
    errno.EEXIST: "a file, or a link to nothing, is in the way of a folder; name another path",
    errno.ENOTDIR: "a part of this path is a file and no folder; name another path",
    errno.EISDIR: "this is a folder, want a file; name another path",
    errno.ENAMETOOLONG: "the path is too long for this file system; name a shorter one",
    errno.EMFILE: "too many open files; raise the limit with `ulimit -n 65536`",
    errno.ENFILE: "too many open files on this machine; ask its administrator",
    errno.EADDRINUSE: "the port is taken; give `accelerate launch --main_process_port` another one",
}

# What libraries make of the same faults, by words in their messages.
_BY_WORDS = {
    "No space left on device": errno.ENOSPC,
    "inline_container.cc": errno.ENOSPC,  # torch's writer: "enforce fail at", "unexpected pos", "file write failed"
    "database or disk is full": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "EADDRINUSE": errno.EADDRINUSE,
}

_PEER_IS_GONE = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "Broken pipe")


def explain(error: BaseException) -> str | None:
    """Return the line that tells a user what to do about an error, None where it is no user's matter but a crash."""
    if is_user_error(error):
        return str(error)
    cause: BaseException | None = error
    while cause is not None:
        line = _surroundings(cause)
        if line is not None:
            return line
        cause = cause.__cause__ or cause.__context__
    return None


def report(error: BaseException, rank: int) -> int:
    """Print how the run ended and return the exit code.

    One rank speaks for all where all met the same fault: the others wait until their launcher ends them, and speak
    only if it does not.
    """
    line = explain(error)
    if rank > 0 or any(words in str(error) for words in _PEER_IS_GONE):
        time.sleep(GRACE_S)
    if line is None:
        traceback.print_exception(error)
        return CRASH
    note(said="mistake", line=line)
    print(f"error: {line}", file=sys.stderr)
    return MISTAKE


def leave(code: int) -> None:
    """Leave at once: a rank that waited for its peers' clean-up would hang where they are waiting for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def spare_teardown(code: object) -> None:
    """Let this process leave with its exit handlers, but without tearing torch down: for a rank, when all is done.

    About once in some hundred runs the teardown of gloo's threads aborts the process ("terminate called without an
    active exception"), after `destroy_process_group` too: a finished job would end as a crashed one.

    Args:
        code: of the `SystemExit` it ends by; None where it ends by itself.
    """
    atexit.register(_leave_after_the_others, code)


def _leave_after_the_others(code: object) -> None:
    atexit.unregister(_leave_after_the_others)
    atexit._run_exitfuncs()
    has_failed_since = hasattr(sys, "last_type")  # in what came after the stage
    leave(CRASH if has_failed_since or not isinstance(code, int | None) else code or 0)


def is_user_error(error: BaseException) -> bool:
    """Tell whether an error is one of the project's own `ValueError`s, whose messages are written for the user."""
    return isinstance(error, ValueError) and type(error).__module__.split(".")[0] in ("epo", "compressor", "launch")


def _surroundings(error: BaseException) -> str | None:
    """Return the line for a fault of disk, permissions or network, None for anything else."""
    if isinstance(error, OSError) and error.errno in _BY_NUMBER:
        return f"{error.filename or 'writing a file'}: {_BY_NUMBER[error.errno]}"
    text = str(error)
    number = next((number for words, number in _BY_WORDS.items() if words in text), None)
    return None if number is None else f"writing a file: {_BY_NUMBER[number]} ({type(error).__name__})"
