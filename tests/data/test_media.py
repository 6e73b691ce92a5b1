"""Decoding: exact spans, the frame on screen at each time, and every broken file named."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from epo.data.decoding import opening
from epo.data.dialogue import Clip, DataError
from epo.data.media import Media, MediaError, MediaLimits, decode_audio, decode_clip, decode_video, sample_times

LIMITS = MediaLimits()
SHARED = Path(__file__).parents[2] / "../shared/data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real media is not here")

EVERY_TENTH_S = [index / 10 for index in range(20)]


def write_video(path: Path, times_s: list[float], pictures: list[np.ndarray], **options: str) -> Path:
    """Write an MP4 that shows picture i from `times_s[i]` on."""
    with av.open(path, "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time_s, picture in zip(times_s, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def greys(count: int, side: int = 32) -> list[np.ndarray]:
    """Picture i is grey of level 12 * i."""
    return [np.full((side, side, 3), 12 * index, np.uint8) for index in range(count)]


def shown(frames: np.ndarray) -> list[int]:
    """Undo `greys`: the number of the picture each frame shows."""
    return [round(float(frame.mean()) / 12) for frame in frames]


def write_noise(path: Path, seconds: float, rate_hz: int = 16000, channels: int = 1) -> np.ndarray:
    """Write random samples and return them as they are on disk, float32 (S, C)."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (int(seconds * rate_hz), channels))
    soundfile.write(path, samples, rate_hz)
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Two seconds, ten pictures a second."""
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", EVERY_TENTH_S, greys(20))


# --- sound ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("start_s", [0.0, 1.25, 6.0])  # 6 s is far enough to jump instead of decoding through
def test_a_span_of_lossless_audio_is_exact(tmp_path, suffix, start_s):
    path = tmp_path / f"a{suffix}"
    samples = write_noise(path, 8)[:, 0]
    start = int(start_s * 16000)
    span = decode_audio(path, start_s, start_s + 0.5, LIMITS)
    assert span.dtype == np.float32
    np.testing.assert_allclose(span, samples[start : start + 8000], atol=1e-6)


def test_channels_are_averaged(tmp_path):
    samples = write_noise(tmp_path / "a.wav", 0.5, channels=2)
    np.testing.assert_allclose(decode_audio(tmp_path / "a.wav", 0, None, LIMITS), samples.mean(1), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8000, 22050, 44100])
def test_any_rate_comes_out_at_the_wanted_one(tmp_path, rate_hz):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
    soundfile.write(tmp_path / "a.wav", tone, rate_hz)
    waveform = decode_audio(tmp_path / "a.wav", 0, None, LIMITS)
    assert abs(len(waveform) - 16000) < 160
    # One second of a 440 Hz tone: its spectrum peaks at bin 440 and its RMS is 0.5 / sqrt(2) = 0.354.
    assert np.abs(np.fft.rfft(waveform, 16000)).argmax() == 440
    assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.354, abs=0.01)


def test_audio_is_bounded_in_duration(tmp_path):
    write_noise(tmp_path / "a.wav", 3)
    limits = MediaLimits(max_audio_seconds=1.0)
    assert len(decode_audio(tmp_path / "a.wav", 0.5, None, limits)) == 16000
    assert len(decode_audio(tmp_path / "a.wav", 0.5, 2.9, limits)) == 16000


def test_a_span_past_the_end_gives_what_there_is(tmp_path):
    write_noise(tmp_path / "a.wav", 1)
    assert len(decode_audio(tmp_path / "a.wav", 0.75, 5.0, LIMITS)) == 4000


def test_silence_stays_silence(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    np.testing.assert_array_equal(decode_audio(tmp_path / "a.wav", 0, None, LIMITS), np.zeros(1600))


# --- pictures ------------------------------------------------------------------------------------------------


def test_frames_are_sampled_from_the_start_of_the_span(video):
    # 0.5 to 1.5 s at 4 a second: 0.5, 0.75, 1.0, 1.25 s; the pictures on screen then are 5, 7, 10 and 12.
    frames = decode_video(video, 0.5, 1.5, LIMITS)
    assert (frames.shape, frames.dtype) == ((4, 32, 32, 3), np.uint8)
    assert shown(frames) == [5, 7, 10, 12]


def test_too_many_frames_are_spread_evenly(video):
    # 2 s at 10 a second would be 20; five of them lie 0.4 s apart.
    assert shown(decode_video(video, 0, None, MediaLimits(video_fps=10, max_frames=5))) == [0, 4, 8, 12, 16]


def test_sample_times_by_hand():
    assert sample_times(1.0, 2.0, LIMITS) == [1.0, 1.25, 1.5, 1.75]
    assert sample_times(0.0, 1.1, LIMITS) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert sample_times(0.0, 0.01, LIMITS) == [0.0]
    assert sample_times(0.0, 4.0, LIMITS) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def test_a_variable_frame_rate_shows_the_picture_on_screen(tmp_path):
    path = write_video(tmp_path / "v.mp4", [0.0, 0.1, 1.45, 1.6], greys(4))
    # At 0, 0.5, 1 and 1.5 s: picture 1 stays on screen from 0.1 to 1.45 s.
    assert shown(decode_video(path, 0, 1.6, MediaLimits(video_fps=2))) == [0, 1, 1, 2]


def test_jumping_to_a_late_span_finds_the_same_frames(tmp_path):
    times_s = [index / 2 for index in range(20)]
    path = write_video(tmp_path / "v.mp4", times_s, greys(20), movflags="faststart")
    assert shown(decode_video(path, 7.0, 9.0, MediaLimits(video_fps=2))) == [14, 15, 16, 17]


def test_large_frames_are_scaled_down(tmp_path):
    path = write_video(tmp_path / "v.mp4", [0.0], [np.full((64, 128, 3), 90, np.uint8)])
    assert decode_video(path, 0, None, MediaLimits(max_side_px=32)).shape == (1, 16, 32, 3)


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        # (a, b, c, d) of the MP4 display matrix: x' = a x + c y, y' = b x + d y, with y pointing down.
        ((1, 0, 0, 1), (0, 0)),  # as coded: the white corner is top left
        ((0, 1, -1, 0), (0, -1)),  # a quarter turn clockwise: top right
        ((-1, 0, 0, -1), (-1, -1)),  # half a turn: bottom right
        ((0, -1, 1, 0), (-1, 0)),  # a quarter turn counter-clockwise: bottom left
    ],
)
def test_rotated_video_is_turned_upright(tmp_path, matrix, corner):
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :16] = 255
    path = write_video(tmp_path / "v.mp4", [0.0, 0.1], [picture] * 2)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # version and flags, times, ids, layer, volume: then nine 32-bit numbers
    fixed = [value << 16 for value in matrix]
    content[at : at + 36] = struct.pack(">9i", *fixed[:2], 0, *fixed[2:], 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    frame = decode_video(path, 0, None, LIMITS)[0]
    assert frame.shape == ((64, 32, 3) if matrix[0] == 0 else (32, 64, 3))
    assert [at for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if frame[at].mean() > 128] == [corner]


# --- both ----------------------------------------------------------------------------------------------------


def test_an_absent_half_is_none(tmp_path, video):
    write_noise(tmp_path / "a.wav", 1)
    only_video = decode_clip(Clip(video=video), LIMITS)
    assert only_video.waveform is None and only_video.frames is not None
    only_audio = decode_clip(Clip(audio=tmp_path / "a.wav"), LIMITS)
    assert only_audio.waveform is not None and only_audio.frames is None


@needs_shared
def test_real_talking_faces_give_sound_and_pictures():
    path = SHARED / "grid" / "sbwe5n.mpg"
    decoded = decode_clip(Clip(audio=path, video=path, start_s=0.5, end_s=2.5), LIMITS)
    assert decoded.waveform is not None and len(decoded.waveform) == 32000
    assert np.abs(decoded.waveform).max() > 0.05
    assert decoded.frames is not None and decoded.frames.shape == (8, 288, 360, 3)


@needs_shared
def test_the_best_of_several_streams_is_taken():
    path = SHARED / "misc" / "nasa_13013.mp4"  # 320x180 and 480x270, 8 kHz mono and 16 kHz stereo
    decoded = decode_clip(Clip(audio=path, video=path, start_s=5, end_s=7), LIMITS)
    assert decoded.frames is not None and decoded.frames.shape == (8, 270, 480, 3)
    assert decoded.waveform is not None and len(decoded.waveform) == 32000


@needs_shared
def test_real_speech_is_resampled():
    path = SHARED / "emodb" / "03a01Fa.flac"  # 22.05 kHz, mono
    info = soundfile.info(path)
    waveform = decode_audio(path, 0, None, LIMITS)
    assert abs(len(waveform) - info.frames / info.samplerate * 16000) < 32
    assert np.abs(waveform).max() <= 1


# --- faults --------------------------------------------------------------------------------------------------


def fault(decode, path: Path, start_s: float = 0.0) -> str:
    """Return the message of the MediaError, which must begin with the file."""
    with pytest.raises(MediaError) as caught:
        decode(path, start_s, None, LIMITS)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


def test_a_missing_stream_is_named(tmp_path, video):
    assert "has no audio stream" in fault(decode_audio, video)
    write_noise(tmp_path / "a.wav", 0.5)
    assert "has no video stream" in fault(decode_video, tmp_path / "a.wav")


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.wav").touch()
    assert "the file is empty" in fault(decode_audio, tmp_path / "a.wav")


def test_a_missing_file_is_named(tmp_path):
    assert "No such file" in fault(decode_audio, tmp_path / "a.wav")


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "v.mp4").write_text("these are words, not pictures\n" * 50)
    assert "is no media file" in fault(decode_video, tmp_path / "v.mp4")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_cut_off_audio_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_noise(path, 4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "the file is cut off" in fault(decode_audio, path)


@pytest.mark.parametrize("options", [{"movflags": "faststart"}, {}])  # its index at the front, or cut off as well
def test_cut_off_video_is_refused(tmp_path, options):
    noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    path = write_video(tmp_path / "v.mp4", EVERY_TENTH_S, list(noise), **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "the file is cut off" in fault(decode_video, path)


def test_a_span_of_a_cut_off_file_before_the_cut_is_used(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    path = write_video(tmp_path / "v.mp4", EVERY_TENTH_S, list(noise), movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(decode_video(path, 0.0, 0.5, LIMITS)) == 2


def test_a_span_after_the_end_is_refused(tmp_path, video):
    assert "its video ends at 2.00 s, start_s is 3.00" in fault(decode_video, video, start_s=3.0)
    write_noise(tmp_path / "a.wav", 1)
    assert "its audio ends at 1.00 s, start_s is 3.00" in fault(decode_audio, tmp_path / "a.wav", start_s=3.0)


def test_frames_too_large_for_memory_are_refused(video, monkeypatch):
    monkeypatch.setattr(opening, "MAX_CODED_PIXELS", 31 * 32)
    assert "32x32 px; scale it down" in fault(decode_video, video)


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("concat", "ffconcat version 1.0\nfile a.wav\n"),
        ("m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.wav\n"),
    ],
)
def test_a_script_may_not_open_other_files(tmp_path, kind, script):
    write_noise(tmp_path / "a.wav", 1)
    disguised = tmp_path / f"v.{kind}"
    disguised.write_text(script)
    message = fault(decode_audio, disguised)
    assert "is of the kind " in message and "which is not taken; convert it to one of wav, flac, mp3" in message


def test_a_path_that_looks_like_an_address_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_noise(Path("pipe:0.wav"), 0.1)
    assert len(decode_audio(Path("pipe:0.wav"), 0, None, LIMITS)) == 1600


@pytest.mark.parametrize("limits", [{"max_frames": 0}, {"max_audio_seconds": -1.0}, {"video_fps": float("nan")}])
def test_limits_that_leave_nothing_are_refused(limits):
    with pytest.raises(DataError, match="want more than 0"):
        MediaLimits(**limits)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=64), keep=st.floats(0.01, 1))
def test_damage_is_never_more_than_a_media_error(video, tmp_path_factory, place, junk, keep):
    content = bytearray(video.read_bytes())
    at = int(place * (len(content) - 1))
    content[at : at + len(junk)] = junk
    path = tmp_path_factory.getbasetemp() / "damaged.mp4"
    path.write_bytes(content[: int(keep * len(content))])
    try:
        decoded = decode_clip(Clip(video=path), LIMITS)
    except MediaError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert isinstance(decoded, Media) and decoded.frames is not None
        assert 1 <= len(decoded.frames) <= LIMITS.max_frames
