"""The folder of a stage: one writer at a time, made from one identity, finished once, every attempt recorded."""

import contextlib
import dataclasses
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from epo.files import write_whole
from launch.folder.digests import RECORDS, file_digest
from launch.folder.folder_lock import hold
from launch.folder.identity import Identity, changes, identify, identity_of, layout_changes
from launch.folder.provenance import begin_attempt, end_attempt
from launch.folder.stage_progress import can_change_ranks, progress_of
from launch.keys.roles import own_roles
from launch.processes.ends import explain
from launch.processes.job_record import note
from launch.processes.process_group import from_rank_0
from launch.recipe import RecipeError, declared, resolved_keys
from launch.stage import num_ranks, rank

# How a batch is dealt out: the position in the data is counted in optimizer steps, whatever these are.
_SPREAD = ("num_ranks", "per_device_train_batch_size", "gradient_accumulation_steps")
_DONE, _IDENTITY, _RECIPE = "stage.json", "identity.json", "recipe.yaml"


@dataclass(frozen=True)
class State:
    """How far a stage's folder is from what a recipe asks for.

    Attributes:
        kind: "new" holds nothing, "interrupted" can be gone on with, "done" is finished, "changed" was made from else.
        reasons: why it is "changed", one phrase each.
    """

    kind: Literal["new", "interrupted", "done", "changed"]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageFolder:
    """An opened folder.

    Attributes:
        path: where results go.
        resolved: every key of the recipe with its final value.
        identity: what the result is made from.
        is_done: whether the result is there already; then there is nothing to do.
        rewritten: names of the result's files, for a stage that writes them anew at once.
    """

    path: Path
    resolved: dict[str, Any]
    identity: Identity
    is_done: bool
    rewritten: Sequence[str] = ()

    def finish(self, results: dict[str, Any]) -> None:
        """Write `stage.json`, the last file of a stage: what it was made from, what it wrote, and headline results."""
        row = {
            "identity": self.identity.as_json(),
            "files": {file.name: file.stat().st_size for file in _results(self.path)},
            "rewritten": {name: file_digest(self.path / name) for name in self.rewritten},
            "results": results,
        }
        write_whole(self.path / _DONE, json.dumps(row, indent=2, default=str) + "\n")


@contextlib.contextmanager
def open_folder(
    path: Path, recipes: Sequence[Any], argv: Sequence[str] | None = None, rewritten: Sequence[str] | None = None
) -> Iterator[StageFolder]:
    """Open a stage's folder on all ranks together; rank 0 decides, locks and records.

    Args:
        path: the folder, made where it is missing.
        recipes: as `read_recipe` returned them; the first is the stage's own.
        argv: the command line that was given to `read_recipe`.
        rewritten: given by a stage that writes its result anew at once, names its files that users edit by hand. A
            change then needs no `--fresh`: other stages' folders may lie in this one, and little work is lost.

    Raises:
        RecipeError: an input is missing; or the folder holds the result, or checkpoints, of something else; says of
            what, and the remedy.
        FolderInUseError: another run writes there.
    """
    own, types = recipes[0], [type(recipe) for recipe in recipes]
    values, defaults = declared(types, argv)
    with contextlib.ExitStack() as until_the_end:

        def decide() -> StageFolder:
            try:
                identity = identify(values, defaults, num_ranks(), own.reads_clips, own_roles(types))
            except FileNotFoundError as error:
                raise RecipeError(
                    f"{error.filename}: no such file; name one that is there, or run the stage that writes it"
                ) from None
            path.mkdir(parents=True, exist_ok=True)
            until_the_end.enter_context(hold(path))
            state = state_of(path, identity)
            if state.kind == "done" and not own.fresh:
                return StageFolder(path, {}, identity, is_done=True)
            if rewritten is not None:
                _keep_edited(path, state, rewritten)
            elif own.fresh:
                _move_aside(path, state, until_the_end)
            elif state.kind == "changed":
                raise RecipeError(_refusal(path, state.reasons))
            elif state.kind == "interrupted":
                _require_same_layout(path, identity)
            resolved = resolved_keys(recipes)
            write_whole(path / _RECIPE, yaml.safe_dump(resolved, sort_keys=True))
            write_whole(path / _IDENTITY, json.dumps(identity.as_json(), indent=2) + "\n")
            begin_attempt(path, identity)
            note(folder=str(path.absolute()), progress=dataclasses.asdict(progress_of(path)))
            return StageFolder(path, resolved, identity, is_done=False, rewritten=rewritten or ())

        folder = from_rank_0(decide)
        if folder.is_done and rank() == 0:
            print(f"{path}: already done, and nothing it was made from has changed")
        with _recorded(folder):
            yield folder


