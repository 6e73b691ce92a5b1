"""How much of a clip is decoded, and how finely."""

from dataclasses import dataclass

from epo.data.dialogue import DataError


@dataclass(frozen=True)
class MediaLimits:
    """How much of a clip is decoded, and how finely.

    A clip is cut to `max_audio_seconds` in both halves, so that sound and picture show the same moments. Where
    `video_fps` would give more than `max_frames`, that many are spread evenly over the clip. Frames whose longer
    side exceeds `max_side_px` are scaled down.
    """

    sample_rate_hz: int = 16000
    max_audio_seconds: float = 30.0
    video_fps: float = 4.0
    max_frames: int = 8
    max_side_px: int = 1024

    def __post_init__(self) -> None:
        """Refuse limits that leave nothing to decode.

        Raises:
            DataError: a limit is not above 0.
        """
        for name, value in vars(self).items():
            if not value > 0:
                raise DataError(f"media limit {name} is {value}, want more than 0")

    def cap_end(self, start_s: float, end_s: float | None) -> float:
        """Return where a span ends, in seconds, at most `max_audio_seconds` after its start."""
        latest_s = start_s + self.max_audio_seconds
        return latest_s if end_s is None else min(end_s, latest_s)


__all__ = ["MediaLimits"]
