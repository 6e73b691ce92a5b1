"""Pictures as a viewer sees them: upright, unmirrored, square pixels, one field, right colours, over black."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epo.data.media import MediaLimits, decode_video

LIMITS = MediaLimits()
# Rec. 601 and 709 with full and limited range give these back within rounding.
COLOURS = ((200, 30, 40), (30, 180, 60), (40, 50, 210), (235, 235, 235), (16, 16, 16), (128, 128, 128))


def write(
    path: Path, pictures, codec="ffv1", pix_fmt="yuv420p", source="rgb24", prepare=None, frame_options=None
) -> Path:
    """Write one picture every tenth of a second, as exactly as the codec can."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if codec == "libx264":
            stream.options = {"crf": "1"}
        if prepare is not None:
            prepare(stream)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=source)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            if frame_options is not None:
                frame = frame_options(frame)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def plain(colour, height=48, width=64, channels=3) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, channels)).copy()


def corners(frame: np.ndarray) -> list[tuple[int, int]]:
    return [at for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)) if frame[at].mean() > 128]


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le", "yuv422p16le", "bgr0", "gbrp10le"]
)
@pytest.mark.parametrize("colour", COLOURS)
def test_colours_come_out_of_every_pixel_format(tmp_path, pix_fmt, colour):
    path = write(tmp_path / "v.mkv", [plain(colour)] * 2, pix_fmt=pix_fmt)
    frame = decode_video(path, 0, None, LIMITS)[0]
    assert frame.shape == (48, 64, 3)
    np.testing.assert_allclose(frame.mean((0, 1)), colour, atol=4)


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray16le"])
@pytest.mark.parametrize("level", [0, 20, 128, 255])
def test_grey_pictures_are_of_full_range(tmp_path, pix_fmt, level):
    path = write(tmp_path / "v.mkv", [plain((level,) * 3)] * 2, pix_fmt=pix_fmt)
    np.testing.assert_allclose(decode_video(path, 0, None, LIMITS)[0].mean(), level, atol=4)


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("colour", COLOURS)
def test_full_range_is_not_stretched(tmp_path, container, colour):
    path = write(tmp_path / f"v.{container}", [plain(colour)] * 2, codec="mjpeg", pix_fmt="yuvj444p")
    np.testing.assert_allclose(decode_video(path, 0, None, LIMITS)[0].mean((0, 1)), colour, atol=5)


@pytest.mark.parametrize("colour", COLOURS)
def test_the_matrix_that_the_stream_names_is_used(tmp_path, colour):
    def name_709(frame):
        frame = frame.reformat(format="yuv444p", dst_colorspace="ITU709")
        frame.colorspace = 1
        return frame

    def tag(stream):
        stream.codec_context.colorspace = 1

    path = write(
        tmp_path / "v.mp4", [plain(colour)] * 2, codec="libx264", pix_fmt="yuv444p", prepare=tag, frame_options=name_709
    )
    np.testing.assert_allclose(decode_video(path, 0, None, LIMITS)[0].mean((0, 1)), colour, atol=4)


def test_transparent_pictures_are_shown_over_black(tmp_path):
    picture = np.concatenate([plain((250, 250, 250, 255), channels=4), plain((250, 250, 250, 0), channels=4)], axis=1)
    path = write(tmp_path / "v.mkv", [picture] * 2, pix_fmt="bgra", source="rgba")
    frame = decode_video(path, 0, None, LIMITS)[0]
    assert frame[:, :60].min() >= 246 and frame[:, 68:].max() <= 4


def test_gifs_are_taken(tmp_path):
    path = write(tmp_path / "v.gif", [plain((200, 30, 40)), plain((30, 180, 60))] * 5, codec="gif", pix_fmt="rgb8")
    frames = decode_video(path, 0, None, MediaLimits(video_fps=10, max_frames=20))
    assert frames.shape == (10, 48, 64, 3)
    assert np.argmax(frames[0].mean((0, 1))) == 0 and np.argmax(frames[1].mean((0, 1))) == 1


