"""What files hold, as SHA-256: of one file, of the clips a dialogues file names, of a trained part, of a corpus."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from epo.hub_reach import hub_answers
from epo.part_names import find_part
from launch.processes.credentials import redact

_CACHE = ".digests.json"
_ABSENT = "absent"
_COMMIT = re.compile(r"[0-9a-f]{40}")
# What a part is read from. Checkpoints, records of the run and pages about it lie beside it and are not part of it.
_PART_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja", ".gguf", ".onnx", ".xml", ".vocab")
RECORDS = (
    "stage.json", "identity.json", "recipe.yaml", "provenance.json", "pipeline.json", "mlflow_run_id.txt",
    "tracking.jsonl", "tracking.sent", "report.json", "report.html", "trainer_state.json",
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


def part_record(part: str, root: str | None = None) -> dict[str, str]:
    """Return what a part is, as `content`, beside where it was found.

    Args:
        part: as a recipe names it.
        root: folder of parts (`epo.part_names`).

    Returns:
        `content`: a digest of the file or folder that is read, else the hub name with its revision. The detector or
        classifier that a library brings has a name that is neither; it stands for itself. Of a hub name also the
        `folder` that stood in for it, or the `revision`: the commit, where it is known.

    Raises:
        PartError: the folder of parts is none, or a folder is given a revision.
    """
    place = find_part(part, root)
    if place.is_local:
        found = {} if place.source == part or place.file is not None else {"folder": place.source}
        if Path(place.source).exists():
            return found | {"content": _local_digest(Path(place.source, place.file or ""))}
    revision = _hub_revision(place.source, place.revision or "main")
    file = "" if place.file is None else f"/{place.file}"
    content = redact(f"{place.source}{file}@{revision}")
    return {"content": content} | ({} if revision == "" else {"revision": revision})


def _local_digest(path: Path) -> str:
    if path.is_file():
        return file_digest(path)
    files = sorted(_part_files(path))
    return _joined([str(file.relative_to(path)) for file in files], KeptDigests(path).of(files))


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
        self._real = Path(os.path.realpath(folder))
        self._known = self._load()

    def of(self, files: Iterable[Path]) -> list[str]:
        """Return the digest of each file, "absent" for one that is missing or lies outside of the folder."""
        files = list(files)
        names = [os.path.relpath(file, self._folder) for file in files]
        stamps = [self._stamp(file) for file in files]
        new = [
            (file, name)
            for file, name, stamp in zip(files, names, stamps, strict=True)
            if stamp and self._known.get(name, [None])[0] != stamp
        ]
        with ThreadPoolExecutor(max_workers=4) as pool:  # hashing leaves Python's lock free
            for (file, name), digest in zip(new, pool.map(file_digest, [file for file, _ in new]), strict=True):
                self._known[name] = [self._stamp(file), digest]
        if new:
            self._save()
        return [_ABSENT if not stamp else self._known[name][1] for name, stamp in zip(names, stamps, strict=True)]

    def _stamp(self, file: Path) -> list[int] | None:
        """Return size, time of change and time of status change; the last cannot be set back by a copying tool."""
        if not Path(os.path.realpath(file)).is_relative_to(self._real) or not file.is_file():
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
        if path.name.startswith((".", "checkpoint-", "damaged-checkpoint-")) or ".replaced-" in path.name:
            continue
        if path.is_dir():
            yield from _part_files(path)
        elif path.suffix in _PART_SUFFIXES and path.name not in RECORDS:
            yield path


def _hub_revision(name: str, revision: str) -> str:
    """Return the commit of a branch or tag as this machine's hub cache holds it; "" where it holds none.

    Of a model that was never fetched the configuration is, so that its commit is known before a stage starts, and not
    only to the stage's next start, which would take it for another model.
    """
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_CACHE

    if _COMMIT.fullmatch(revision):
        return revision
    ref = Path(HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "refs", revision)
    with contextlib.suppress(OSError, ValueError):
        if "/" in name and not ref.is_file() and hub_answers():
            huggingface_hub.hf_hub_download(name, "config.json", revision=revision)
    try:
        return ref.read_text().strip()
    except (OSError, ValueError):
        return ""
