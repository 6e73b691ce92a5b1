"""Table sources: which files of a folder are read as tables, or as recordings, and the split that each is of."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.table_files import PICTURES, SOUND, TABLES, kind_of, without_ending
from epo.data.dialogue import DataError, Split

SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train", "trn": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "development": "validation",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
"""What corpora call the splits."""
_FILE_WORD = re.compile(r"[a-z]+")


def find_files(
    root: Path, files: Mapping[str, Split | None], needs_all: bool, report: ImportReport
) -> Iterator[tuple[list[Path], Split | None]]:
    """Yield the files that are named, each once, with their split: a table alone, recordings together.

    Raises:
        DataError: a name fits no file, or no file was named and the folder holds no table.
    """
    if not files:
        tables = sorted(path for path in root.iterdir() if path.is_file() and kind_of(path) in TABLES)
        if not tables:
            raise DataError(f"{root}: no table ({', '.join(TABLES)}, or .gz of one); name it with --files")
        for path in tables:
            split = split_of_name(path.name)
            if split is not None:
                report.note(f"split {split} taken from the file's name", path.name)
            yield [path], split
        return
    seen: set[Path] = set()
    for pattern, split in files.items():
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise DataError(f"files: {pattern!r} leaves {root}; name files below it")
        paths = sorted(path for path in root.glob(pattern) if path.is_file() and path not in seen)
        if not paths and not needs_all:
            report.note("split file missing", str(root / pattern))
        elif not paths:
            raise DataError(f"{root}: no file {pattern!r}; docs/corpora.md shows layouts, --files names other files")
        seen.update(paths)
        recordings = [path for path in paths if kind_of(path) in SOUND + PICTURES]
        yield from (([path], split) for path in paths if path not in set(recordings))
        if recordings:
            yield recordings, split
    if not seen:
        raise DataError(f"{root}: no file named {' or '.join(files)}; see docs/corpora.md for the layout")


def split_of_name(name: str) -> Split | None:
    """Return the split whose word stands in a file's name, None where none or several do."""
    words = _FILE_WORD.findall(without_ending(name).lower())
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return splits.pop() if len(splits) == 1 else None


__all__ = ["SPLIT_WORDS", "find_files", "split_of_name"]