def state_of(path: Path, identity: Identity) -> State:
    """Compare what a folder holds with an identity."""
    done = _read(path / _DONE)
    made = identity_of(done.get("identity"))
    if made is not None:
        reasons = changes(made, identity)
        reasons += [f"{path / name} is {fault}" for name, fault in _damaged(path, done.get("files", {}))]
        return State("changed", tuple(reasons)) if reasons else State("done")
    if not any(path.glob("checkpoint-*")):
        return State("new")  # nothing, or it ended before it had anything to keep
    begun = identity_of(_read(path / _IDENTITY))
    if begun is None:
        return State("changed", ("nothing is known about the checkpoints in it",))
    reasons = changes(begun, identity)
    return State("changed", tuple(reasons)) if reasons else State("interrupted")


def _move_aside(path: Path, state: State, until_the_end: contextlib.ExitStack) -> None:
    """Make room for a new result without losing the old one."""
    if state.kind == "new":
        return
    aside = _beside(path)
    path.rename(aside)
    path.mkdir()
    until_the_end.enter_context(hold(path))
    print(f"{path}: starting anew; what was there is now {aside}")


def _keep_edited(path: Path, state: State, rewritten: Sequence[str]) -> None:
    """Say why a result is written anew, and keep what somebody edited since this stage wrote it."""
    done, kept = path / _DONE, _read(path / _DONE).get("rewritten", {})
    for reason in state.reasons:
        print(f"{path}: {reason}; writing it anew")
    if not done.is_file():
        return
    for name in rewritten:
        file = path / name
        if file.is_file() and kept.get(name) != file_digest(file):
            aside = _beside(file)
            shutil.copyfile(file, aside)
            print(f"{file}: was edited since; a copy is kept as {aside}")
    done.unlink()


def _beside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return path.with_name(f"{path.stem}.replaced-{stamp}{path.suffix}")


def _results(path: Path) -> Iterator[Path]:
    """Yield the files that a stage left in its folder, without records about it."""
    for file in sorted(path.iterdir()):
        if (
            file.is_file()
            and not file.name.startswith(".")
            and file.name not in RECORDS
            and ".replaced-" not in file.name
        ):
            yield file


def _damaged(path: Path, sizes: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the files of a finished stage that are gone, or cut off."""
    for name, size in sizes.items():
        file = path / name
        if not file.is_file():
            yield name, "missing"
        elif file.suffix == ".safetensors" and file.stat().st_size != size:
            yield name, "cut off or replaced"


def _read(path: Path) -> dict[str, Any]:
    """Return a record of the folder, nothing where there is none or it was written by another version."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


def _refusal(path: Path, reasons: Sequence[str]) -> str:
    return (
        f"{path}: was made from something else ({'; '.join(reasons)}); give --fresh to start anew and keep the old "
        "folder aside, or set another output_dir"
    )


def _require_same_layout(path: Path, identity: Identity) -> None:
    old = identity_of(_read(path / _IDENTITY))
    assert old is not None  # or nothing was known about its checkpoints
    if can_change_ranks(path):
        same = {key: old.layout[key] for key in _SPREAD if key in old.layout}
        identity = dataclasses.replace(identity, layout=identity.layout | same)
    reasons = layout_changes(old, identity)
    if reasons:
        raise RecipeError(
            f"{path}: its checkpoints were written in another layout ({'; '.join(reasons)}); go on in that layout, or "
            "give --fresh to start anew"
        )


@contextlib.contextmanager
def _recorded(folder: StageFolder) -> Iterator[None]:
    """Record how the attempt ended, on rank 0; a stage that was done before is no attempt."""
    if folder.is_done or rank() != 0:
        yield
        return
    verdict = "done"
    try:
        yield
    except BaseException as error:
        verdict = _verdict(error)
        raise
    finally:
        with contextlib.suppress(OSError):  # a full disk must not hide what filled it
            end_attempt(folder.path, verdict)


def _verdict(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "ended by SIGINT"
    if isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128:
        return f"ended by {signal.Signals(error.code - 128).name}"
    line = explain(error)
    return f"crash: {type(error).__name__}: {error}"[:500] if line is None else f"error: {line}"[:500]
