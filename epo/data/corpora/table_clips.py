"""Table clips: the recordings that the rows of a table name, by columns or templates, placed below the output."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.table_cells import Cell, as_text, seconds_of
from epo.data.corpora.table_files import SOUND, kind_of
from epo.data.dialogue import Clip


class ClipColumns:
    """Makes the clip of a turn from paths below the corpus and times in seconds."""

    def __init__(
        self, audio: str | None, video: str | None, root: Path, media: MediaFolder, report: ImportReport
    ) -> None:
        self._templates = {name: Cell(text) for name, text in (("audio", audio), ("video", video)) if text is not None}
        self._root, self._media, self._report = root, media, report
        for kind, template in list(self._templates.items()):
            folder = root / Path(template.source.split("{")[0] + "x").parent
            if not folder.is_dir():
                report.note(f"no folder of recordings: turns have no {kind}", str(folder))
                del self._templates[kind]

    @property
    def cells(self) -> list[Cell]:
        """Return the templates, which name columns too."""
        return list(self._templates.values())

    def paths(self, kind: str, row: Mapping[str, Any], found: Mapping[str, str]) -> list[str]:
        """Return the path that the template gives for a row, nothing where there is no template."""
        template = self._templates.get(kind)
        if template is None:
            return []
        if not template.is_template:
            return [template.source]
        return [as_text(value) for value in template.values(row, found)]

    def place(self, audio: str, video: str, start: str, end: str, where: str) -> Clip | None:
        """Return the clip of a turn; None where it names no file, or none that is there.

        Raises:
            DataError: a path leaves the corpus or the times are none, and the report says to stop.
        """
        if audio and video == audio and kind_of(Path(audio)) in SOUND:
            video = ""  # one template for both, of files that hold only sound
        if not audio and not video:
            return None
        start_s, end_s = self._seconds(start, where), self._seconds(end, where)
        if end_s is not None and end_s <= (start_s or 0.0):
            self._report.fault("end is not after start", f"{where}: {start!r} to {end!r}", "correct the times")
            return None
        placed: dict[str, Path | None] = {}
        for name in (audio, video):
            if name and name not in placed:
                placed[name] = self._media.place(self._root / name, where)
        clip = Clip(placed.get(audio), placed.get(video), 0.0 if start_s is None else start_s, end_s)
        return None if clip.audio is None and clip.video is None else clip

    def _seconds(self, text: str, where: str) -> float | None:
        seconds = seconds_of(text) if text else None
        if text and seconds is None:
            self._report.fault("time cannot be read", f"{where}: {text!r}", "write seconds, or hours:minutes:seconds")
        return seconds


__all__ = ["ClipColumns"]
