"""A checkpoint is whole or it is none: written aside, made durable, listed with sizes and digests, then renamed.

    OUTPUT/.saving/checkpoint-N     while the ranks write, and until it is on the disk; no reader ever looks there
    OUTPUT/checkpoint-N             once all of it is on the disk, `manifest.json` with it
    OUTPUT/damaged-checkpoint-N     what a later run found to be damaged

Every function here is called by all ranks of a job together; the folder is one that all of them see.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
_ASIDE = ".saving"
_FORMAT = 1
# Checkpoints of versions before the manifest: each held this pickle, which none of today's does.
_MARK_OF_OLD = "training_args.bin"


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from as it is asked for; the message names the remedy."""


@dataclass(frozen=True)
class Found:
    """What a folder holds to go on from.

    Attributes:
        path: the newest checkpoint that is whole, None where there is none.
        notes: one line about each newer one that is not, and about one that could not be checked.
    """

    path: Path | None
    notes: tuple[str, ...]


@contextlib.contextmanager
def written_aside(output_dir: Path) -> Iterator[Path]:
    """Let all ranks write `checkpoint-STEP` below the folder that is yielded, for a `Commit` to follow.

    Whatever ends the block early, a full disk or a kill, leaves the checkpoints that were there as they were.
    """
    aside = output_dir / _ASIDE
    if _rank() == 0:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    _all(None)  # nobody writes before the leftovers are gone
    yield aside
    _all(None)  # everybody has written


class Commit:
    """A checkpoint that all ranks have written aside, on its way to count; one at a time.

    A thread waits for the disk and reads this rank's share of the files for their digests. It touches files and copies,
    nothing that trains, and talks to no other rank, so training goes on meanwhile and cannot change what is saved.
    """

    def __init__(
        self, output_dir: Path, step: int, facts: Mapping[str, Any], late: Iterable[Callable[[], None]] = ()
    ) -> None:
        """Start the thread.

        Args:
            output_dir: of the run.
            step: optimizer steps done.
            facts: what a later run must know before it reads the checkpoint; kept in the manifest.
            late: write what is left to be written, from copies; of one rank alone, since others would miss the files.
        """
        assert not late or _num_ranks() == 1
        self._late = tuple(late)
        self._output_dir, self._name = output_dir, f"checkpoint-{step}"
        self._facts = {"format": _FORMAT, "step": step, **facts}
        self._share: dict[str, dict[str, Any]] = {}
        self._error: BaseException | None = None
        # Nothing waits for it at a sudden end: without a manifest the checkpoint does not count.
        self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
        self._thread.start()

    def is_ready(self) -> bool:
        """Tell, to all ranks alike, whether `finish` would wait for no rank's disk."""
        return not any(_all(self._thread.is_alive()))

    def finish(self) -> None:
        """Wait for every rank's share, list the files, and let the checkpoint count.

        Raises:
            Exception: on all ranks, what kept one of them from writing; the checkpoint does not count.
        """
        self._thread.join()
        shares = _all((self._share, self._error))
        _raise_first(error for _, error in shares)
        files = {key: row for share, _ in shares for key, row in share.items()}
        error = None
        if _rank() == 0:
            folder = self._output_dir / _ASIDE / self._name
            try:
                _write_manifest(folder, {**self._facts, "files": dict(sorted(files.items()))})
                _replace(folder, self._output_dir / self._name)
                shutil.rmtree(folder.parent, ignore_errors=True)
            except OSError as refused:
                error = refused
        raise_on_all(error)

    def _work(self) -> None:
        try:
            for write in self._late:
                write()
            self._late = ()  # a copy of the optimizer is large
            self._share = _shares(self._output_dir / _ASIDE / self._name)
        except BaseException as error:  # raised by `finish`
            self._error = error


def newest_whole(output_dir: Path) -> Found:
    """Return the newest checkpoint of a folder whose files are what its manifest says, trying older ones after newer.

    One that is damaged is renamed, so that nothing takes it for a checkpoint again and its place is free.
    """
    names = _all(_by_step(output_dir) if _rank() == 0 else [])[0]
    notes: list[str] = []
    for name in reversed(names):
        folder = output_dir / name
        problem = _problem(folder)
        if problem is None:
            if not (folder / MANIFEST).is_file():
                notes.append(f"{folder}: of an older version, without a manifest, so its files were not checked")
            return Found(folder, tuple(notes))
        is_damage, words = problem
        if is_damage and _rank() == 0:
            _set_aside(folder)
        kept = "; it is kept as damaged-" + name if is_damage else ""
        notes.append(f"{folder}: {words}{kept}; trying the one before it")
    return Found(None, tuple(notes))


