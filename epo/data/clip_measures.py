"""ClipMeasures: how the clips of a split sound and look, added up from the examination of each."""

from collections import Counter
from typing import Any

from epo.data.describing import Spread
from epo.data.examination import ClipReport

TOO_SHORT_S = 0.3
"""A clip of less holds hardly a syllable (our choice)."""
_MAX_EXAMPLES = 20


class ClipMeasures:
    """Measures of any number of clips; memory does not grow with them.

    Attributes:
        loudness: RMS in whole dBFS, of those with sound.
        tenths: length in tenths of a second.
        counts: how many are "examined", "faulty", "silent", "frozen", "too short", "too long".
        examples: the first of each kind but the first, with where they are.
    """

    def __init__(self, max_seconds: float) -> None:
        """Begin with nothing; `max_seconds` is what training reads of a clip at most."""
        self.loudness = Spread()
        self.tenths = Spread()
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self._max_seconds = max_seconds

    def add(self, where: str, report: ClipReport) -> None:
        """Count a clip; `where` says which one."""
        self.counts["examined"] += 1
        if report.rms_dbfs is not None:
            self.loudness.add(round(report.rms_dbfs))
        seconds = max((s for s in (report.audio_seconds, report.video_seconds) if s is not None), default=None)
        if seconds is not None:
            self.tenths.add(round(10 * seconds))
        found = {
            "faulty": bool(report.faults),
            "silent": report.is_silent,
            "frozen": report.is_frozen,
            "too short": seconds is not None and seconds < TOO_SHORT_S,
            "too long": seconds is not None and seconds >= self._max_seconds,
        }
        for kind in (kind for kind, is_so in found.items() if is_so):
            self.counts[kind] += 1
            examples = self.examples.setdefault(kind, [])
            if len(examples) < _MAX_EXAMPLES:
                examples.append(f"{where}: {report.faults[0]}" if kind == "faulty" else where)

    def as_json(self) -> dict[str, Any]:
        """Return the measures for other programs; lengths in seconds."""
        lengths = self.tenths.as_json()
        seconds = {key: None if lengths[key] is None else lengths[key] / 10 for key in lengths if key != "count"}
        return {
            **dict(self.counts),
            "loudness_dbfs": self.loudness.as_json() | {"histogram": dict(sorted(self.loudness.counts.items()))},
            "seconds": seconds,
            "hours": round(sum(tenth * count for tenth, count in self.tenths.counts.items()) / 36000, 3),
            "examples": self.examples,
        }


__all__ = ["TOO_SHORT_S", "ClipMeasures"]
