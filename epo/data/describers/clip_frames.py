"""ClipFrames: a few frames of a clip as JPEG files, decoded when they are needed, known by the clip's content."""

import hashlib
import io
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from epo.asking.questions import UnusablePictures
from epo.data.decoding.limits import MediaLimits
from epo.data.decoding.opening import MediaError
from epo.data.decoding.video import decode_video, frame_times
from epo.data.describers.describer import Left
from epo.data.face_crop import crop_to_face, shows_face

_FPS = 25.0  # no two frames are nearer, so that a short clip gives few
_QUALITY = 90  # of JPEG
_DETECTING = threading.Lock()  # OpenCV's detectors hold the size of their last picture


@dataclass
class ClipFrames:
    """Frames of a clip, spread evenly over it.

    Attributes:
        video: the file.
        start_s: where the clip begins in it.
        end_s: where it ends; None for the end of the file. At most 30 s are shown, as training reads them.
        limits: how many frames, how large.
        detector: of faces, as `open_detector` takes it; frames are cut to the face. None leaves them whole.
        fault: why they cannot be shown, once that is known.
    """

    video: Path
    start_s: float
    end_s: float | None
    limits: MediaLimits
    detector: str | None = None
    fault: Left | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls, video: Path, start_s: float, end_s: float | None, num_frames: int, side_px: int, detector: str | None
    ) -> "ClipFrames":
        """Return the frames of a span of a file, `num_frames` of them, with `side_px` as their longer side at most."""
        limits = MediaLimits(video_fps=_FPS, max_frames=num_frames, max_side_px=side_px)
        return cls(video, start_s, end_s, limits, detector)

    @cached_property
    def times_s(self) -> list[float]:
        """Their times in seconds from the clip's beginning, read off the file's packets.

        Raises:
            MediaError: there are none.
        """
        times_s = frame_times(self.video, self.start_s, self.end_s, self.limits)
        return [round(time_s - self.start_s, 3) for time_s in times_s]

    @cached_property
    def identity(self) -> str:
        """SHA-256 over the file's content, the span and how the frames are taken."""
        with self.video.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        taken = [self.limits.max_frames, self.limits.max_side_px, self.detector]
        return hashlib.sha256(json.dumps([content, self.start_s, self.end_s, *taken]).encode()).hexdigest()

    def read(self) -> Sequence[bytes]:
        """Return the frames as JPEG files.

        Raises:
            UnusablePictures: they cannot be decoded, or show no face; `fault` says which.
        """
        try:
            frames = decode_video(self.video, self.start_s, self.end_s, self.limits)
        except MediaError as error:
            self.fault = undecodable(error)
            raise UnusablePictures from error
        if self.detector is not None:
            with _DETECTING:
                if not shows_face(frames, self.detector):
                    self.fault = Left("clip without a face", f"{self.video}: {self.detector} finds none in its frames")
                    raise UnusablePictures
                frames = crop_to_face(frames, self.detector)
        return [_jpeg(frame) for frame in frames]


def undecodable(error: MediaError) -> Left:
    """Return why a clip with damaged or missing video is not described."""
    return Left("clip whose picture cannot be decoded", str(error))


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


__all__ = ["ClipFrames", "undecodable"]