def last_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest checkpoint by its name, without a look at what its files hold."""
    names = [name for name in _by_step(output_dir) if (output_dir / name / STATE).is_file()]
    return output_dir / names[-1] if names else None


def facts_of(checkpoint: Path) -> dict[str, Any]:
    """Return what the manifest says about a checkpoint, without its files; nothing of one without a manifest."""
    manifest = _manifest(checkpoint)
    return {} if manifest is None else {key: value for key, value in manifest.items() if key != "files"}


def keep_newest(output_dir: Path, limit: int | None) -> None:
    """Delete the oldest checkpoints beyond `limit`; of those that are left the newest was just written and is whole."""
    if limit is None or limit <= 0 or _rank() != 0:
        return
    for name in _by_step(output_dir)[:-limit]:
        doomed = output_dir / _ASIDE / name  # so that a kill in the middle leaves no half of a checkpoint
        doomed.parent.mkdir(exist_ok=True)
        (output_dir / name).rename(doomed)
    shutil.rmtree(output_dir / _ASIDE, ignore_errors=True)


def raise_on_all(error: BaseException | None) -> None:
    """Raise on every rank what any one of them could not do; the first of them where there are several."""
    _raise_first(_all(error))


def _by_step(output_dir: Path) -> list[str]:
    """Return the names of checkpoints, oldest first; what a user named otherwise, such as checkpoint-best, is none."""
    steps = [re.fullmatch(r"checkpoint-(\d+)", path.name) for path in output_dir.glob("checkpoint-*") if path.is_dir()]
    return [match.group() for match in sorted((m for m in steps if m), key=lambda match: int(match.group(1)))]


def _problem(folder: Path) -> tuple[bool, str] | None:
    """Return what keeps a checkpoint from being used, and whether that is damage; None where nothing does."""
    # Rank 0 looks, since another machine may see an older state of the folder.
    manifest, problem = _all((_manifest(folder), _problem_without(folder)) if _rank() == 0 else None)[0]
    if manifest is None:
        return None if problem is None else (True, problem)
    shares = _all(_faults(folder, manifest["files"]))
    _raise_first(error for _, error in shares)
    faults = [fault for share, _ in shares for fault in share]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        return True, f"{sorted(faults)[0]}{more}"
    if manifest.get("is_weights_only"):
        return False, "holds weights alone (save_only_model), from which training cannot go on"
    return None


def _problem_without(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint that has no readable manifest; one of an older version needs none."""
    if (folder / MANIFEST).exists():
        return f"{MANIFEST} is damaged"
    if not (folder / _MARK_OF_OLD).is_file():
        return f"{MANIFEST} is missing"
    return None if (folder / STATE).is_file() else f"{STATE} is missing"


def _faults(folder: Path, files: Mapping[str, Any]) -> tuple[list[str], OSError | None]:
    """Return what is wrong with this rank's share of the files, or what forbids to look."""
    faults = []
    for name in sorted(files)[_rank() :: _num_ranks()]:
        path, row = folder / name, files[name]
        try:
            size = path.stat().st_size
            if size != row["bytes"]:
                faults.append(f"{name} is cut off or replaced ({size} bytes, want {row['bytes']})")
            elif _digest(path) != row["sha256"]:
                faults.append(f"{name} is damaged (its SHA-256 is not the one that was written)")
        except PermissionError as error:
            return [], error
        except FileNotFoundError:
            faults.append(f"{name} is missing")
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    return faults, None


def _manifest(folder: Path) -> dict[str, Any] | None:
    """Return a manifest, None where there is none or it is not what a `Commit` writes."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return None
    rows = manifest["files"].values()
    is_right = all(isinstance(row, dict) and {"bytes", "sha256"} <= row.keys() for row in rows)
    return manifest if is_right and STATE in manifest["files"] else None


def _shares(folder: Path) -> dict[str, dict[str, Any]]:
    """Make this rank's share of the files durable, and return their sizes and digests."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = {}
    for path in paths[_rank() :: _num_ranks()]:
        _sync(path)
        rows[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _digest(path)}
    return rows


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    _sync(path)
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync(inner)


def _replace(folder: Path, target: Path) -> None:
    """Rename a folder to a name that may be taken by an older one, which goes."""
    if target.exists():
        target.rename(folder.with_name(f"{target.name}.replaced"))
    folder.rename(target)
    _sync(target.parent)


def _set_aside(folder: Path) -> None:
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _all(value: Any) -> list[Any]:
    """Return what every rank gave, in their order; a barrier as well."""
    if _num_ranks() == 1:
        return [value]
    values: list[Any] = [None] * _num_ranks()
    dist.all_gather_object(values, value)
    return values


def _raise_first(errors: Iterable[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _num_ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
