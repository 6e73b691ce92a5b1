"""Sound and pictures of a report's samples: small copies in a folder beside it, and where a page takes them from."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from epo.data.dialogue import Clip
from epo.data.pages.clip_view import Look, view_clip
from epo.data.replies import Reply
from epo.files import write_whole

FOLDER = "report_media"
"""Of the copies, beside `report.json`."""

# A sample is at most 30 s (`epo.data.pages.clip_view.LIMITS`) of 240 px at twelve frames a second and 48 kbit/s of
# sound: about 0.6 MB, so the folder of twenty stays below some 13 MB.
_LOOK = Look(num_frames=4, side_px=128, columns=200)
_MOST_EMBEDDED_BYTES = 3 * 2**20  # of all players together; more would make a page that opens slowly
_NAME = re.compile(r"\d{2,}(-\d+)?\.(mp4|jpg)")
_KINDS = {".mp4": "video/mp4", ".jpg": "image/jpeg"}


def with_sample_media(
    examples: Sequence[Mapping[str, Any]], gold: Sequence[Reply], folder: Path
) -> list[dict[str, Any]]:
    """Write the media of samples, and return the samples with `clip`: what a page plays and shows of theirs.

    Args:
        examples: of a report, each with `dialogue_id` and `turn`.
        gold: the replies that were to be given.
        folder: of the report; the copies go into `report_media` in it, and those of an earlier report are taken away.

    Returns:
        The samples; `clip` is None where the turn has none, and else holds a `ClipView`, in which `faults` says what
        cannot be shown.
    """
    replies = {(reply.dialogue_id, reply.turn): reply for reply in gold}
    written: set[str] = set()
    shown = []
    for number, example in enumerate(examples):
        clip = replies[example["dialogue_id"], example["turn"]].current.clip
        view = None if clip is None else _view(clip, f"{number:02d}", folder / FOLDER, written)
        shown.append({**example, "clip": view})
    if (folder / FOLDER).is_dir():
        for path in (folder / FOLDER).iterdir():
            if _NAME.fullmatch(path.name) and path.name not in written:
                path.unlink()
    return shown


def _view(clip: Clip, stem: str, folder: Path, written: set[str]) -> dict[str, Any]:
    def keep(name: str, content: bytes) -> str:
        write_whole(folder / name, content)
        written.add(name)
        return f"{FOLDER}/{name}"

    def place(clip: Clip, make_preview: Callable[[], bytes]) -> str:
        return keep(f"{stem}.mp4", make_preview())

    return asdict(view_clip(clip, place, lambda number, picture: keep(f"{stem}-{number}.jpg", picture), _LOOK))


def placed_clips(examples: Sequence[Mapping[str, Any]], folder: Path | None) -> list[dict[str, Any] | None]:
    """Return the clips of samples with the addresses that a page in a folder takes them from.

    Pictures stand in the page itself, and so do sound and video where all of them together are small; else they are
    linked. What is no longer there is named instead of offered.

    Args:
        examples: with `clip` as `with_sample_media` made it, or without one.
        folder: of the page; None takes nothing from anywhere, so that only what is known in numbers is shown.
    """
    clips = [example.get("clip") for example in examples]
    players = [_file(folder, clip["source"]) for clip in clips if clip]
    is_small = sum(path.stat().st_size for path in players if path is not None) <= _MOST_EMBEDDED_BYTES
    return [clip and _placed(clip, folder, is_small) for clip in clips]


def _placed(clip: Mapping[str, Any], folder: Path | None, is_small: bool) -> dict[str, Any]:
    player = _file(folder, clip["source"])
    faults = list(clip["faults"])
    if clip["source"] and player is None and folder is not None:
        faults.append(f"{clip['source']} is not there")
    source = "" if player is None else _embedded(player, clip["kind"]) if is_small else clip["source"]
    pictures = [(frame, _file(folder, frame["source"])) for frame in clip["frames"]]
    frames = [dict(frame, source="" if path is None else _embedded(path, "image")) for frame, path in pictures]
    return {**clip, "faults": faults, "source": source, "frames": frames}


def _file(folder: Path | None, address: str) -> Path | None:
    """Return the file behind an address of ours; None for any other address, and where there is no file."""
    name = address.removeprefix(f"{FOLDER}/")
    if folder is None or address == name or not _NAME.fullmatch(name):
        return None
    path = folder / FOLDER / name
    return path if path.is_file() and not path.is_symlink() else None


def _embedded(path: Path, kind: str) -> str:
    media_type = _KINDS[path.suffix] if kind != "audio" else "audio/mp4"
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


__all__ = ["FOLDER", "placed_clips", "with_sample_media"]
