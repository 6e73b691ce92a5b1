"""What an examination says of a clip: faults as training would meet them, lengths, loudness, and what to know."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from epo.data.dialogue import Clip
from epo.data.examination import ClipReport, examine_clip
from epo.data.media import MediaLimits

LIMITS = MediaLimits()


def wav(path: Path, seconds: float, level: float = 0.5) -> Path:
    """A sine of amplitude `level`."""
    soundfile.write(path, level * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 16000)) / 16000), 16000, "FLOAT")
    return path


def mp4(path: Path, seconds: float, is_moving: bool = True) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for index in range(round(seconds * 10)):
            picture = np.full((32, 32, 3), 3 * index if is_moving else 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_sound_clip_is_measured_and_without_fault(tmp_path):
    report = examine_clip(Clip(audio=wav(tmp_path / "a.wav", 2.0), video=mp4(tmp_path / "v.mp4", 2.0)), LIMITS)
    assert report.faults == () and report.notes == ()
    assert (report.audio_seconds, report.video_seconds) == (2.0, pytest.approx(2.0))
    assert (report.audio_file_seconds, report.video_file_seconds) == (pytest.approx(2.0), pytest.approx(2.0))
    # A sine of amplitude 0.5: peak 20 log10 0.5 = -6.02, RMS 3.01 below.
    assert report.peak_dbfs == pytest.approx(-6.02, abs=0.01) and report.rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert (report.num_frames, report.is_silent, report.is_frozen) == (8, False, False)


def test_absent_halves_are_none(tmp_path):
    assert examine_clip(Clip(), LIMITS) == ClipReport()
    report = examine_clip(Clip(video=mp4(tmp_path / "v.mp4", 1.0)), LIMITS)
    assert report.rms_dbfs is None and report.audio_seconds is None and report.num_frames == 4


@pytest.mark.parametrize(("level", "is_silent"), [(0.0, True), (0.001, True), (0.0015, False)])
def test_silence_is_noted(tmp_path, level, is_silent):
    # RMS is the amplitude / sqrt 2: -63.0 dBFS for 0.001, -59.5 for 0.0015.
    report = examine_clip(Clip(audio=wav(tmp_path / "a.wav", 1.0, level)), LIMITS)
    assert report.is_silent is is_silent and report.faults == ()
    assert any("silent" in note for note in report.notes) is is_silent
    assert report.rms_dbfs is not None and report.rms_dbfs >= -120


def test_a_frozen_picture_is_noted(tmp_path):
    report = examine_clip(Clip(video=mp4(tmp_path / "v.mp4", 1.0, is_moving=False)), LIMITS)
    assert report.is_frozen and report.notes == ("all sampled frames show the same picture",)


def test_one_frame_is_not_frozen(tmp_path):
    assert not examine_clip(Clip(video=mp4(tmp_path / "v.mp4", 0.1)), LIMITS).is_frozen


def test_what_is_beyond_the_limit_is_noted(tmp_path):
    clip = Clip(audio=wav(tmp_path / "a.wav", 5.0))
    report = examine_clip(clip, MediaLimits(max_audio_seconds=2.0))
    assert report.notes == ("lasts 5.0 s, of which the first 2 s are used",)
    assert report.faults == () and report.audio_seconds == 2.0 and report.audio_file_seconds == pytest.approx(5.0)
    spanned = Clip(audio=clip.audio, start_s=0.5, end_s=3.5)
    assert examine_clip(spanned, MediaLimits(max_audio_seconds=2.0)).notes == (
        "lasts 3.0 s, of which the first 2 s are used",
    )


def test_an_end_beyond_the_end_is_a_fault(tmp_path):
    audio, video = wav(tmp_path / "a.wav", 2.0), mp4(tmp_path / "v.mp4", 2.0)
    report = examine_clip(Clip(audio=audio, video=video, end_s=9.0), LIMITS)
    assert report.faults == (
        f"{audio}: its audio ends at 2.00 s, end_s is 9.00; correct end_s or restore the file",
        f"{video}: its video ends at 2.00 s, end_s is 9.00; correct end_s or restore the file",
    )
    assert examine_clip(Clip(audio=audio, end_s=2.2), LIMITS).faults == ()
    # An hour, of which training would read thirty seconds.
    assert "end_s is 3600.00" in examine_clip(Clip(audio=wav(tmp_path / "b.wav", 40.0), end_s=3600.0), LIMITS).faults[0]


def test_one_half_that_ends_early_is_noted(tmp_path):
    report = examine_clip(
        Clip(audio=wav(tmp_path / "a.wav", 1.0), video=mp4(tmp_path / "v.mp4", 3.0), end_s=3.0), LIMITS
    )
    assert report.faults == () and report.notes == ("its audio ends at 1.00 s, end_s is 3.00",)


def test_training_would_meet_the_same_faults(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    report = examine_clip(Clip(audio=tmp_path / "a.wav", video=tmp_path / "none.mp4"), LIMITS)
    assert "the file is empty" in (report.audio_fault or "") and "No such file" in (report.video_fault or "")
    late = examine_clip(Clip(audio=wav(tmp_path / "b.wav", 1.0), start_s=4.0), LIMITS)
    assert "its audio ends at 1.00 s, start_s is 4.00" in late.faults[0]


def test_a_cut_behind_what_training_reads_is_found(tmp_path):
    path = wav(tmp_path / "a.wav", 10.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    limits = MediaLimits(max_audio_seconds=2.0)
    assert "the file is cut off" in examine_clip(Clip(audio=path), limits).faults[0]
    spanned = examine_clip(Clip(audio=path, start_s=1.0, end_s=2.0), limits)
    assert spanned.faults == () and spanned.notes == ("the file is cut off, but not before the span ends",)
