"""How far a stage's folder is, in a few numbers: to tell whether an attempt got anywhere."""

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from launch.folder.digests import RECORDS


@dataclass(frozen=True)
class Progress:
    """How far a folder is.

    Attributes:
        is_done: whether the stage has finished.
        step: of the newest checkpoint, 0 without one.
        num_bytes: of files that a stage without checkpoints keeps as it goes, such as answers.
    """

    is_done: bool
    step: int
    num_bytes: int

    def is_beyond(self, other: "Progress") -> bool:
        """Tell whether this is further than another one."""
        return (self.is_done and not other.is_done) or self.step > other.step or self.num_bytes > other.num_bytes


def progress_of(folder: Path) -> Progress:
    """Look at a folder, which need not be there."""
    if not folder.is_dir():
        return Progress(False, 0, 0)
    files = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".") and p.name not in RECORDS)
    return Progress(
        (folder / "stage.json").is_file(),
        newest_step(folder),
        sum(path.stat().st_size for path in files),
    )


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint by its name, 0 without one."""
    names = [re.fullmatch(r"checkpoint-(\d+)", path.name) for path in folder.glob("checkpoint-*") if path.is_dir()]
    return max((int(name.group(1)) for name in names if name), default=0)


def can_change_ranks(folder: Path) -> bool:
    """Tell whether any number of ranks can go on from a folder's newest checkpoint, as its manifest says."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        manifest = (folder / f"checkpoint-{newest_step(folder)}" / "manifest.json").read_text(encoding="utf-8")
        return json.loads(manifest).get("sharding") in ("none", "zero-1", "zero-2", "zero-3")
    return False
