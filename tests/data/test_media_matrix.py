"""Every container with its codecs: the right second of sound and the right moment of video, wherever a span begins."""

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epo.data.media import MediaError, MediaLimits, decode_audio, decode_video
from epo.data.probe import probe_media

SECONDS = 7
PITCHES_HZ = (300, 500, 700, 900, 1100, 1300, 1500)
GREYS = tuple(30 + 3 * tenth for tenth in range(10 * SECONDS))  # one for each tenth of a second


def make(
    path: Path,
    video: str | None,
    sound: str | None,
    container_format: str | None = None,
    sound_from_s: float = 0.0,
    video_from_s: float = 0.0,
    hole: tuple[float, float] | None = None,
    **options: str,
) -> Path:
    """Write a tone for each second and a grey for each tenth; `hole` leaves out sound, the rest stays in place."""
    with av.open(path, "w", format=container_format, options=options) as container:
        packets = []
        rate_hz = 44100 if path.suffix == ".flv" else 48000
        fps = 25 if video in ("mpeg1video", "mpeg2video", "dvvideo") else 20
        pictures = None if video is None else container.add_stream(video, rate=fps)
        track = None if sound is None else container.add_stream(sound, rate=rate_hz)
        if pictures is not None:
            pictures.width, pictures.height = 64, 48
            if video != "libsvtav1":
                pictures.bit_rate = 1_000_000
            pictures.pix_fmt = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(video, "yuv420p")
            for index in range(SECONDS * fps):
                grey = np.full((48, 64, 3), GREYS[index * 10 // fps], np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts, frame.time_base = index + round(video_from_s * fps), Fraction(1, fps)
                packets += pictures.encode(frame)
            packets += pictures.encode(None)
            if video == "libsvtav1" and hasattr(os, "sched_setscheduler"):
                # Run by root, SVT-AV1 leaves its caller at the highest real-time priority, and so whatever that starts.
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        if track is not None:
            track.layout = "stereo"
            second = np.arange(rate_hz) / rate_hz
            tones = np.concatenate([0.3 * np.sin(2 * np.pi * pitch * second) for pitch in PITCHES_HZ])
            to_kind = av.AudioResampler(format=track.codec_context.format.name, layout="stereo")
            for at in range(0, len(tones), 480):
                if hole is not None and hole[0] <= at / rate_hz < hole[1]:
                    continue
                both = np.repeat(tones[at : at + 480], 2)[None].astype("f4")
                frame = av.AudioFrame.from_ndarray(both, format="flt", layout="stereo")
                frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
                frame.pts = at + round(sound_from_s * rate_hz)
                packets += [packet for part in to_kind.resample(frame) for packet in track.encode(part)]
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda one: float((one.pts if one.dts is None else one.dts) * one.time_base)):
            container.mux(packet)
    return path


def check_sound(
    path: Path, start_s: float, end_s: float, late_s: float = 0.0, hole: tuple[float, float] = (0, 0)
) -> None:
    """The tone in the middle of each half second of a span is that of its moment."""
    waveform = decode_audio(path, start_s, end_s, MediaLimits())
    assert len(waveform) == pytest.approx((end_s - start_s) * 16000, abs=1)
    for step in range(int((end_s - start_s) * 2)):
        moment_s = start_s + step / 2 - late_s
        part = waveform[step * 8000 + 2000 : step * 8000 + 6000]
        if moment_s < 0 or hole[0] <= moment_s < hole[1]:
            assert np.abs(part).max() < 0.02, moment_s
        else:
            pitch = np.abs(np.fft.rfft(part * np.hanning(4000))).argmax() * 4
            assert abs(pitch - PITCHES_HZ[int(moment_s)]) <= 8, moment_s
            assert np.sqrt(np.mean(part**2)) == pytest.approx(0.212, rel=0.15), moment_s


def check_video(path: Path, start_s: float, end_s: float, late_s: float = 0.0) -> None:
    """The grey of each frame is that of its moment, or of the one beside where time stamps are rounded."""
    limits = MediaLimits(video_fps=4, max_frames=32)
    frames = decode_video(path, start_s, end_s, limits)
    assert len(frames) == round((end_s - start_s) * 4)
    for index, frame in enumerate(frames):
        tenth = min(len(GREYS) - 1, max(0, int((start_s + index / 4 - late_s + 1e-6) * 10)))
        assert frame.mean() == pytest.approx(GREYS[tenth], abs=6), index


CONTAINERS = [
    ("mp4", "libx264", "aac", None),
    ("mp4", "libx265", "libmp3lame", None),
    ("mp4", "libsvtav1", "libopus", None),
    ("mov", "prores_ks", "pcm_s16be", None),
    ("mov", "mjpeg", "alac", None),
    ("3gp", "mpeg4", "aac", None),
    ("mkv", "libx264", "flac", None),
    ("mkv", "ffv1", "pcm_s24le", None),
    ("webm", "libvpx-vp9", "libopus", None),
    ("avi", "libx264", "libmp3lame", None),  # B-frames, of which an AVI does not tell the times
    ("avi", "mjpeg", "pcm_s16le", None),
    ("asf", "libx264", "libmp3lame", "asf"),
    ("flv", "libx264", "aac", None),
    ("ts", "libx264", "aac", "mpegts"),
    ("m2ts", "mpeg2video", "ac3", "mpegts"),
    ("mpg", "mpeg1video", "mp2", "mpeg"),
    ("vob", "mpeg2video", "ac3", "dvd"),
    ("nut", "mpeg4", "mp2", None),
    ("mxf", "mpeg2video", "pcm_s16le", None),
]
IDS = [f"{suffix}-{video}-{sound}" for suffix, video, sound, _ in CONTAINERS]


@pytest.mark.parametrize(("suffix", "video", "sound", "container_format"), CONTAINERS, ids=IDS)
def test_spans_show_and_sound_their_own_moments(tmp_path, suffix, video, sound, container_format):
    path = make(tmp_path / f"a.{suffix}", video, sound, container_format)
    for start_s, end_s in ((0.0, 2.0), (1.5, 3.0), (5.0, 6.5)):  # 5 s is far enough to jump
        check_sound(path, start_s, end_s)
        check_video(path, start_s, end_s)


LATE = [
    one
    for one in CONTAINERS
    if one[0] not in ("avi", "mxf", "m2ts", "vob", "3gp") and one[1] not in ("libx265", "libsvtav1")
]


@pytest.mark.parametrize(("suffix", "video", "sound", "container_format"), LATE)
def test_late_sound_stays_with_its_pictures(tmp_path, suffix, video, sound, container_format):
    path = make(tmp_path / f"a.{suffix}", video, sound, container_format, sound_from_s=1.5)
    for start_s, end_s in ((0.0, 1.0), (0.5, 3.0), (5.0, 6.5)):
        check_sound(path, start_s, end_s, late_s=1.5)
        check_video(path, start_s, end_s)


@pytest.mark.parametrize(("suffix", "video", "sound", "container_format"), LATE)
def test_late_pictures_stay_with_their_sound(tmp_path, suffix, video, sound, container_format):
    path = make(tmp_path / f"a.{suffix}", video, sound, container_format, video_from_s=1.5)
    for start_s, end_s in ((0.0, 1.0), (0.5, 3.0), (5.0, 6.5)):
        check_sound(path, start_s, end_s)
        check_video(path, start_s, end_s, late_s=1.5)


@pytest.mark.parametrize(
    ("suffix", "sound"),
    [("mp4", "aac"), ("mkv", "libopus"), ("mkv", "pcm_s16le"), ("webm", "libopus"), ("ts", "mp2"), ("flv", "aac")],
)
def test_a_hole_in_the_sound_is_silent(tmp_path, suffix, sound):
    video = {"webm": "libvpx-vp9", "flv": "flv1", "ts": "mpeg2video"}.get(suffix, "mpeg4")
    path = make(tmp_path / f"a.{suffix}", video, sound, hole=(2.0, 3.5))
    for start_s, end_s in ((0.0, 6.5), (2.5, 4.0), (5.0, 6.5)):
        check_sound(path, start_s, end_s, hole=(2.0, 3.5))
        check_video(path, start_s, end_s)


@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_what_an_edit_list_leaves_out_is_left_out(tmp_path, sound):
    # Both streams begin a second before the presentation does: players show neither.
    path = make(
        tmp_path / "a.mov", "libx264", sound, sound_from_s=-1.0, video_from_s=-1.0, avoid_negative_ts="disabled"
    )
    for start_s, end_s in ((0.0, 2.0), (1.5, 3.0), (4.5, 5.5)):
        check_sound(path, start_s, end_s, late_s=-1.0)
        check_video(path, start_s, end_s, late_s=-1.0)


def test_a_late_start_of_everything_is_the_beginning(tmp_path):
    path = make(tmp_path / "a.mkv", "libx264", "flac", sound_from_s=3600.0, video_from_s=3600.0)
    check_sound(path, 0.0, 2.0)
    check_video(path, 5.0, 6.5)


# --- cover pictures and stills -------------------------------------------------------------------------------


def picture_bytes(folder: Path) -> bytes:
    with av.open(folder / "cover.jpg", "w", format="image2") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 200, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return (folder / "cover.jpg").read_bytes()


def test_a_cover_in_an_mp3_is_no_video(tmp_path):
    content = b"\0image/jpeg\0\x03\0" + picture_bytes(tmp_path)
    frame = b"APIC" + struct.pack(">I", len(content)) + b"\0\0" + content
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    plain = make(tmp_path / "b.mp3", None, "libmp3lame", id3v2_version="0").read_bytes()
    path = tmp_path / "a.mp3"
    path.write_bytes(b"ID3\x03\0\0" + size + frame + plain)
    probe = probe_media(path)
    assert (probe.has_audio, probe.has_video) == (True, False)
    with pytest.raises(MediaError, match="has no video stream: a cover picture is no footage of a speaker"):
        decode_video(path, 0.0, None, MediaLimits())
    check_sound(path, 0.0, 2.0)


def test_a_cover_in_a_flac_is_no_video(tmp_path):
    picture = picture_bytes(tmp_path)
    block = (
        struct.pack(">II", 3, 10) + b"image/jpeg" + struct.pack(">IIIIII", 0, 320, 240, 24, 0, len(picture)) + picture
    )
    plain = make(tmp_path / "b.flac", None, "flac").read_bytes()
    path = tmp_path / "a.flac"
    # Behind STREAMINFO, which is 34 bytes long with a head of 4: block type 6.
    path.write_bytes(plain[:42] + b"\x06" + len(block).to_bytes(3, "big") + block + plain[42:])
    assert not probe_media(path).has_video and probe_media(path).has_audio
    with pytest.raises(MediaError, match="a cover picture"):
        decode_video(path, 0.0, None, MediaLimits())


def test_a_cover_beside_a_video_is_never_chosen(tmp_path):
    # The cover is larger than the video.
    make(tmp_path / "v.mp4", "libx264", "aac")
    path = tmp_path / "a.mp4"
    with (
        av.open(tmp_path / "v.mp4") as source,
        av.open(tmp_path / "cover.jpg" if picture_bytes(tmp_path) else "") as art,
    ):
        with av.open(path, "w") as target:
            cover = target.add_stream_from_template(art.streams.video[0])
            cover.disposition = av.stream.Disposition.attached_pic
            streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
            for packet in art.demux():
                if packet.dts is not None:
                    packet.stream = cover
                    target.mux(packet)
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream_index]
                    target.mux(packet)
    with av.open(path) as container:
        assert len(container.streams.video) == 2
    assert probe_media(path).has_video
    check_video(path, 0.0, 2.0)


@pytest.mark.parametrize("suffix", ["jpg", "mp4"])
def test_a_photograph_is_refused_by_name(tmp_path, suffix):
    picture = picture_bytes(tmp_path)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(picture)
    with pytest.raises(
        MediaError, match=r"is of the kind '.*(jpeg|image2).*', which is not taken; convert it to one of"
    ):
        decode_video(path, 0.0, None, MediaLimits())
    with pytest.raises(MediaError, match="which is not taken"):
        probe_media(path)
