"""Tiny media files of a dozen containers, with a tone for every second and a grey level for every moment."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.media import MediaLimits, decode_audio, decode_video

SECONDS = 8
RATE_HZ = 48000
PITCHES_HZ = (300, 500, 700, 900, 1100, 1300, 1500, 1700)
_FIRST_GREY, _GREY_A_SECOND = 30, 20
# Name, format, video codec, sound codec.
SEEDS = (
    ("a.mp4", None, "libx264", "aac"),
    ("b.mov", None, "mjpeg", "pcm_s16le"),
    ("c.mkv", None, "libx264", "flac"),
    ("d.webm", None, "libvpx-vp9", "libopus"),
    ("e.avi", None, "mpeg4", "libmp3lame"),
    ("f.ts", "mpegts", "mpeg2video", "mp2"),
    ("g.mpg", "vob", "mpeg2video", "ac3"),
    ("h.flv", None, "flv1", "libmp3lame"),
    ("i.wav", None, None, "pcm_s16le"),
    ("j.flac", None, None, "flac"),
    ("k.mp3", None, None, "libmp3lame"),
    ("l.ogg", None, None, "libopus"),
    ("m.m4a", None, None, "aac"),
    ("n.asf", "asf", "mpeg4", "libmp3lame"),
    ("o.aiff", None, None, "pcm_s16be"),
    ("p.gif", None, "gif", None),
)


def make_seeds(folder: Path, names: tuple[str, ...] | None = None) -> list[Path]:
    """Write the files, or those named, and return their paths."""
    return [_make(folder / name, *codecs) for name, *codecs in SEEDS if names is None or name in names]


def check_seed(path: Path) -> list[str]:
    """Decode spans of an undamaged file; returns what is not as it was made."""
    name, _, video, sound = next(seed for seed in SEEDS if seed[0] == path.name)
    faults = []
    for start_s, end_s in ((0, SECONDS), (2, 4), (5, 7)):
        if sound is not None:
            waveform = decode_audio(path, start_s, end_s, MediaLimits())
            for second in range(start_s, end_s):
                part = waveform[(second - start_s) * 16000 + 1600 : (second - start_s + 1) * 16000 - 1600]
                pitch = np.abs(np.fft.rfft(part * np.hanning(len(part)))).argmax() * 16000 / len(part)
                if abs(pitch - PITCHES_HZ[second]) > 10:
                    faults.append(f"{name} [{start_s}, {end_s}): {pitch:.0f} Hz in second {second}")
        if video is not None:
            frames = decode_video(path, start_s, end_s, MediaLimits(video_fps=1))
            greys = [float(frame.mean()) for frame in frames]
            expected = [_FIRST_GREY + _GREY_A_SECOND * second for second in range(start_s, end_s)]
            if len(greys) != len(expected) or max(np.abs(np.subtract(greys, expected))) > 8:
                faults.append(f"{name} [{start_s}, {end_s}): greys {greys}")
    return faults


def _make(path: Path, container_format: str | None, video: str | None, sound: str | None) -> Path:
    with av.open(path, "w", format=container_format) as container:
        packets = []
        rate_hz = 44100 if path.suffix == ".flv" else RATE_HZ
        pictures = None if video is None else _add_video(container, video)
        track = None if sound is None else container.add_stream(sound, rate=rate_hz)
        if track is not None:
            track.layout = "mono"
        if pictures is not None:
            rate = int(pictures.average_rate or 1)
            for index in range(SECONDS * rate):
                grey = np.full((48, 64, 3), _FIRST_GREY + _GREY_A_SECOND * index // rate, np.uint8)
                packets += pictures.encode(av.VideoFrame.from_ndarray(grey, format="rgb24"))
            packets += pictures.encode(None)
        if track is not None:
            second = np.arange(rate_hz) / rate_hz
            tones = np.concatenate([0.3 * np.sin(2 * np.pi * pitch * second) for pitch in PITCHES_HZ])
            to_kind = av.AudioResampler(format=track.codec_context.format.name)
            for at in range(0, len(tones), 960):
                frame = av.AudioFrame.from_ndarray(tones[None, at : at + 960].astype("f4"), format="flt", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = rate_hz, at, Fraction(1, rate_hz)
                packets += [packet for part in to_kind.resample(frame) for packet in track.encode(part)]
            packets += track.encode(None)
        for packet in sorted(packets, key=_time):
            container.mux(packet)
    return path


def _add_video(container: av.container.OutputContainer, codec: str) -> av.VideoStream:
    stream = container.add_stream(codec, rate=25 if codec == "mpeg2video" else 10)
    stream.width, stream.height = 64, 48
    stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "gray"}.get(codec, "yuv420p")
    stream.bit_rate = 400_000
    return stream


def _time(packet: av.Packet) -> float:
    return float((packet.pts if packet.dts is None else packet.dts) * packet.time_base)


__all__ = ["SEEDS", "check_seed", "make_seeds"]
