"""Visits: the talks of browser sessions, one each, of which only the latest few are kept, with what was uploaded."""

import secrets
import shutil
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from epo.evaluation.live_talk import LiveTalk, MemorySize, Perceived


class VisitError(ValueError):
    """What a visitor cannot have, in one line, with the status of HTTP that says so."""

    def __init__(self, line: str, status: int = 400) -> None:
        super().__init__(line)
        self.status = status


class Visit:
    """One browser session's talk.

    Attributes:
        talk: with the model.
        folder: of its uploads.
        perceived: the clip that goes with the next words.
        sizes: of the memory, after each reply.
        show: takes the pieces of the reply that is being written.
    """

    def __init__(self, begin: Callable[[Callable[[str], None]], LiveTalk], folder: Path) -> None:
        """Begin a talk by `begin`, which is given what shows its replies."""
        self.talk = begin(lambda piece: self.show(piece))
        self.folder = folder
        self.show: Callable[[str], None] = lambda piece: None
        self.perceived: Perceived | None = None
        self.sizes: list[MemorySize] = []
        self._in_use = threading.Lock()
        self.restart()

    def restart(self) -> None:
        """Begin anew, and remove what was uploaded."""
        self.talk.reset()
        self.perceived, self.sizes = None, []
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    @property
    def is_in_use(self) -> bool:
        """Whether something is done for it just now."""
        return self._in_use.locked()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the visit to oneself.

        Raises:
            VisitError: something is done for it already.
        """
        if not self._in_use.acquire(blocking=False):
            raise VisitError("one thing at a time: wait for the answer", 409)
        try:
            yield
        finally:
            self._in_use.release()

    async def keep_upload(self, pieces: AsyncIterator[bytes], limit: int, limit_of_talk: int) -> Path:
        """Write an upload into a file whose name nobody else chose.

        Args:
            pieces: of it.
            limit: most bytes.
            limit_of_talk: most bytes of all uploads of a talk, which are kept while it goes on.

        Raises:
            VisitError: it is empty or too large; nothing of it is kept.
        """
        kept = sum(path.stat().st_size for path in self.folder.iterdir())
        path, size = self.folder / secrets.token_hex(8), 0
        try:
            with path.open("wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if size > limit:
                        raise VisitError(
                            f"the recording is larger than {limit / 2**20:g} MiB; take a shorter one, or start the "
                            "demo with a larger --max_upload_mib",
                            413,
                        )
                    if kept + size > limit_of_talk:
                        raise VisitError("this talk holds too many recordings by now; begin anew", 413)
                    file.write(piece)
            if size == 0:
                raise VisitError("the recording is empty; record or choose another one")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


class Visits:
    """The visits there are; where one more begins than may, the one that was quiet for longest ends."""

    def __init__(self, begin: Callable[[Callable[[str], None]], LiveTalk], folder: Path, most: int) -> None:
        """Have none yet.

        Args:
            begin: a talk, given what shows its replies.
            folder: for uploads.
            most: visits at a time.
        """
        self._begin, self._folder, self._most = begin, folder, most
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._visits)

    def begin(self) -> str:
        """Begin a visit and return the secret that it is asked for by.

        Raises:
            VisitError: as many as may be are being answered just now.
        """
        with self._lock:
            while len(self._visits) >= self._most:
                idle = next((key for key, visit in self._visits.items() if not visit.is_in_use), None)
                if idle is None:
                    raise VisitError("too many talk at once; try again when one of them was answered", 503)
                shutil.rmtree(self._visits.pop(idle).folder, ignore_errors=True)
            key = secrets.token_urlsafe(24)
            self._visits[key] = Visit(self._begin, self._folder / secrets.token_hex(8))
            return key

    def get(self, key: str) -> Visit:
        """Return a visit by its secret.

        Raises:
            VisitError: there is none; it ended, or this server did not begin it.
        """
        with self._lock:
            if key not in self._visits:
                raise VisitError(
                    "this talk is over, because the demo was started again or others began; a new one begins", 410
                )
            self._visits.move_to_end(key)
            return self._visits[key]


__all__ = ["Visit", "VisitError", "Visits"]
