"""What lies around a stage on this machine: memory, free disk, the tracking server, and its clips."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from epo.data.dialogue import SPLITS, Clip, Dialogue
from epo.data.media import MediaError, MediaLimits, decode_clip
from launch.folder.digests import clip_names

_WAIT_S = 3.0
_LIMITS = MediaLimits(sample_rate_hz=16_000, max_audio_seconds=2.0, video_fps=1.0, max_frames=1)


@dataclass(frozen=True)
class Device:
    """What a rank computes on.

    Attributes:
        name: in words.
        memory: bytes that a rank may have.
        is_cuda: whether it is a GPU.
    """

    name: str
    memory: int
    is_cuda: bool


def device_of_ranks(ranks_here: int, wants_cpu: bool) -> Device:
    """Return the device of a rank: a GPU whole, or its share of this machine's memory.

    Args:
        ranks_here: processes on this machine.
        wants_cpu: whether accelerate is told to leave GPUs alone.
    """
    import torch

    if torch.cuda.is_available() and not wants_cpu:
        properties = torch.cuda.get_device_properties(0)
        return Device(properties.name, int(properties.total_memory), True)
    total = machine_memory()
    shared = "" if ranks_here == 1 else f", shared by {ranks_here} processes"
    return Device(f"CPU, {total / 2**30:.1f} GiB of memory{shared}", total // ranks_here, False)


def machine_memory() -> int:
    """Return the bytes of memory that processes here may have: the machine's, or less where a control group says so."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue
    return total


def existing(path: Path) -> Path:
    """Return the nearest folder at or above a path that is there."""
    path = Path(os.path.abspath(path))
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def free_bytes(folder: Path) -> int:
    """Return what is free where a folder is, or will be."""
    return shutil.disk_usage(existing(folder)).free


def is_writable(folder: Path) -> bool:
    """Tell whether a folder can be made, or written into."""
    return os.access(existing(folder), os.W_OK)


def tracking_state(uri: str) -> tuple[str, str | None]:
    """Return where MLflow's runs go, in words, and what is wrong with that; None where nothing is.

    Args:
        uri: as `launch.tracking.tracking_uri` gives it.
    """
    from launch.processes.credentials import redact

    shown = redact(uri)
    if uri.startswith("sqlite:"):
        folder = Path(uri.removeprefix("sqlite:///")).parent
        wrong = None if is_writable(folder) else f"MLflow: {folder} cannot be written to; set MLFLOW_TRACKING_URI"
        return shown, wrong
    if not uri.startswith(("http://", "https://")):
        return shown, None
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=_WAIT_S):
            return f"{shown}, reachable", None
    except urllib.error.HTTPError as error:  # it answers, and may want a login that MLflow itself sends
        return f"{shown}, answers with {error.code}", None
    except (OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())
        return shown, (
            f"MLflow: {shown} does not answer ({reason}); start it, or unset MLFLOW_TRACKING_URI: stages train on "
            "without it and write down what they log"
        )


def missing_media(dialogues: Path) -> list[str]:
    """Return the media files that a dialogues file names and that are not there, whatever else is wrong with it."""
    return sorted({name for name in clip_names(dialogues) if not (dialogues.parent / name).exists()})


def clip_state(dialogues: Iterable[Dialogue]) -> tuple[str, list[str]]:
    """Return how many clips there are and whether the first of each split can be read; and what is wrong."""
    clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    for dialogue in dialogues:
        found = [turn.clip for turn in dialogue.turns if turn.clip is not None]
        clips.setdefault(dialogue.split or "no split", []).extend(found)
    problems, num_read = [], 0
    for first in (found[0] for found in clips.values() if found):
        try:
            decode_clip(first, _LIMITS)
            num_read += 1
        except MediaError as error:
            problems.append(f"clips: {error}; `python launch/data.py check` lists all that cannot be read")
    total = sum(len(found) for found in clips.values())
    return f"clips: {total:,}, the first of {num_read} splits decoded", problems
