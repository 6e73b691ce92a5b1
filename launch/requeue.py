"""After a cluster job's step has failed: whether the job goes back into the queue, told in one line and the exit code.

    python launch/requeue.py RECORD --code CODE --restarts N [--time_up]

Exit code 0 puts the job back, 1 does not. launch/slurm/step.sh calls it.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launch  # noqa: F401
from launch.folder.provenance import end_attempt, end_unfinished
from launch.folder.stage_progress import Progress, progress_of
from launch.processes.ends import MISTAKE
from launch.processes.job_record import JOB_RECORD, note, read_notes

MAX_RESTARTS, MAX_CRASHES = 100, 3
"""How often a job goes back when its time is up, and after crashes; variables of these names change them."""


@dataclass(frozen=True)
class Verdict:
    """What is done with a job, and why.

    Attributes:
        goes_back: into the queue.
        kind: "mistake", "crash", "time is up" or "no progress".
        line: for the log.
    """

    goes_back: bool
    kind: str
    line: str


def decide(
    code: int, is_time_up: bool, restarts: int, has_progress: bool, earlier: Sequence[Mapping[str, Any]], said: str = ""
) -> Verdict:
    """Return whether a job goes back.

    Args:
        code: exit code of its step, not 0.
        is_time_up: whether the step was ended because the time limit was near.
        restarts: how often the job was put back so far, by us or by Slurm.
        has_progress: whether this attempt wrote a checkpoint, or finished a stage.
        earlier: verdicts on earlier attempts, oldest first, each with `kind` and `has_progress`.
        said: what the stage said of itself: "mistake" for a user's mistake, else "".
    """
    max_restarts, max_crashes = _limit("MAX_RESTARTS", MAX_RESTARTS), _limit("MAX_CRASHES", MAX_CRASHES)
    if is_time_up:
        if not has_progress:
            return Verdict(False, "no progress", "no checkpoint within the time limit: lower save_steps; not put back")
        if restarts >= max_restarts:
            return Verdict(False, "time is up", f"time is up, and the job was put back {restarts} times: no more")
        return Verdict(True, "time is up", "time is up: back into the queue")
    if code == MISTAKE or said == "mistake":
        return Verdict(False, "mistake", "a mistake that starting again cannot mend, told above; not put back")
    crashes = sum(row["kind"] == "crash" for row in earlier)
    if crashes >= max_crashes:
        return Verdict(False, "crash", f"exit code {code}: crashed {crashes + 1} times; not put back")
    if not has_progress and earlier and earlier[-1]["kind"] == "crash" and not earlier[-1]["has_progress"]:
        line = f"exit code {code}: crashed twice without a new checkpoint between; not put back"
        return Verdict(False, "no progress", line)
    return Verdict(True, "crash", f"exit code {code}: a crash, {crashes + 1} of {max_crashes}: back into the queue")


def has_progress(notes: Sequence[Mapping[str, Any]], restart: int) -> bool:
    """Tell whether any stage that this attempt started got further than it was."""
    mine = [row for row in notes if row.get("restart") == restart and "folder" in row]
    return any(progress_of(Path(row["folder"])).is_beyond(Progress(**row["progress"])) for row in mine)


def run(argv: Sequence[str] | None = None) -> None:
    """Read the command line, decide, record, and exit."""
    parser = argparse.ArgumentParser(prog="launch/requeue.py", description=__doc__)
    parser.add_argument("record", type=Path)
    parser.add_argument("--code", type=int, required=True)
    parser.add_argument("--restarts", type=int, required=True)
    parser.add_argument("--time_up", action="store_true")
    asked = parser.parse_args(argv)
    notes = read_notes(asked.record)
    mine = [row for row in notes if row.get("restart") == asked.restarts]
    said = next((row["said"] for row in mine if row.get("said") == "mistake"), "")
    is_further = has_progress(notes, asked.restarts)
    earlier = [row for row in notes if "kind" in row]
    verdict = decide(asked.code, asked.time_up, asked.restarts, is_further, earlier, said)
    os.environ |= {JOB_RECORD: str(asked.record), "SLURM_RESTART_COUNT": str(asked.restarts)}
    note(kind=verdict.kind, has_progress=is_further, code=asked.code)
    for folder in (Path(row["folder"]) for row in mine if "folder" in row):
        end_unfinished(folder, f"{verdict.kind}: exit code {asked.code}")
        if verdict.kind == "no progress":  # the stage itself knows only of a signal
            end_attempt(folder, verdict.line)
    print(verdict.line)
    sys.exit(0 if verdict.goes_back else 1)


def _limit(name: str, otherwise: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else otherwise


if __name__ == "__main__":
    run()
