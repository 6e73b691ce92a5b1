"""Sound by its time stamps: late starts, holes, restarts, every channel count, sample format and WAV header."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epo.data.decoding.audio import MIN_AUDIO_SECONDS, Tape, decode_audio
from epo.data.media import MediaError, MediaLimits

LIMITS = MediaLimits()
RATE = 16000
PITCHES_HZ = (300, 500, 700, 900, 1100, 1300, 1500, 1700)  # of second 0, 1, 2, ...
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


def scale(seconds: int, rate_hz: int = RATE, level: float = 0.3) -> np.ndarray:
    """A tone for every second, each of its own pitch; float32 (S,)."""
    second = np.arange(rate_hz) / rate_hz
    return np.concatenate([level * np.sin(2 * np.pi * PITCHES_HZ[n] * second) for n in range(seconds)]).astype("f4")


def heard(waveform: np.ndarray, at_s: float, for_s: float = 0.5) -> int | None:
    """Which second's tone is heard in a stretch of a waveform; None is silence, -1 something else."""
    part = waveform[round((at_s + 0.05) * RATE) : round((at_s + for_s - 0.05) * RATE)]
    if np.abs(part).max() < 0.01:
        return None
    pitch = float(np.argmax(np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 16))) * RATE / (1 << 16))
    return next((n for n, known in enumerate(PITCHES_HZ) if abs(known - pitch) < 20), -1)


def write_packets(
    path: Path,
    stamped: list[tuple[float, np.ndarray]],
    codec: str = "flac",
    rate_hz: int = RATE,
    time_base=None,
    with_video: bool = False,
) -> Path:
    """Write stretches of mono sound at the times given, each as packets of its own."""
    with av.open(path, "w") as container:
        packets = []
        if with_video:
            video = container.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
            for index in range(80):
                picture = np.full((32, 32, 3), 2 * index, np.uint8)
                packets += video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
            packets += video.encode(None)
        sound = container.add_stream(codec, rate=rate_hz)
        sound.layout = "mono"
        for time_s, samples in stamped:
            for at in range(0, len(samples), 320):
                frame = av.AudioFrame.from_ndarray(
                    (samples[None, at : at + 320] * 32767).astype("i2"), format="s16", layout="mono"
                )
                frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
                frame.pts = round(time_s * rate_hz) + at
                packets += sound.encode(frame)
        packets += sound.encode(None)
        for packet in sorted(packets, key=lambda one: float((one.dts if one.pts is None else one.pts) * one.time_base)):
            container.mux(packet)
    return path


# --- time ----------------------------------------------------------------------------------------------------


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path):
    # The sound begins two seconds after the picture: 0..3 s hold two seconds of silence and the tone of second 0.
    path = write_packets(tmp_path / "a.mkv", [(2.0, scale(4))], "pcm_s16le", with_video=True)
    waveform = decode_audio(path, 0.0, 3.0, LIMITS)
    assert len(waveform) == 3 * RATE
    np.testing.assert_array_equal(waveform[: 2 * RATE - 16], 0)
    np.testing.assert_allclose(waveform[2 * RATE :], scale(1), atol=1e-4)
    assert [heard(decode_audio(path, 3.0, 5.0, LIMITS), at) for at in (0, 0.5, 1, 1.5)] == [1, 1, 2, 2]


def test_a_span_before_the_sound_is_silence(tmp_path):
    path = write_packets(tmp_path / "a.mkv", [(2.0, scale(2))], "pcm_s16le", with_video=True)
    np.testing.assert_array_equal(decode_audio(path, 0.5, 1.5, LIMITS), np.zeros(RATE))


def test_without_anything_else_sound_begins_the_file(tmp_path):
    path = write_packets(tmp_path / "a.mkv", [(2.0, scale(2))], "pcm_s16le")
    np.testing.assert_allclose(decode_audio(path, 0.0, None, LIMITS), scale(2), atol=1e-4)


