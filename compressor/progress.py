"""How far a long task has come: a bar where a person watches, a plain line now and then where output is kept."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Progress:
    """Counts a task up. On a terminal one bar shows it, elsewhere a line every ten seconds and one at the end.

    In a job of several processes only rank 0 shows anything.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str,
        *,
        done: int = 0,
        is_shown: bool = True,
        stream: TextIO | None = None,
        pause_s: float = 10.0,
        is_brief_told: bool = True,
    ) -> None:
        """Start the clock.

        Args:
            label: what the task is called.
            total: how many units it has, where that is known.
            unit: what is counted, in the plural, such as "steps".
            done: units that an earlier run has done.
            is_shown: False shows nothing.
            stream: where to; none is standard error.
            pause_s: shortest time between two lines.
            is_brief_told: False writes no line of what is done before one is due.
        """
        self.done = done
        self._label, self._total, self._unit, self._pause_s = label, total, unit, pause_s
        self._stream = sys.stderr if stream is None else stream
        self._is_brief_told = is_brief_told
        self._is_shown = is_shown and os.environ.get("RANK", "0") == "0"
        self._first, self._note = done, ""
        self._start_s = self._line_s = time.monotonic()
        self._bar: tqdm | None = None
        if self._is_shown and self._stream.isatty():
            self._bar = tqdm(
                total=total, initial=done, desc=label, unit=f" {unit}", file=self._stream, dynamic_ncols=True
            )

    def advance(self, count: int = 1, may_write: bool = True) -> None:
        """Count units that are done; write a line if it is time for one and this is a good moment."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif may_write:
            self.write_line(only_if_due=True)

    def note(self, text: str) -> None:
        """Show a text beside the count from now on."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def write_line(self, only_if_due: bool = False) -> None:
        """Write a line; beside a bar it would be too much, and nothing is written."""
        now_s = time.monotonic()
        is_early = only_if_due and now_s - self._line_s < self._pause_s
        if self._is_shown and self._bar is None and not is_early:
            self._line_s = now_s
            print(self._line(now_s - self._start_s), file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands, or write the last line."""
        if self._bar is not None:
            self._bar.close()
        elif self.done > 0:
            is_brief = self._line_s == self._start_s
            self.write_line(only_if_due=is_brief and not self._is_brief_told)

    def _line(self, seconds: float) -> str:
        count = f"{self.done:,}" if self._total is None else f"{self.done:,}/{self._total:,}"
        rate = (self.done - self._first) / max(seconds, 1e-9)
        parts = [f"{self._label}: {count} {self._unit}"]
        if self._note != "":
            parts.append(self._note)
        if rate > 0:
            parts.append(f"{rate:,.1f} {self._unit}/s" if rate >= 1 else f"{1 / rate:,.1f} s each")
        if self._total is not None and self.done < self._total and rate > 0:
            parts.append(f"{_duration((self._total - self.done) / rate)} left")
        else:
            parts.append(f"{_duration(seconds)} in all")
        return ", ".join(parts)


def show_progress(
    items: Iterable[Item], label: str, unit: str, *, total: int | None = None, is_shown: bool = True
) -> Iterator[Item]:
    """Yield the items and show how many have been dealt with; their number is asked of them where none is given."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    progress = Progress(label, total, unit, is_shown=is_shown)
    try:
        for item in items:
            yield item
            progress.advance()
    finally:
        progress.close()


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