@pytest.mark.parametrize(
    ("ratio", "shape"),
    [((16, 11), (48, 93)), ((2, 1), (48, 128)), ((1, 2), (96, 64)), ((1, 1), (48, 64)), ((1000, 1), (48, 64))],
)
@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_pixels_are_made_square(tmp_path, container, ratio, shape):
    def stretch(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(*ratio)

    # A circle of radius 16 as it looks on screen, squeezed as it is stored.
    y, x = np.mgrid[0:48, 0:64]
    squeeze = ratio[0] / ratio[1] if ratio[0] < 1000 else 1.0
    circle = (((x - 31.5) * max(1.0, squeeze)) ** 2 + ((y - 23.5) * max(1.0, 1 / squeeze)) ** 2 < 16**2) * np.uint8(255)
    path = write(tmp_path / f"v.{container}", [np.repeat(circle[..., None], 3, 2)] * 2, codec="mpeg4", prepare=stretch)
    frame = decode_video(path, 0, None, LIMITS)[0]
    assert frame.shape == (*shape, 3)
    inside = frame.mean(2) > 128
    assert abs(int(inside.any(0).sum()) - int(inside.any(1).sum())) <= 3


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((-1, 0, 0, 1), (0, -1)),  # left and right exchanged: the white corner goes from top left to top right
        ((1, 0, 0, -1), (-1, 0)),  # top and bottom exchanged
        ((0, 1, 1, 0), (0, 0)),  # mirrored at the diagonal
        ((0, -1, -1, 0), (-1, -1)),  # and at the other
    ],
)
def test_mirrored_video_is_shown_as_players_do(tmp_path, matrix, corner):
    picture = plain((0, 0, 0), 32, 64)
    picture[:16, :16] = 255
    path = write(tmp_path / "v.mp4", [picture] * 2, codec="libx264")
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(
        ">9i", *(v << 16 for v in matrix[:2]), 0, *(v << 16 for v in matrix[2:]), 0, 0, 0, 1 << 30
    )
    path.write_bytes(content)
    frame = decode_video(path, 0, None, LIMITS)[0]
    assert frame.shape == ((64, 32, 3) if matrix[0] == 0 else (32, 64, 3))
    assert corners(frame) == [corner]


@pytest.mark.parametrize(("degrees", "quarter"), [(3, 0), (87, 1), (100, 1), (181, 2), (268, 3)])
def test_other_angles_go_to_the_nearest_quarter(tmp_path, degrees, quarter):
    picture = plain((0, 0, 0), 32, 64)
    picture[:16, :16] = 255
    path = write(tmp_path / "v.mp4", [picture] * 2, codec="libx264")
    cosine, sine = (round(f(np.radians(degrees)) * 65536) for f in (np.cos, np.sin))
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    expected = {0: (0, 0), 1: (0, -1), 2: (-1, -1), 3: (-1, 0)}[quarter]  # clockwise
    assert corners(decode_video(path, 0, None, LIMITS)[0]) == [expected]


@pytest.mark.parametrize(
    ("codec", "options"), [("mpeg2video", {"flags": "+ildct+ilme"}), ("libx264", {"x264-params": "tff=1:crf=1"})]
)
def test_interlaced_pictures_show_one_moment(tmp_path, codec, options):
    comb = plain((0, 0, 0), 64, 64)
    comb[0::2] = 220  # the top field is of a bright moment, the bottom field of a dark one

    def prepare(stream):
        stream.options = options
        stream.bit_rate = 4_000_000

    path = write(tmp_path / "v.mkv", [comb] * 10, codec=codec, prepare=prepare)
    with av.open(path) as container:
        assert next(container.decode(video=0)).interlaced_frame
    frames = decode_video(path, 0, None, LIMITS)
    assert frames.shape == (4, 64, 64, 3)
    assert abs(frames.astype(int) - 220).max() < 25


def test_progressive_lines_stay(tmp_path):
    lines = plain((0, 0, 0), 64, 64)
    lines[0::4] = lines[1::4] = 220
    frame = decode_video(write(tmp_path / "v.mkv", [lines] * 2, pix_fmt="yuv444p"), 0, None, LIMITS)[0]
    np.testing.assert_allclose(frame, lines, atol=4)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (47, 63), (2, 640)])
def test_odd_sizes_are_kept(tmp_path, size):
    path = write(tmp_path / "v.mkv", [plain((200, 30, 40), *size)] * 2, pix_fmt="bgr0")
    frame = decode_video(path, 0, None, LIMITS)[0]
    assert frame.shape == (*size, 3)
    np.testing.assert_allclose(frame.mean((0, 1)), (200, 30, 40), atol=4)


def test_a_change_of_size_is_fitted_into_the_first(tmp_path):
    # Two H.264 streams one after the other: 64x32 white, then 32x64 white, as of a telephone that is turned.
    parts = []
    for name, size in (("a", (32, 64)), ("b", (64, 32))):
        path = write(tmp_path / f"{name}.h264", [plain((255, 255, 255), *size)] * 10, codec="libx264")
        parts.append(path.read_bytes())
    joined = tmp_path / "v.h264"
    joined.write_bytes(b"".join(parts))
    frames = decode_video(joined, 0, None, MediaLimits(video_fps=10, max_frames=100))
    assert frames.shape == (20, 32, 64, 3)
    assert frames[0].min() > 240
    last = frames[-1]
    assert last[:, 26:38].min() > 240  # 16 wide in the middle
    assert last[:, :20].max() < 10 and last[:, 44:].max() < 10