@pytest.mark.parametrize("span", [(0.0, 6.0), (1.5, 6.0), (0.0, 3.5), (2.5, 3.5), (4.5, 6.0)])
def test_a_hole_is_silence_and_what_follows_stays_in_place(tmp_path, span):
    tones = scale(4)
    path = write_packets(tmp_path / "a.mkv", [(0.0, tones[: 2 * RATE]), (4.0, tones[2 * RATE :])], "pcm_s16le")
    waveform = decode_audio(path, *span, LIMITS)
    assert len(waveform) == round((span[1] - span[0]) * RATE)
    expected = {0: 0, 1: 1, 2: None, 3: None, 4: 2, 5: 3}
    for step in range(int((span[1] - span[0]) * 2)):
        at_s = span[0] + step / 2
        assert heard(waveform, step / 2) == expected[int(at_s)], at_s


def test_a_span_that_ends_in_a_hole_is_as_long_as_asked(tmp_path):
    tones = scale(2)
    path = write_packets(tmp_path / "a.mkv", [(0.0, tones[:RATE]), (4.0, tones[RATE:])], "pcm_s16le")
    waveform = decode_audio(path, 0.0, 3.0, LIMITS)
    assert len(waveform) == 3 * RATE and heard(waveform, 1.0) is None


def test_rounded_time_stamps_leave_no_seams(tmp_path):
    # Matroska stores milliseconds; packets of 20 ms + 1 sample are never a whole number of them.
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype("f4")
    path = tmp_path / "a.mkv"
    with av.open(path, "w") as container:
        sound = container.add_stream("pcm_s16le", rate=RATE)
        sound.layout = "mono"
        for at in range(0, len(tone), 321):
            frame = av.AudioFrame.from_ndarray(
                (tone[None, at : at + 321] * 32767).astype("i2"), format="s16", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    np.testing.assert_allclose(decode_audio(path, 0.0, None, LIMITS), tone, atol=1e-4)


def test_overlapping_sound_is_heard_once():
    # Seconds 0 and 1, then half of second 1 again before second 2, each stretch stamped with its own time.
    tones = scale(3)
    tape = Tape(0.0)
    for begin, end in ((0, 2 * RATE), (RATE + RATE // 2, 3 * RATE)):
        for at in range(begin, end, 320):
            frame = av.AudioFrame.from_ndarray(tones[None, at : at + 320], format="flt", layout="mono")
            frame.sample_rate = RATE
            tape.add(at / RATE, frame)
    np.testing.assert_allclose(tape.play(0.0, 3.0, RATE), tones, atol=1e-6)


@pytest.mark.parametrize("suffix", ["ts", "mp3", "aac", "mp2", "ogg", "ac3"])
def test_files_joined_end_to_end_go_on(tmp_path, suffix):
    # Time stamps start anew in the second half.
    codec = {"ts": "mp2", "mp3": "libmp3lame", "aac": "aac", "mp2": "mp2", "ogg": "libopus", "ac3": "ac3"}[suffix]
    parts = []
    for number, part in enumerate((scale(5)[: 3 * RATE], scale(5)[3 * RATE :])):
        path = tmp_path / f"{number}.{suffix}"
        write_mono(path, part, codec, 48000 if codec in ("libopus", "ac3") else RATE)
        parts.append(path.read_bytes())
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(parts))
    waveform = decode_audio(joined, 0.0, None, LIMITS)
    assert [heard(waveform, at + 0.25) for at in range(5)] == [0, 1, 2, 3, 4]
    assert heard(decode_audio(joined, 4.0, 5.0, LIMITS), 0.25) == 4


def write_mono(path: Path, samples: np.ndarray, codec: str, rate_hz: int = RATE, **options: str) -> Path:
    """Encode mono sound given at 16 kHz, raised to another rate by repeating samples."""
    samples = np.repeat(samples, rate_hz // RATE)
    with av.open(path, "w", options=options) as container:
        sound = container.add_stream(codec, rate=rate_hz)
        sound.layout = "mono"
        for at in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024].astype("f4"), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, at, Fraction(1, rate_hz)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


# Where the encoder's delay is told (edit list, skipped samples, pre-skip) it is taken away to the sample; the others
# stay as a player hears them. Codec, container, rate, most samples late.
CODECS = [
    ("aac", "m4a", 48000, 2),
    ("aac", "mkv", 48000, 20),
    ("libopus", "webm", 48000, 20),
    ("libopus", "ogg", 48000, 6),
    ("libopus", "mp4", 48000, 6),
    ("libmp3lame", "mp3", 16000, 2),
    ("libmp3lame", "mkv", 48000, 20),
    ("flac", "flac", 16000, 0),
    ("alac", "m4a", 16000, 0),
    ("wavpack", "wv", 16000, 0),
    ("tta", "tta", 16000, 0),
    ("pcm_s16le", "w64", 16000, 0),
    ("pcm_s16be", "aiff", 16000, 0),
    ("pcm_s16be", "au", 16000, 0),
    ("pcm_s16le", "caf", 16000, 0),
    ("pcm_s16le", "rf64.wav", 16000, 0),
    ("aac", "aac", 48000, 350),
    ("mp2", "mp2", 48000, 200),
    ("ac3", "ac3", 48000, 100),
    ("eac3", "eac3", 48000, 100),
    ("pcm_mulaw", "wav", 16000, 0),
    ("pcm_alaw", "au", 16000, 0),
    ("adpcm_ima_wav", "wav", 16000, 0),
]


@pytest.mark.parametrize(("codec", "suffix", "rate_hz", "late"), CODECS)
@pytest.mark.parametrize("start_s", [0.0, 2.3, 5.7])
def test_codecs_do_not_shift_sound(tmp_path, codec, suffix, rate_hz, late, start_s):
    # A click every half second; its place tells the shift.
    clicks = np.zeros(7 * RATE, np.float32)
    for number in range(1, 14):
        clicks[number * RATE // 2 : number * RATE // 2 + 8] = 0.8
    options = {"rf64": "always"} if suffix == "rf64.wav" else {}
    path = write_mono(tmp_path / f"a.{suffix}", clicks, codec, rate_hz, **options)
    waveform = np.abs(decode_audio(path, start_s, start_s + 1.0, LIMITS))
    first = np.ceil((start_s + 0.01) * 2) / 2 - start_s
    at = round(first * RATE)
    window = waveform[max(0, at - 400) : at + 3000]
    early = 20 if suffix == "mkv" else 6  # Matroska rounds to milliseconds
    assert -early <= int(np.argmax(window)) - min(at, 400) - 4 <= late + 6


# --- channels, formats, rates --------------------------------------------------------------------------------


def write_raw(path: Path, samples: np.ndarray, codec: str) -> Path:
    """Write samples (S, C) as PCM with as many channels, tone k times (k + 1) in channel k."""
    channels = samples.shape[1]
    fmt = {
        "pcm_s16le": ("s16", 2**15),
        "pcm_s32le": ("s32", 2**31),
        "pcm_f32le": ("flt", 1),
        "pcm_f64le": ("dbl", 1),
        "pcm_u8": ("u8", 2**7),
        "pcm_s24le": ("s32", 2**31),
        "pcm_s64le": ("s64", 2**63),
    }[codec]
    kinds = {"s16": "<i2", "s32": "<i4", "flt": "<f4", "dbl": "<f8", "u8": "u1", "s64": "<i8"}
    scaled = samples.astype("f8") * fmt[1] * (0.999 if fmt[1] > 1 else 1) + (128 if fmt[0] == "u8" else 0)
    data = scaled.astype(kinds[fmt[0]])
    if codec == "pcm_s24le":
        content = data[..., None].view("u1").reshape(*data.shape, 4)[..., 1:].tobytes()
    else:
        content = data.tobytes()
    bits = {"s16": 16, "s32": 32, "flt": 32, "dbl": 64, "u8": 8, "s64": 64}[fmt[0]] if codec != "pcm_s24le" else 24
    tag = 3 if fmt[0] in ("flt", "dbl") else 1
    path.write_bytes(riff(wave_format(tag, channels, bits), content))
    return path


def wave_format(tag: int, channels: int, bits: int, rate_hz: int = RATE, extra: bytes = b"") -> bytes:
    block = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits) + extra


def riff(
    fmt: bytes,
    data: bytes,
    riff_size: int | None = None,
    data_size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", len(data) if data_size is None else data_size) + data + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 7, 8, 9, 12, 16, 24, 32, 64])
@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_any_number_of_channels_is_averaged(tmp_path, channels, codec):
    # Channel k holds the tone of second k % 8, so that each counts; the average is worked out here.
    samples = np.stack([scale(1) if k == 0 else np.roll(scale(1), 97 * k) for k in range(channels)], 1)[: RATE // 2]
    path = write_raw(tmp_path / "a.wav", samples, codec)
    atol = 0.01 if codec == "pcm_u8" else 6e-4
    np.testing.assert_allclose(decode_audio(path, 0.0, None, LIMITS), samples.mean(1), atol=atol)


LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "7.1")


@pytest.mark.parametrize(
    ("codec", "suffix", "kind", "layouts"),
    [
        ("flac", "flac", "s16", LAYOUTS),
        ("aac", "m4a", "fltp", LAYOUTS),
        ("wavpack", "wv", "fltp", LAYOUTS),
        ("libopus", "mkv", "flt", ("mono", "stereo", "quad", "5.0", "5.1", "7.1")),
        ("alac", "m4a", "s16p", ("mono", "stereo", "5.0", "5.1")),
        ("ac3", "ac3", "fltp", ("mono", "stereo", "2.1", "quad", "5.0", "5.1")),
    ],
)
def test_planar_codecs_of_all_layouts_are_averaged(tmp_path, codec, suffix, kind, layouts):
    for layout in layouts:
        check_layout(tmp_path / f"{layout}.{suffix}", codec, kind, layout)


def check_layout(path: Path, codec: str, kind: str, layout: str) -> None:
    count = av.AudioLayout(layout).nb_channels
    tone = np.repeat(scale(1), 3)
    with av.open(path, "w") as container:
        sound = container.add_stream(codec, rate=48000)
        sound.layout = layout
        to_kind = av.AudioResampler(format=kind)
        for at in range(0, len(tone), 960):
            data = np.repeat(tone[at : at + 960], count)[None].astype("f4")
            frame = av.AudioFrame.from_ndarray(data, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
            (frame,) = to_kind.resample(frame)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    waveform = decode_audio(path, 0.0, None, LIMITS)
    assert abs(len(waveform) - RATE) < RATE // 8 and heard(waveform, 0.2) == 0
    # All channels alike: the average is the tone itself, except that codecs leave little of it in the bass channel.
    level = np.sqrt(np.mean(waveform[4000:12000] ** 2))
    assert level == pytest.approx(
        0.3 / np.sqrt(2), rel=0.5 if ".1" in layout and codec in ("aac", "libopus", "ac3") else 0.05
    )


@pytest.mark.parametrize("rate_hz", [1000, 8000, 11025, 44100, 96000, 192000])
def test_every_rate_within_reason_is_taken(tmp_path, rate_hz):
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(rate_hz) / rate_hz)
    (tmp_path / "a.wav").write_bytes(riff(wave_format(1, 1, 16, rate_hz), (tone * 32767).astype("<i2").tobytes()))
    waveform = decode_audio(tmp_path / "a.wav", 0.0, None, LIMITS)
    assert len(waveform) == RATE
    assert np.abs(np.fft.rfft(waveform)).argmax() == 200


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_rates_beyond_reason_are_named(tmp_path, rate_hz):
    header = struct.pack("<HHIIHH", 1, 1, rate_hz, 0, 2, 16)
    (tmp_path / "a.wav").write_bytes(riff(header, bytes(32000)))
    with pytest.raises(MediaError, match=f"its header says {rate_hz} Hz, want 1000 to 768000"):
        decode_audio(tmp_path / "a.wav", 0.0, None, LIMITS)


def test_a_rate_that_changes_on_the_way_is_followed(tmp_path):
    parts = [
        write_mono(tmp_path / f"{rate}.aac", scale(5)[at : at + 2 * RATE], "aac", rate).read_bytes()
        for rate, at in ((16000, 0), (48000, 2 * RATE))
    ]
    (tmp_path / "a.aac").write_bytes(b"".join(parts))
    waveform = decode_audio(tmp_path / "a.aac", 0.0, None, LIMITS)
    assert [heard(waveform, at + 0.25) for at in range(4)] == [0, 1, 2, 3]


def test_what_is_no_number_is_silence(tmp_path):
    samples = np.full((RATE, 1), 0.25)
    samples[100:200], samples[300], samples[400] = np.nan, np.inf, -1e30
    waveform = decode_audio(write_raw(tmp_path / "a.wav", samples, "pcm_f64le"), 0.0, None, LIMITS)
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    assert (waveform[100:200] == 0).all() and waveform[300] == 1 and waveform[400] == -1


# --- length --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 50, 160, 200, 399])
def test_less_than_a_window_of_sound_is_refused(tmp_path, samples):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(wave_format(1, 1, 16), bytes(2 * samples)))
    with pytest.raises(MediaError, match=rf"holds 0.0\d* s of audio .*want at least {MIN_AUDIO_SECONDS} s"):
        decode_audio(path, 0.0, None, LIMITS)


def test_a_window_is_enough(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(wave_format(1, 1, 16), bytes(2 * 400)))
    assert len(decode_audio(path, 0.0, None, LIMITS)) == 400


def test_a_span_shorter_than_a_window_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(wave_format(1, 1, 16), bytes(2 * RATE)))
    with pytest.raises(MediaError, match=r"the span from 0.500 to 0.510 s is shorter than the 0.025 s"):
        decode_audio(path, 0.5, 0.51, LIMITS)
    with pytest.raises(MediaError, match=r"holds 0.0050 s of audio from 0.99 s on|holds 0.00\d+ s"):
        decode_audio(path, 0.995, None, LIMITS)


@pytest.mark.parametrize("start_s", [1.0, 5.0, 1e6])
def test_a_start_beyond_the_end_is_not_taken_for_a_cut_off_file(tmp_path, start_s):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(wave_format(1, 1, 16), bytes(2 * RATE)))
    with pytest.raises(MediaError, match=r"its audio ends at 1.00 s, start_s is") as caught:
        decode_audio(path, start_s, None, LIMITS)
    assert "cut off" not in str(caught.value)


