"""Live talk: a person's talk with a model, as a terminal or a page has it: clips, words, replies, and the memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, Turn
from epo.data.examination import examine_clip
from epo.data.face_crop import shows_face
from epo.data.media import MediaError, MediaLimits, decode_clip
from epo.evaluation.conversation import Conversations
from epo.evaluation.emotion_course import Moment, Shares, emotion_course, shares_of_clip
from epo.evaluation.reply_stream import ReplyStream
from epo.model.family import DialogueProcessor, bare
from epo.prompts.part import Asked


@dataclass(frozen=True)
class Perceived:
    """What a recording is to a model.

    Attributes:
        clip: the halves that can be read.
        seconds: how much of it is read.
        shares: what the extractor makes of it; None for a model without one.
        notes: what a person should know of the recording, in words.
    """

    clip: Clip
    seconds: float
    shares: Shares | None
    notes: tuple[str, ...] = ()

    @property
    def sense(self) -> str:
        """How it is perceived: heard, seen, or both."""
        return "heard" if self.clip.video is None else "seen" if self.clip.audio is None else "heard and seen"


@dataclass(frozen=True)
class MemorySize:
    """How much is remembered of a talk, and in what.

    Attributes:
        turns: that were said, the replies among them.
        text_tokens: that the history would take in a prompt as text.
        vectors: memory tokens that it takes instead; None where the model is told its history as text.
        num_bytes: of those vectors; None likewise.
    """

    turns: int
    text_tokens: int
    vectors: int | None = None
    num_bytes: int | None = None


class LiveTalk:
    """One person's talk with a model; a mistake raises, and costs nothing of the talk."""

    def __init__(
        self,
        model: Any,
        processor: DialogueProcessor,
        show: Callable[[str], None],
        cache: ClipCache | None = None,
        **settings: Any,
    ) -> None:
        """Begin.

        Args:
            model: of any model family, or a PEFT model around one.
            processor: the model's.
            show: takes replies piece by piece, as they are written.
            cache: of decoded clips; None decodes anew.
            settings: of `generate_replies`: `max_new_tokens`, `temperature`.
        """
        self._model, self._processor, self._settings = model, processor, settings
        self._cache = ClipCache(None) if cache is None else cache
        self._stream = ReplyStream(processor.chat, show)
        self.reset()

    def reset(self) -> None:
        """Begin anew; nothing is remembered."""
        self._talks = Conversations(
            self._model, self._processor, 1, self._cache, streamer=self._stream, **self._settings
        )

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said, oldest first."""
        return tuple(self._talks.turns[0])

    def perceive_file(self, path: Path) -> Perceived:
        """Hear and see a recording, or one half of it where the other is missing or cannot be read.

        Raises:
            MediaError: nothing in it can be read.
        """
        return self._perceive(Clip(audio=path, video=path), needs_all=False)

    def perceive(self, clip: Clip) -> Perceived:
        """Hear and see a clip of a corpus.

        Raises:
            MediaError: a half of it cannot be read.
        """
        return self._perceive(clip, needs_all=True)

    def course(self, perceived: Perceived) -> Iterator[Moment]:
        """Yield what the extractor makes of longer and longer beginnings of a clip; nothing without an extractor."""
        extractor = getattr(bare(self._model), "extractor", None)
        if extractor is not None:
            reader = self._processor.clips
            yield from emotion_course(extractor, perceived.clip, reader, self._cache, perceived.seconds)

    def say(self, words: str, clip: Clip | None = None) -> Turn:
        """Say something to the model and return its reply, which `show` has had by then.

        Raises:
            DataError: the words do not fit a prompt or hold a special token, or the clip cannot be read.
        """
        self._stream.restart()
        return self._talks.answer({0: Turn("user", words, clip=clip)})[0]

    def memory(self) -> MemorySize:
        """Return how much is remembered."""
        turns, vectors = self._talks.turns[0], self._talks.memories(0)
        text_tokens = count_history_tokens(self._processor, turns)
        if vectors is None:
            return MemorySize(len(turns), text_tokens)
        return MemorySize(len(turns), text_tokens, len(vectors), vectors.numel() * vectors.element_size())

    def _perceive(self, clip: Clip, needs_all: bool) -> Perceived:
        reader: Any = self._processor.clips
        limits = MediaLimits(
            max_audio_seconds=reader.max_audio_seconds, video_fps=reader.video_fps, max_frames=reader.max_frames
        )
        report = examine_clip(clip, limits)
        readable = replace(
            clip,
            audio=clip.audio if report.audio_fault is None else None,
            video=clip.video if report.video_fault is None else None,
        )
        if report.faults and (needs_all or (readable.audio is None and readable.video is None)):
            raise MediaError(report.faults[0])
        notes = [*report.notes, *(fault for fault in report.faults if "has no" not in fault)]
        if _lacks_face(readable, getattr(reader, "face_detector", ""), limits):
            notes.append("no face was found, so the whole picture is read")
        extractor = getattr(bare(self._model), "extractor", None)
        shares = None if extractor is None else shares_of_clip(extractor, readable, reader, self._cache)
        seconds = max(report.audio_seconds or 0.0, report.video_seconds or 0.0)
        return Perceived(readable, seconds, shares, tuple(notes))


def count_history_tokens(processor: Any, turns: Sequence[Turn]) -> int:
    """Return how many tokens past turns would take in a prompt as text, however many fit one."""
    layout, chat = processor.layout.as_text(), processor.chat
    lengths = [len(layout.encode(chat, Asked(past, Turn("user", "")), None)[1]) for past in (turns, ())]
    return lengths[0] - lengths[1]


def _lacks_face(clip: Clip, detector: str, limits: MediaLimits) -> bool:
    """Tell whether a model that is to see faces finds none; False where it takes pictures as they are."""
    if not detector or clip.video is None:
        return False
    frames = decode_clip(replace(clip, audio=None), limits).frames
    return frames is not None and not shows_face(frames, detector)


__all__ = ["LiveTalk", "MemorySize", "Perceived", "count_history_tokens"]
