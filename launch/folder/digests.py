"""What files hold, as SHA-256: of one file, of the clips a dialogues file names, of a trained part, of a corpus."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from launch.processes.credentials import redact

_CACHE = ".digests.json"
_ABSENT = "absent"
# What a part is read from. Checkpoints, records of the run and pages about it lie beside it and are not part of it.
_PART_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja", ".gguf", ".onnx", ".xml", ".vocab")
RECORDS = (
    "stage.json", "identity.json", "recipe.yaml", "provenance.json", "pipeline.json", "mlflow_run_id.txt",
    "report.json", "report.html", "trainer_state.json",
)  # fmt: skip
"""Files about a result: no part of it."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clips_digest(dialogues: Path) -> str:
    """Return a digest of all media that a dialogues file names, by their content.

    A file that is missing, or not below the folder, counts as absent: the reader of dialogues says what is wrong.
    """
    folder = dialogues.parent
    names = sorted(set(clip_names(dialogues)))
    return _joined(names, KeptDigests(folder).of([folder / name for name in names]))


def part_digest(part: str) -> str:
    """Return what a part is: a digest of the file or folder it names, else the hub name with its cached revision.

    The detector or classifier that a library brings has a name that is neither; it stands for itself.
    """
    path = Path(part)
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        files = sorted(_part_files(path))
        return _joined([str(file.relative_to(path)) for file in files], KeptDigests(path).of(files))
    return redact(f"{part}@{_hub_revision(part)}")


def corpus_digest(root: Path, without: Path) -> str:
    """Return a digest of a corpus folder by the names, sizes and times of its files.

    Not by content, since a corpus may hold terabytes: an import that runs again for nothing changes nothing.

    Args:
        root: the corpus.
        without: a folder below it to leave out, where the import itself writes.
    """
    without = Path(os.path.realpath(without))
    entries = []
    for folder, folders, files in os.walk(os.path.realpath(root)):
        folders[:] = sorted(name for name in folders if Path(folder, name) != without)
        for name in sorted(files):
            if name != _CACHE:
                status = os.stat(os.path.join(folder, name), follow_symlinks=False)
                entries.append([os.path.relpath(os.path.join(folder, name), root), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(entries).encode("utf-8", "surrogateescape")).hexdigest()


class KeptDigests:
    """Digests of files below a folder, kept there by size and times, so that only what changed is read again.

    In a folder that cannot be written to nothing is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = self._load()

    def of(self, files: Iterable[Path]) -> list[str]:
        """Return the digest of each file, "absent" for one that is missing or lies outside of the folder."""
        files = list(files)
        stamps = [self._stamp(file) for file in files]
        new = [file for file, stamp in zip(files, stamps, strict=True) if stamp and self._kept(file, stamp) is None]
        with ThreadPoolExecutor(max_workers=4) as pool:  # hashing leaves Python's lock free
            for file, digest in zip(new, pool.map(file_digest, new), strict=True):
                self._known[self._name(file)] = [self._stamp(file), digest]
        if new:
            self._save()
        return [_ABSENT if not stamp else self._known[self._name(f)][1] for f, stamp in zip(files, stamps, strict=True)]

    def _kept(self, file: Path, stamp: list[int]) -> str | None:
        known = self._known.get(self._name(file))
        return known[1] if known is not None and known[0] == stamp else None

    def _name(self, file: Path) -> str:
        return os.path.relpath(file, self._folder)

    def _stamp(self, file: Path) -> list[int] | None:
        """Return size, time of change and time of status change; the last cannot be set back by a copying tool."""
        if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(self._folder)) or not file.is_file():
            return None
        status = file.stat()
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]

    def _load(self) -> dict[str, Any]:
        try:
            known = json.loads((self._folder / _CACHE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _save(self) -> None:
        partial = self._folder / f"{_CACHE}.{os.getpid()}.partial"
        try:
            partial.write_text(json.dumps(self._known), encoding="utf-8")
            partial.replace(self._folder / _CACHE)
        except OSError:
            pass


def _joined(names: list[str], digests: list[str]) -> str:
    return hashlib.sha256(json.dumps([names, digests]).encode("utf-8", "surrogatepass")).hexdigest()


def clip_names(dialogues: Path) -> Iterator[str]:
    """Yield the media files that a dialogues file names, relative to its folder, whatever else is wrong with it."""
    with dialogues.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                turns = json.loads(line)["turns"]
                clips = [turn["clip"] for turn in turns if isinstance(turn.get("clip"), dict)]
            except (ValueError, LookupError, TypeError, AttributeError):
                continue  # the reader of dialogues names the line
            yield from (name for clip in clips for name in (clip.get("audio"), clip.get("video")) if _is_name(name))


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name != "" and "\0" not in name and not os.path.isabs(name)


def _part_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith((".", "checkpoint-")) or ".replaced-" in path.name:
            continue
        if path.is_dir():
            yield from _part_files(path)
        elif path.suffix in _PART_SUFFIXES and path.name not in RECORDS:
            yield path


def _hub_revision(name: str) -> str:
    """Return the commit that this machine's hub cache holds as the main branch of a model; "" where it has none."""
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        return Path(HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "refs", "main").read_text().strip()
    except (OSError, ValueError):
        return ""