EXTENSIBLE = [wave_format(0xFFFE, 1, 16, extra=struct.pack("<HHIH", 22, 16, mask, 1) + GUID_TAIL) for mask in (4, 0)]
TONE = (scale(1) * 32767).astype("<i2").tobytes()
MONO = wave_format(1, 1, 16)
DS64 = b"ds64" + struct.pack("<IQQQI", 28, 80 + len(TONE), len(TONE), RATE, 0)
RF64 = b"RF64" + b"\xff" * 4 + b"WAVE" + DS64 + b"fmt " + struct.pack("<I", 16) + MONO + b"data" + b"\xff" * 4 + TONE


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(riff(MONO, TONE, 0), id="RIFF size 0"),
        pytest.param(riff(MONO, TONE, None, 0), id="data size 0"),
        pytest.param(riff(MONO, TONE, 36, 0), id="never finalised"),
        pytest.param(riff(MONO, TONE, 2**32 - 1, 2**32 - 1), id="both unknown"),
        pytest.param(riff(MONO, TONE, None, 2**32 - 1), id="data unknown"),
        pytest.param(riff(MONO, TONE, 2**31 - 1, 2**31 - 37), id="sox into a pipe"),
        pytest.param(riff(MONO, TONE, 2**32 - 1 - 8, 2**32 - 1 - 44), id="just below the largest"),
        pytest.param(riff(MONO, TONE, before=b"JUNK" + struct.pack("<I", 28) + bytes(28)), id="JUNK"),
        pytest.param(riff(MONO, TONE, before=b"bext" + struct.pack("<I", 602) + bytes(602)), id="bext"),
        pytest.param(riff(MONO, TONE, before=b"LIST" + struct.pack("<I", 5) + b"INFO\0\0"), id="odd chunk, padded"),
        pytest.param(riff(MONO, TONE, after=b"LIST" + struct.pack("<I", 4) + b"INFO"), id="LIST behind"),
        pytest.param(riff(MONO, TONE) + b"ID3 and other things behind", id="more behind"),
        pytest.param(riff(EXTENSIBLE[0], TONE), id="extensible"),
        pytest.param(riff(EXTENSIBLE[1], TONE), id="no mask"),
        pytest.param(RF64, id="RF64"),
        pytest.param(riff(MONO, TONE)[:-1], id="a byte short"),
    ],
)  # fmt: skip
def test_wav_headers_of_all_sorts(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    waveform = decode_audio(path, 0.0, None, LIMITS)
    assert abs(len(waveform) - RATE) <= 16 and heard(waveform, 0.2) == 0
    np.testing.assert_allclose(waveform[: RATE - 32], scale(1)[: RATE - 32], atol=1e-4)
