"""Provenance: one record an attempt at a stage, kept in `provenance.json` and never rewritten by a later one."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from epo.files import write_whole
from launch.folder.identity import Identity
from launch.keys.recipe_file import RecipeError
from launch.processes.credentials import redact, redact_command

_FILE = "provenance.json"
_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "deepspeed", "mlflow", "datasets")


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a folder, oldest first.

    Raises:
        RecipeError: the file is not as it was written.
    """
    path = folder / _FILE
    if not path.is_file():
        return []
    try:
        attempts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        attempts = None
    attempts = [attempts] if isinstance(attempts, dict) else attempts  # of earlier versions
    if not isinstance(attempts, list) or not all(isinstance(row, dict) and "verdict" in row for row in attempts):
        raise RecipeError(f"{path}: not a record of attempts as a stage writes it; restore it, or move it elsewhere")
    return attempts


def begin_attempt(folder: Path, identity: Identity) -> None:
    """Add the record of an attempt that starts now: command, commit, versions, place, and what it is made from."""
    end_unfinished(folder, "ended without a word: killed, or its machine failed")
    attempt = {
        "started": _now(),
        "ended": None,
        "verdict": None,
        "command": redact_command(sys.argv),
        "commit": _commit(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "host": platform.node(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "layout": identity.layout,
        "inputs": identity.inputs,
    }
    _write(folder, [*read_attempts(folder), attempt])


def end_attempt(folder: Path, verdict: str) -> None:
    """Write into the newest record how the attempt ended."""
    attempts = read_attempts(folder)
    if attempts:
        attempts[-1] |= {"ended": _now(), "verdict": redact(verdict)}
        _write(folder, attempts)


def end_unfinished(folder: Path, verdict: str) -> None:
    """Write into the newest record how the attempt ended, if it could not do so itself."""
    attempts = read_attempts(folder)
    if attempts and attempts[-1]["verdict"] is None:
        end_attempt(folder, verdict)


def _write(folder: Path, attempts: list[dict[str, Any]]) -> None:
    write_whole(folder / _FILE, json.dumps(attempts, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """Return the commit of this checkout, with `+dirty` where it was edited, or None outside a checkout."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    git = ["git", "-C", root]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+dirty" if dirty.stdout.strip() else "")
