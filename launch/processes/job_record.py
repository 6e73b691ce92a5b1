"""What the attempts of one cluster job came to, told by the stages in it to the job file that decides what is next.

The job file names a file of JSON lines in EPO_JOB_RECORD; outside of a job there is none, and nothing is written.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

JOB_RECORD = "EPO_JOB_RECORD"


def note(**facts: Any) -> None:
    """Add a line about this attempt; a disk that takes none must not hide what else went wrong."""
    path = os.environ.get(JOB_RECORD, "")
    if path:
        row = {"restart": int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0), **facts}
        with contextlib.suppress(OSError), Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, default=str) + "\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a record; one that was cut off is passed over."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                rows.append(row)
    return rows
