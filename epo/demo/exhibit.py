"""Exhibit: a model that visitors talk to, and what is told of each thing they do."""

import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from epo.data.dialogue import Turn
from epo.demo.events import Tell, stream_events
from epo.demo.samples import Previews
from epo.demo.visits import Visit, VisitError, Visits
from epo.emotions import EMOTIONS
from epo.evaluation.live_talk import Perceived

_UPLOADS_OF_TALK = 8
"""Recordings of the largest size that a talk may hold (our choice)."""


@dataclass
class Exhibit:
    """A model that visitors talk to.

    Attributes:
        name: of the model, as the page calls it.
        visits: the talks.
        samples: user turns with clips to choose from.
        explain: puts an error into one line; None where it is nobody's mistake.
        max_seconds: how much of a recording the model reads.
        max_upload_bytes: largest recording.
    """

    name: str
    visits: Visits
    samples: Sequence[Turn]
    explain: Callable[[BaseException], str | None]
    max_seconds: float
    max_upload_bytes: int

    def __post_init__(self) -> None:
        """Stand ready; the model does one thing at a time, for whichever visit."""
        self._model = threading.Lock()
        self._is_closed = threading.Event()
        self._previews = Previews(self.samples)

    def close(self, timeout_s: float = 30.0) -> None:
        """End: replies that are being written break off, and nothing more is begun.

        Args:
            timeout_s: longest wait for what the model does just now.
        """
        self._is_closed.set()
        if self._model.acquire(timeout=timeout_s):
            self._model.release()

    @property
    def max_talk_bytes(self) -> int:
        """Most bytes of all recordings of a talk."""
        return _UPLOADS_OF_TALK * self.max_upload_bytes

    def about(self) -> dict[str, Any]:
        """Return what the page says of the model."""
        return {
            "model": self.name,
            "emotions": EMOTIONS,
            "max_seconds": self.max_seconds,
            "max_upload_bytes": self.max_upload_bytes,
            "samples": [{"words": turn.text, "emotion": turn.emotion} for turn in self.samples],
        }

    def state(self, visit: Visit) -> dict[str, Any]:
        """Return what a page that was loaded again shows of a talk."""
        keys = ("speaker", "text", "emotion")
        turns = [
            {key: getattr(turn, key) for key in keys} | {"clip": turn.clip is not None} for turn in visit.talk.turns
        ]
        return {"turns": turns, "memory": [asdict(size) for size in visit.sizes]}

    def preview(self, number: int) -> bytes:
        """Return what a browser plays of a sample.

        Raises:
            VisitError: there is no such sample.
            MediaError: it cannot be played.
        """
        return self._previews.make(self._require_sample(number))

    def listen(self, visit: Visit, path: Path) -> Iterator[bytes]:
        """Return the events of an upload: what the model makes of it, then of longer and longer beginnings of it.

        Raises:
            VisitError: the visit is in use.
        """

        def work(tell: Tell) -> None:
            try:
                self._tell_clip(visit, lambda: visit.talk.perceive_file(path), tell, path)
            except ValueError as error:
                path.unlink(missing_ok=True)
                raise VisitError(self.line(error).replace(str(path), "the recording")) from error

        return self._stream(visit, work)

    def listen_to_sample(self, visit: Visit, number: Any) -> Iterator[bytes]:
        """Return the same events of a sample.

        Raises:
            VisitError: the visit is in use, or there is no such sample.
        """
        clip = self.samples[self._require_sample(number)].clip
        assert clip is not None
        return self._stream(visit, lambda tell: self._tell_clip(visit, lambda: visit.talk.perceive(clip), tell))

    def say(self, visit: Visit, words: str) -> Iterator[bytes]:
        """Return the events of a reply: its pieces, the whole, and the memory after it. The clip is used up by it.

        Raises:
            VisitError: the visit is in use, or nothing is said.
        """
        if not words and visit.perceived is None:
            raise VisitError("nothing is said; write some words, or record something")

        def work(tell: Tell) -> None:
            visit.show = lambda piece: tell("piece", piece)
            reply = visit.talk.say(words, None if visit.perceived is None else visit.perceived.clip)
            visit.perceived = None
            visit.sizes.append(visit.talk.memory())
            tell("reply", {"text": reply.text, "emotion": reply.emotion})
            tell("memory", [asdict(size) for size in visit.sizes])

        return self._stream(visit, work)

    def drop(self, visit: Visit) -> None:
        """Forget the clip that was to go with the next words.

        Raises:
            VisitError: the visit is in use.
        """
        with visit.alone():
            visit.perceived = None

    def restart(self, visit: Visit) -> None:
        """Begin a talk anew.

        Raises:
            VisitError: the visit is in use.
        """
        with visit.alone():
            visit.restart()

    def line(self, error: BaseException) -> str:
        """Return an error in one line; what is nobody's mistake is told in full in the terminal."""
        line = str(error) if isinstance(error, VisitError) else self.explain(error)
        if line is not None:
            return line
        traceback.print_exception(error)
        return f"something went wrong ({type(error).__name__}); the terminal says more"

    def _tell_clip(self, visit: Visit, perceive: Callable[[], Perceived], tell: Tell, path: Path | None = None) -> None:
        visit.perceived = None
        perceived = perceive()
        visit.perceived = perceived
        notes = [note if path is None else note.replace(str(path), "the recording") for note in perceived.notes]
        tell(
            "perceived",
            {"sense": perceived.sense, "seconds": perceived.seconds, "shares": perceived.shares, "notes": notes},
        )
        for moment in visit.talk.course(perceived):
            tell("moment", asdict(moment))

    def _stream(self, visit: Visit, work: Callable[[Tell], None]) -> Iterator[bytes]:
        """Return the events of work that has its visit and the model to itself."""
        hold = ExitStack()
        hold.enter_context(visit.alone())

        def work_alone(tell: Tell) -> None:
            def tell_while_open(kind: str, said: Any) -> None:
                self._require_open()
                tell(kind, said)

            with hold, self._model:
                self._require_open()
                work(tell_while_open)

        return stream_events(work_alone, self.line)

    def _require_open(self) -> None:
        if self._is_closed.is_set():
            raise VisitError("the demo was ended", 503)

    def _require_sample(self, number: Any) -> int:
        if type(number) is not int or not 0 <= number < len(self.samples):
            raise VisitError(f"no sample {number!r:.40}; there are {len(self.samples)}", 404)
        return number


__all__ = ["Exhibit"]
