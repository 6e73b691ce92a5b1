"""The clip cache: made once, keyed by content, never half-written, never in the way."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from epo.data.cache import ClipCache
from epo.data.dialogue import Clip


class Maker:
    """Makes arrays and counts how often it was asked."""

    def __init__(self, value: float = 1.0) -> None:
        self.calls = 0
        self.value = value

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        turned = np.arange(6, dtype=np.float32).reshape(2, 3).T  # not contiguous
        return {"mel": turned * np.float32(self.value), "frames": np.full((1, 2, 2, 3), 7, np.uint8)}


@pytest.fixture
def clip(tmp_path) -> Clip:
    (tmp_path / "a.wav").write_bytes(b"sound")
    (tmp_path / "v.mp4").write_bytes(b"pictures")
    return Clip(audio=tmp_path / "a.wav", video=tmp_path / "v.mp4")


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_arrays_are_made_once_and_come_back_equal(tmp_path, clip):
    make = Maker()
    first = ClipCache(tmp_path / "cache").load(clip, "s", make)
    again = ClipCache(tmp_path / "cache").load(clip, "s", make)
    assert make.calls == 1
    assert first.keys() == again.keys() == {"mel", "frames"}
    for name in first:
        assert again[name].dtype == first[name].dtype
        np.testing.assert_array_equal(again[name], first[name])


def test_without_a_folder_nothing_is_kept(tmp_path, clip):
    make = Maker()
    cache = ClipCache(None)
    cache.load(clip, "s", make)
    cache.load(clip, "s", make)
    assert make.calls == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "v.mp4"}


def test_the_key_is_content_span_and_settings(tmp_path, clip):
    make = Maker()
    cache = ClipCache(tmp_path / "cache")
    cache.load(clip, "s", make)
    cache.load(clip, "other settings", make)
    cache.load(Clip(clip.audio, clip.video, start_s=1.0), "s", make)
    cache.load(Clip(clip.audio, clip.video, end_s=1.0), "s", make)
    cache.load(Clip(clip.audio, None), "s", make)
    cache.load(Clip(None, clip.audio), "s", make)
    assert make.calls == 6
    copy = tmp_path / "copy.wav"
    copy.write_bytes(b"sound")
    cache.load(Clip(copy, clip.video), "s", make)
    assert make.calls == 6  # another name, the same content


def test_a_changed_file_is_noticed(tmp_path, clip):
    cache = ClipCache(tmp_path / "cache")
    cache.load(clip, "s", Maker(1.0))
    clip.audio.write_bytes(b"other")
    os.utime(clip.audio, ns=(0, 1))
    assert cache.load(clip, "s", Maker(2.0))["mel"][2, 1] == 10.0


@pytest.mark.parametrize("damage", [b"", b"\x00" * 50, b"half"])
def test_a_damaged_entry_is_made_anew(tmp_path, clip, damage):
    make = Maker()
    cache = ClipCache(tmp_path / "cache")
    cache.load(clip, "s", make)
    (entry,) = entries(tmp_path / "cache")
    entry.write_bytes(damage)
    assert cache.load(clip, "s", make)["mel"][2, 1] == 5.0
    cache.load(clip, "s", make)
    assert make.calls == 2


def test_a_failing_maker_leaves_nothing(tmp_path, clip):
    def fail() -> dict[str, np.ndarray]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        ClipCache(tmp_path / "cache").load(clip, "s", fail)
    assert not (tmp_path / "cache").exists()


def _fill(folder: Path, clip: Clip, seeds: list[int]) -> None:
    cache = ClipCache(folder)
    for seed in seeds:
        cache.load(clip, str(seed), lambda seed=seed: {"x": np.full(20000, seed)})


@pytest.mark.slow  # starting two interpreters takes seconds
def test_processes_share_a_folder(tmp_path, clip):
    spawn = multiprocessing.get_context("spawn")
    seeds = list(range(30))
    with spawn.Pool(2) as pool:
        pool.starmap(_fill, [(tmp_path / "cache", clip, seeds), (tmp_path / "cache", clip, seeds[::-1])])
    assert len(entries(tmp_path / "cache")) == 30  # and no partial file left
    cache = ClipCache(tmp_path / "cache")
    for seed in seeds:
        make = Maker()
        assert (cache.load(clip, str(seed), make)["x"] == seed).all()
        assert make.calls == 0
