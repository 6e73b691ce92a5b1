"""An open media file: which stream is read, where it begins, and its packets from a moment on, in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from epo.data.decoding.completeness import cut_off_evidence
from epo.data.decoding.opening import (
    MAX_CODED_PIXELS,
    Kind,
    MediaError,
    check_decodable,
    common_beginning,
    open_container,
    open_file,
    usable_streams,
)

# Below this, reading through is cheaper than a jump, and never wrong.
_SEEK_FROM_S = 4.0
# Their jumps follow an index that is checked on arrival; in others FFmpeg searches by time stamps, so that files up to
# this size are read through instead.
_INDEXED = ("mov", "matroska", "asf", "flac", "nut")
_INDEXED_PCM = ("wav", "w64", "aiff", "caf", "au")
_READ_THROUGH_BYTES = 2**26
# Bare streams of sound store no times: FFmpeg counts them, and goes wrong where the rate changes on the way.
_BARE_SOUND = ("aac", "ac3", "amr", "amrnb", "amrwb", "dts", "eac3", "mlp", "mp3", "truehd")
# A jump that lands behind the moment is tried again from further back.
_SEEK_BACK_S = (0.0, 2.0, 15.0, 120.0)
MAX_HELD_BYTES = 2**26
"""Packets of one span that are kept in memory, at most."""
# Time stamps that fall back by more than this are a clock that started anew, as in files joined end to end.
_RESTART_S = 1.0
_MOST_BROKEN_READS = 100  # places in a row at which a container may be unreadable before the rest is given up
# A span that ends this much early is worth an error; sound and picture stray by a frame or two.
_MISSING_S, _MISSING_SHARE = 0.5, 0.1


@dataclass
class Source:
    """An open file and the stream to decode; times are in seconds from the file's common beginning.

    Attributes:
        begin_s: the earliest time stamp of the file's sound and pictures.
        tick_s: unit of the stream's time stamps.
        reached_s: where the last packet read so far ends.
        is_read: whether packets were read to the end of the file.
        is_timed: whether packets bear presentation times; if not, frames are counted.
        ends_broken: whether the packet decoded last could not be.
    """

    path: Path
    kind: Kind
    container: Any
    stream: Any = None
    begin_s: float = 0.0
    tick_s: float = 0.0
    reached_s: float = 0.0
    is_read: bool = False
    is_timed: bool = True
    ends_broken: bool = False
    _first_s: float = 0.0
    _clock: "_Clock" = field(default_factory=lambda: _Clock())

    @classmethod
    @contextmanager
    def opened(cls, path: Path, kind: Kind) -> Iterator["Source"]:
        """Open the best stream of a kind.

        Raises:
            MediaError: the file cannot be used, or has no such stream.
        """
        with open_container(path) as container:
            source = cls(path, kind, container)
            source._choose()
            try:
                yield source
            finally:
                source.container.close()

    def packets(self, from_s: float) -> Iterator[Any]:
        """Yield packets in decoding order, from which all frames at and after a moment can be decoded.

        They begin with the last keyframe at or before `from_s`, or with the first packet of the file. Time stamps
        that start anew are moved to where the stream was. Ends with None, at which the decoder gives what it holds
        back.
        """
        self.is_timed = not self._has_invented_times()
        if from_s > _SEEK_FROM_S and self.is_timed and self._is_worth_a_jump():
            for back_s in _SEEK_BACK_S:
                if from_s - back_s < _SEEK_FROM_S:
                    break
                held, rest = self._jump(from_s - back_s, from_s)
                if held:
                    yield from held
                    yield from rest
                    return
            self.reopen()
        yield from self._read_through(from_s)

    def reopen(self) -> None:
        """Go back to the beginning, with a decoder that knows of nothing yet."""
        self.container.close()
        self.container = open_file(self.path)
        self._choose()

    def read_on(self) -> None:
        """Read the rest of the stream without decoding it, so that `reached_s` is where it really ends."""
        if not self.is_read:
            for _ in self._demux():
                pass

    def time_of(self, packet: Any) -> float | None:
        """Return when a packet's content is presented; its decoding time where that is all there is."""
        stamp = packet.dts if packet.pts is None else packet.pts
        return None if stamp is None else stamp * self.tick_s - self.begin_s

    def decode(self, packets: Iterator[Any]) -> Iterator[tuple[float | None, Any]]:
        """Yield (time, frame); what is broken is skipped. The time is None where the stream does not tell.

        Raises:
            MediaError: there was something to decode and none of it could be.
        """
        found, broken, first_dts = False, None, None
        is_counted = self.container.format.name in _BARE_SOUND
        for packet in packets:
            if packet is not None and packet.size == 0:
                continue  # an empty chunk of an AVI: the picture before stays; to the decoder it would mean the end
            try:
                frames = self.stream.codec_context.decode(packet)
            except (av.FFmpegError, EOFError) as error:
                broken, self.ends_broken = error, True
                continue
            if packet is not None:
                self.ends_broken = False
            for frame in frames:
                is_known = frame.pts is not None and not (is_counted and found)
                found = True
                if self.is_timed:
                    yield frame.pts * self.tick_s - self.begin_s if is_known else None, frame
                    continue
                # Decoding times count the frames as they come out, dropped ones included.
                first_dts = frame.dts if first_dts is None else first_dts
                is_known = frame.dts is not None and self.kind == "video"
                yield self._first_s + (frame.dts - first_dts) * self.tick_s if is_known else None, frame
        if broken is not None and not found:
            words = getattr(broken, "strerror", None) or broken
            raise MediaError(f"{self.path}: its {self.kind} cannot be decoded ({words}); convert or restore the file")

    def check_complete(self, start_s: float, reached_s: float, end_s: float) -> None:
        """Raise if the stream, read to its end, ended well before the span does and the file is cut off.

        Raises:
            MediaError: it is.
        """
        if not is_short(start_s, reached_s, end_s):
            return
        evidence = cut_off_evidence(self.path)
        if evidence is None and self.ends_broken:
            promised_s = self._promised_length()
            if is_short(0.0, reached_s, promised_s):
                evidence = f"the header promises {promised_s:.2f} s and the last frame is damaged"
        if evidence is not None:
            raise MediaError(
                f"{self.path}: {self.kind} ends at {reached_s:.2f} s and {evidence}, so the file is cut off; "
                "restore it or remove it from the clip"
            )

    def _promised_length(self) -> float:
        if self.stream.duration is not None:
            return float(self.stream.duration * self.tick_s)
        return 0.0 if self.container.duration is None else float(self.container.duration / av.time_base)

    def _choose(self) -> None:
        usable = usable_streams(self.container, self.kind)
        streams = [stream for stream in usable if stream.codec_context is not None] or usable
        best = self.container.streams.best(self.kind)
        self.stream = best if best in streams else max(streams, key=_pixels, default=None)
        if self.stream is None:
            has_art = bool(self.container.streams.video) and self.kind == "video"
            art = ": a cover picture is no footage of a speaker" if has_art else ""
            raise MediaError(f"{self.path}: has no {self.kind} stream{art}; remove it from the clip's {self.kind!r}")
        check_decodable(self.path, self.kind, self.stream)
        self.stream.codec_context.thread_count = 1  # ranks share the cores
        self.stream.codec_context.options = {"max_pixels": str(MAX_CODED_PIXELS)}
        self.begin_s, self.tick_s = common_beginning(self.path, self.container), float(self.stream.time_base)
        self.reached_s, self.is_read, self._clock = 0.0, False, _Clock()

    def _has_invented_times(self) -> bool:
        """Whether FFmpeg makes up the times: these store only decoding times, and B-frames are decoded out of order."""
        is_bare = self.container.format.name in ("avi", "asf")
        return is_bare and self.kind == "video" and bool(self.stream.codec_context.has_b_frames)

    def _is_worth_a_jump(self) -> bool:
        names = set(self.container.format.name.split(","))
        is_pcm = self.stream.codec_context.name.startswith("pcm_")
        return (
            bool(names & set(_INDEXED))
            or (is_pcm and bool(names & set(_INDEXED_PCM)))
            or (self.kind == "video" and "avi" in names)
            or self.path.stat().st_size > _READ_THROUGH_BYTES
        )

    def _jump(self, to_s: float, from_s: float) -> tuple[list[Any], Iterator[Any]]:
        """Seek, and return the first packet if it is a key at or before `from_s`, and the others."""
        offset = int((to_s + self.begin_s) / self.tick_s)
        self._clock = _Clock()
        rest = self._demux()
        try:
            self.container.seek(offset, stream=self.stream)
            for packet in rest:
                if packet is None:
                    break
                if packet.pts is None:
                    continue  # the time stamps after a jump come with a later packet
                time_s = packet.pts * self.tick_s - self.begin_s
                if self.kind == "audio" or packet.is_keyframe:
                    return ([packet] if time_s <= from_s else []), rest
        except (av.FFmpegError, OverflowError, EOFError):
            pass  # not seekable
        return [], rest

    def _read_through(self, from_s: float) -> Iterator[Any]:
        """Yield from the last key at or before `from_s` on, having read all before it."""
        held: list[Any] = []
        held_bytes, is_first = 0, True
        packets = self._demux()
        for packet in packets:
            time_s = None if packet is None else self.time_of(packet)
            if is_first and packet is not None:
                self.is_timed, is_first = self.is_timed and packet.pts is not None, False
                self._first_s = 0.0 if packet.dts is None else packet.dts * self.tick_s - self.begin_s
            if not self.is_timed or time_s is None or time_s > from_s or held_bytes > MAX_HELD_BYTES:
                yield from held
                yield packet
                yield from packets
                return
            if self.kind == "audio" or packet.is_keyframe:
                held, held_bytes = [], 0
            held.append(packet)
            held_bytes += packet.size
        yield from held

    def _demux(self) -> Iterator[Any]:
        """Yield the stream's packets, restarts of its clock evened out, and note how far they reach."""
        num_broken = 0
        while num_broken < _MOST_BROKEN_READS:
            try:
                for packet in self.container.demux(self.stream):
                    num_broken = 0
                    if packet.size == 0 and packet.dts is None and packet.pts is None:
                        break  # PyAV's sign of the end
                    self._clock.even_out(packet, self.tick_s)
                    self._note_end(packet)
                    yield packet
                break
            except av.InvalidDataError:
                num_broken += 1
            except (av.FFmpegError, EOFError):
                break
        self.is_read = True
        yield None

    def _note_end(self, packet: Any) -> None:
        time_s = self.time_of(packet)
        if time_s is not None:
            duration_s = (packet.duration or 0) * self.tick_s
            self.reached_s = max(self.reached_s, time_s + duration_s)


def is_short(start_s: float, reached_s: float, end_s: float) -> bool:
    """Whether a span of which `reached_s` was reached lacks more than a frame or two."""
    return end_s - reached_s > max(_MISSING_S, _MISSING_SHARE * (end_s - start_s))


class _Clock:
    """Moves packets behind a restart of the time stamps to where the stream was before."""

    def __init__(self) -> None:
        self._offset = 0
        self._last: int | None = None
        self._duration = 0

    def even_out(self, packet: Any, time_base_s: float) -> None:
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None:
            return
        if self._last is not None and stamp + self._offset < self._last - _RESTART_S / time_base_s:
            self._offset = self._last + self._duration - stamp
        if self._offset:
            packet.dts = None if packet.dts is None else packet.dts + self._offset
            packet.pts = None if packet.pts is None else packet.pts + self._offset
        self._last, self._duration = stamp + self._offset, packet.duration or 0


def _pixels(stream: Any) -> int:
    return stream.width * stream.height if stream.type == "video" else 0


__all__ = ["MAX_HELD_BYTES", "Kind", "MediaError", "Source", "is_short"]
