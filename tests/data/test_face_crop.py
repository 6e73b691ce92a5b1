"""Cutting frames to the face: one square for all frames, with OpenCV's own cascade on real faces."""

from pathlib import Path

import numpy as np
import pytest

from epo.data import face_crop
from epo.data.cache import ClipCache
from epo.data.dialogue import Clip, DataError
from epo.data.face_crop import crop_to_face, open_detector
from epo.data.media import MediaLimits, decode_video

GRID = Path(__file__).parents[3] / "shared" / "data" / "grid"


def say(monkeypatch, *boxes):
    """Let the detector find one list of boxes after the other."""
    found = iter(boxes)
    monkeypatch.setattr(face_crop, "open_detector", lambda name: lambda frame: next(found))


@pytest.fixture
def frames():
    rows, columns = np.mgrid[0:100, 0:200].astype(np.uint8)
    return np.stack([np.stack([rows, columns, rows], axis=-1)] * 3)


def test_one_square_around_the_median_of_the_largest_faces(monkeypatch, frames):
    say(monkeypatch, [(50, 20, 40, 40), (0, 0, 9, 9)], [(52, 20, 40, 40)], [(150, 60, 40, 40)])
    cut = crop_to_face(frames, "any")
    # Median box (52, 20, 40, 40), a quarter more on each side: 60 pixels from column 42 and row 10 on.
    assert cut.shape == (3, 60, 60, 3)
    assert (cut[:, 0, 0, :2] == (10, 42)).all() and (cut[:, -1, -1, :2] == (69, 101)).all()


def test_frames_without_a_face_do_not_count_and_none_at_all_leaves_everything(monkeypatch, frames):
    say(monkeypatch, [], [(60, 30, 20, 20)], [])
    assert crop_to_face(frames, "any").shape == (3, 30, 30, 3)
    say(monkeypatch, [], [], [])
    assert crop_to_face(frames, "any") is frames


def test_a_face_at_the_edge_stays_inside_the_picture(monkeypatch, frames):
    say(monkeypatch, *[[(170, 60, 40, 60)]] * 3)
    assert crop_to_face(frames, "any").shape == (3, 90, 90, 3)
    say(monkeypatch, *[[(-5, -5, 95, 95)]] * 3)
    assert crop_to_face(frames, "any").shape == (3, 100, 100, 3)


def test_an_unknown_detector_is_refused_with_what_there_is():
    with pytest.raises(DataError, match=r"face_detector 'nobody'.*haarcascade_frontalface_default"):
        open_detector("nobody")
    with pytest.raises(DataError, match=r"yunet\.onnx"):
        open_detector("yunet.onnx")


@pytest.mark.skipif(not GRID.is_dir(), reason="wants the real face videos of shared/data/grid beside the checkout")
def test_real_faces_are_found(reader, tmp_path):
    videos = sorted(GRID.glob("*.mpg"))
    limits = MediaLimits(max_frames=4)
    shapes = []
    for video in videos:
        whole = decode_video(video, 0.0, None, limits)
        shapes.append(crop_to_face(whole, "haarcascade_frontalface_default").shape)
    # 360 x 288 pictures of one speaker each, whose head fills about half the height.
    assert all(side == other and 100 <= side <= 288 for _, side, other, _ in shapes)
    cropping = type(reader)(**vars(reader) | {"face_detector": "haarcascade_frontalface_default"})
    clip, cache = Clip(video=videos[0]), ClipCache(tmp_path)
    assert not np.array_equal(reader.read(clip, cache).video, cropping.read(clip, cache).video)
