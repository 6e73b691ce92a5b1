"""Many questions to an endpoint at a time: bounded in number, patient with nonsense, stopped by the first failure."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from epo.asking.endpoint import ChatClient, EndpointError, UnusableAnswer
from epo.asking.questions import Answer, Question, UnusablePictures

_ASKS = 3  # how often a question is asked that is answered with nonsense
_NONSENSE_IN_A_ROW = 20  # then the endpoint is not what it is taken for


@dataclass(frozen=True)
class Volume:
    """How much may be asked: questions at a time, and in all, retries of nonsense included.

    `limit_key` is what the user set the limit by, for errors.
    """

    concurrency: int = 8
    max_requests: int = 10_000
    limit_key: str = "llm_max_requests"


class EndpointChat:
    """Asks an endpoint from several threads."""

    def __init__(self, client: ChatClient, volume: Volume) -> None:
        """Prepare, without sending anything.

        Args:
            client: asks one question.
            volume: how much may be asked, over all calls of `answers`.
        """
        self.identity: dict[str, Any] = client.identity
        self._client = client
        self._volume = volume
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sent = 0
        self._nonsense_in_a_row = 0

    def answers(self, questions: Sequence[Question]) -> Iterator[Answer]:
        """Yield the place of each question and its answer as it comes.

        It is None where it was unusable three times, or the question's pictures are unusable.

        Raises:
            EndpointError: the endpoint fails, or more would have to be asked than `max_requests`.
        """
        if self._sent + len(questions) > self._volume.max_requests:
            raise EndpointError(
                f"{self._sent + len(questions)} questions would have to be asked, {self._volume.limit_key} is "
                f"{self._volume.max_requests}; nothing of them was sent: raise it, or ask for less"
            )
        failure: BaseException | None = None
        with ThreadPoolExecutor(self._volume.concurrency) as threads:
            try:
                asked = [threads.submit(self._ask, place, question) for place, question in enumerate(questions)]
                for future in as_completed(asked):
                    error = None if future.cancelled() else future.exception()
                    if error is None and not future.cancelled():
                        yield future.result()  # also those that were answered while another one failed
                    elif error is not None and failure is None:
                        failure = error
                        for waiting in asked:
                            waiting.cancel()
            except BaseException:
                self._stopped.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        if isinstance(failure, EndpointError):
            raise EndpointError(f"{failure}; answers so far are kept, run the same command to go on") from None
        if failure is not None:
            raise failure

    def _ask(self, place: int, question: Question) -> Answer:
        if self._stopped.is_set():
            return place, None
        try:
            pictures = () if question.pictures is None else question.pictures.read()
        except UnusablePictures:
            return place, None
        for attempt in range(_ASKS):
            if self._stopped.is_set():
                break
            self._count_request()
            try:
                text = self._client.ask(question.messages, _ASKS * question.seed + attempt, pictures)
            except EndpointError:
                self._stopped.set()
                raise
            except UnusableAnswer as problem:
                self._count_nonsense(problem)
            else:
                self._nonsense_in_a_row = 0
                return place, text
        return place, None

    def _count_request(self) -> None:
        with self._lock:
            if self._sent >= self._volume.max_requests:
                raise EndpointError(f"{self._volume.limit_key} {self._volume.max_requests} reached; raise it")
            self._sent += 1

    def _count_nonsense(self, problem: UnusableAnswer) -> None:
        with self._lock:
            self._nonsense_in_a_row += 1
            if self._nonsense_in_a_row >= _NONSENSE_IN_A_ROW:
                raise EndpointError(
                    f"{self._client.name}: {_NONSENSE_IN_A_ROW} answers in a row were unusable, the last "
                    f"held {problem}; is it an OpenAI-compatible chat endpoint?"
                ) from None


__all__ = ["EndpointChat", "Volume"]
