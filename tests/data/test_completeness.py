"""A file that is cut off is told by its parts; one whose header merely lies is not."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epo.data.decoding.completeness import cut_off_evidence
from epo.data.media import MediaError, MediaLimits, decode_audio, decode_video

LIMITS = MediaLimits()


def write(path: Path, sound: str | None, video: str | None, seconds: int = 4, **options: str) -> Path:
    """Noise, so that a share of the bytes is about that share of the time."""
    source = np.random.default_rng(0)
    with av.open(path, "w", options=options) as container:
        packets = []
        pictures = None if video is None else container.add_stream(video, rate=10)
        track = None if sound is None else container.add_stream(sound, rate=48000)
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
            for _ in range(seconds * 10):
                noise = source.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                packets += pictures.encode(av.VideoFrame.from_ndarray(noise, format="rgb24"))
            packets += pictures.encode(None)
        if track is not None:
            track.layout = "mono"
            to_kind = av.AudioResampler(format=track.codec_context.format.name)
            for at in range(0, seconds * 48000, 960):
                noise = source.uniform(-0.5, 0.5, (1, 960)).astype("f4")
                frame = av.AudioFrame.from_ndarray(noise, format="flt", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
                packets += [packet for part in to_kind.resample(frame) for packet in track.encode(part)]
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda one: float((one.pts if one.dts is None else one.dts) * one.time_base)):
            container.mux(packet)
    return path


CONTAINERS = [
    ("wav", "pcm_s16le", None, {}),
    ("rf64.wav", "pcm_s16le", None, {"rf64": "always"}),
    ("w64", "pcm_s16le", None, {}),
    ("aiff", "pcm_s16be", None, {}),
    ("au", "pcm_s16be", None, {}),
    ("caf", "pcm_s16le", None, {}),
    ("flac", "flac", None, {}),
    ("ogg", "libopus", None, {}),
    ("m4a", "aac", None, {"movflags": "faststart"}),
    ("mp4", "aac", "libx264", {"movflags": "faststart"}),
    ("frag.mp4", "aac", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    ("mov", "pcm_s16le", "mpeg4", {}),
    ("mkv", "flac", "libx264", {}),
    ("webm", "libopus", "libvpx-vp9", {}),
    ("avi", "libmp3lame", "mpeg4", {}),
    ("flv", None, "flv1", {}),
    ("wma", "libmp3lame", "mpeg4", {}),
]


@pytest.mark.parametrize(("suffix", "sound", "video", "options"), CONTAINERS, ids=[one[0] for one in CONTAINERS])
def test_half_a_file_is_refused_and_a_whole_one_is_not(tmp_path, suffix, sound, video, options):
    path = write(tmp_path / f"a.{suffix}", sound, video, **options)
    halves = [(decode_audio, sound), (decode_video, video)]
    assert cut_off_evidence(path) is None
    for decode, codec in halves:
        if codec is not None:
            assert len(decode(path, 0.0, None, LIMITS)) >= (3.9 * 16000 if decode is decode_audio else 8)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.52)])
    for decode, codec in halves:
        if codec is not None:
            with pytest.raises(MediaError, match=r"the file is cut off; restore it"):
                decode(path, 0.0, None, LIMITS)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "wav", "avi"])
def test_what_lies_before_the_cut_is_used(tmp_path, suffix):
    sound, video = {"wav": ("pcm_s16le", None)}.get(suffix, ("libmp3lame", "mpeg4"))
    path = write(tmp_path / f"a.{suffix}", sound, video, **({"movflags": "faststart"} if suffix == "mp4" else {}))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    assert len(decode_audio(path, 0.5, 1.5, LIMITS)) == 16000
    if video is not None:
        assert len(decode_video(path, 0.5, 1.5, LIMITS)) == 4


def patch_mp4(path: Path, box: bytes, seconds: float) -> None:
    """Write another duration into every `mvhd`, `tkhd` or `mdhd` (version 0)."""
    content = bytearray(path.read_bytes())
    at = -1
    while (at := content.find(box, at + 1)) >= 0:
        scale_at, duration_at = (at + 24, at + 24) if box == b"tkhd" else (at + 16, at + 20)
        scale = 1000 if box == b"tkhd" else int.from_bytes(content[scale_at : scale_at + 4], "big")
        content[duration_at : duration_at + 4] = struct.pack(">I", min(2**32 - 2, int(seconds * scale)))
    path.write_bytes(content)


@pytest.mark.parametrize("seconds", [0.0, 0.5, 360_000.0])
@pytest.mark.parametrize("box", [b"mvhd", b"mdhd", b"tkhd"])
def test_an_mp4_header_decides_nothing(tmp_path, box, seconds):
    path = write(tmp_path / "a.mp4", "aac", "libx264")
    frames, waveform = decode_video(path, 0.0, None, LIMITS), decode_audio(path, 0.0, None, LIMITS)
    patch_mp4(path, box, seconds)
    np.testing.assert_array_equal(decode_video(path, 0.0, None, LIMITS), frames)
    np.testing.assert_array_equal(decode_audio(path, 0.0, None, LIMITS), waveform)


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_recording_without_a_length_gives_the_same(tmp_path, suffix):
    codecs = ("libopus", "libvpx-vp9" if suffix == "webm" else "libx264")
    whole = write(tmp_path / f"a.{suffix}", *codecs)
    live = write(tmp_path / f"b.{suffix}", *codecs, live="1")
    with av.open(live) as container:
        assert container.duration is None
    for start_s, end_s in ((0.0, None), (1.0, 2.5), (2.0, None)):
        for decode in (decode_audio, decode_video):
            np.testing.assert_array_equal(decode(live, start_s, end_s, LIMITS), decode(whole, start_s, end_s, LIMITS))


@pytest.mark.parametrize("seconds", [0.0, 1.0, 360_000.0])
def test_a_flac_header_decides_nothing(tmp_path, seconds):
    path = write(tmp_path / "a.flac", "flac", None)
    content = bytearray(path.read_bytes())
    # STREAMINFO: 4 + 4 bytes on, 10 of block and frame sizes, then 20 + 3 + 5 + 36 bits, the last of samples.
    packed = int.from_bytes(content[18:26], "big") & ~(2**36 - 1) | min(2**36 - 1, int(seconds * 48000))
    content[18:26] = packed.to_bytes(8, "big")
    path.write_bytes(content)
    assert len(decode_audio(path, 0.0, None, LIMITS)) == pytest.approx(4 * 16000, abs=16)
    assert len(decode_audio(path, 3.0, 9.0, LIMITS)) == pytest.approx(16000, abs=16)


@pytest.mark.parametrize("suffix", ["ts", "mpg", "mp3", "aac"])
def test_what_is_guessed_decides_nothing(tmp_path, suffix):
    # A quiet beginning of few bits and a loud end of many, so that a length guessed from the bit rate is wrong.
    video = {"ts": "mpeg2video", "mpg": "mpeg2video"}.get(suffix)
    with av.open(tmp_path / f"a.{suffix}", "w") as container:
        if video is not None:
            stream = container.add_stream(video, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.options, source = {"qmin": "2", "qmax": "2"}, np.random.default_rng(0)
            for index in range(200):
                picture = np.full((64, 64, 3), 40, np.uint8)
                if index >= 100:
                    picture = source.integers(0, 255, (64, 64, 3), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        else:
            stream = container.add_stream({"mp3": "libmp3lame", "aac": "aac"}[suffix], rate=48000)
            stream.layout = "mono"
            if suffix == "mp3":
                stream.options = {"flags": "+qscale", "global_quality": "472"}
            for index in range(400):
                noise = np.random.default_rng(index).uniform(-0.5, 0.5, (1, 960)) * (index >= 200)
                frame = av.AudioFrame.from_ndarray(noise.astype("f4"), format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48000, index * 960, Fraction(1, 48000)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path = tmp_path / f"a.{suffix}"
    if video is not None:
        frames = decode_video(path, 0.0, None, MediaLimits(video_fps=2, max_frames=64))
        assert len(frames) == 16
        assert [int(frame.std() > 20) for frame in frames] == [0] * 8 + [1] * 8
    else:
        waveform = decode_audio(path, 0.0, None, LIMITS)
        assert len(waveform) / 16000 == pytest.approx(8.0, abs=0.1)
        loud = decode_audio(path, 3.0, 5.0, LIMITS)
        assert np.abs(loud[:15000]).max() < 0.05 < np.sqrt(np.mean(loud[18000:] ** 2))
