"""MediaFolder: brings the clips of a corpus below the output folder, where the paths of the JSONL may point."""

import filecmp
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from epo.data.corpora.import_report import ImportReport
from epo.data.dialogue import Clip


class MediaFolder:
    """`<out>/media`, filled with hard links to the corpus's files, or with copies where links are impossible.

    What is already there is kept, so an interrupted import goes on where it stopped.
    """

    def __init__(self, out: Path, corpus: Path, report: ImportReport, below: str = "") -> None:
        """Take files of one corpus.

        Args:
            out: the folder of the dialogues that are written.
            corpus: the corpus folder, which no file may lie outside of.
            report: hears of files that cannot be taken.
            below: folder below `media` for them; where files of several corpora come together, each has its own.
        """
        self.root = out / "media" / below
        self._row_seconds: dict[Path, float] = {}
        self._assumed: set[Path] = set()
        self._corpus = Path(os.path.realpath(corpus))
        self._report = report

    def place(self, source: Path, where: str) -> Path | None:
        """Bring one file of the corpus into the folder, under the path it has below the corpus.

        Returns:
            The new path; None where the file is missing (a note), empty or outside the corpus (faults).

        Raises:
            DataError: a fault, under `on_error="stop"`.
        """
        real = self._inside(source, where)
        if real is None:
            return None
        target = self.root / real.relative_to(self._corpus)
        if not _is_same(real, target):
            self.write(target, lambda partial: _link_or_copy(real, partial))
        return target

    def place_recording(self, source: Path, where: str, row_seconds: float | None = None) -> Clip | None:
        """Bring one file that should hold both sound and pictures of one utterance into the folder.

        Args:
            source: the file.
            where: for messages.
            row_seconds: how long the utterance is by its row; the file's length is compared with it.

        Returns:
            The clip, or None as `place` does. A half whose stream is missing is only noted, as nothing promised it.
        """
        path = self.place(source, where)
        if path is None:
            return None
        self._assumed.add(path)
        if row_seconds is not None and row_seconds > 0:
            self._row_seconds[path] = row_seconds
        return Clip(audio=path, video=path)

    def is_assumed(self, path: Path) -> bool:
        """Tell whether it was only assumed that a file has both streams."""
        return path in self._assumed

    def row_seconds(self, path: Path) -> float | None:
        """Return how long a file should be by its row, where that is known."""
        return self._row_seconds.get(path)

    def write(self, target: Path, fill: Callable[[Path], None]) -> None:
        """Let `fill` write a temporary file beside `target`, then move it there: no half file under the name."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".partial-{target.name}")
        partial.unlink(missing_ok=True)
        fill(partial)
        partial.replace(target)

    def safe_path(self, name: str) -> Path | None:
        """Return where a name taken from a corpus file or an archive may be written, or None if nowhere.

        Absolute names, names with `..`, with a drive, a NUL or a backslash are refused.
        """
        path = PurePosixPath(name)
        if not name or "\0" in name or "\\" in name or ":" in name or path.is_absolute() or ".." in path.parts:
            return None
        return self.root / path

    def _inside(self, source: Path, where: str) -> Path | None:
        try:
            real = Path(os.path.realpath(source))
            size = real.stat().st_size if real.is_file() else None
        except (OSError, ValueError):  # a name too long, or with a NUL
            size = None
        if size is None:
            self._report.note("clip missing", f"{where}: {source.name}")
            return None
        if not real.is_relative_to(self._corpus):
            self._report.fault("clip leaves the corpus folder", f"{where}: {source}", "put the file itself there")
            return None
        if size == 0:
            self._report.fault("clip is empty", f"{where}: {source}", "download the file again")
            return None
        return real


def _is_same(source: Path, target: Path) -> bool:
    if not target.is_file():
        return False
    return os.path.samefile(source, target) or filecmp.cmp(source, target, shallow=False)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


__all__ = ["MediaFolder"]
