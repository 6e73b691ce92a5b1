"""Decoding against plain PyAV on the same files: clips a second of processor time, and their ratio.

    python benchmarks/decoding.py [--media FOLDER] [--clips 60] [--rounds 5]

Without a folder a few clips of the built-in corpus are written first. Plain PyAV is what one would write in ten lines:
decode everything, resample to 16 kHz mono, keep every n-th frame as RGB. Ours also bounds time, number and size of
what it takes, turns frames upright, places sound and frames by their time stamps, finds where the stream really ends
and notices files that are cut off. The two take turns and the best round of each counts, in processor time, so that
a busy machine matters little.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.media import MediaLimits, decode_audio, decode_video

VIDEO, AUDIO = (".mp4", ".mpg", ".avi", ".mkv", ".mov", ".webm"), (".wav", ".flac", ".mp3", ".ogg", ".m4a")
LIMITS = MediaLimits()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, help="folder with audio and video files")
    parser.add_argument("--clips", type=int, default=60, help="files of each kind, at most")
    parser.add_argument("--rounds", type=int, default=5, help="times each file is decoded by each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.media is None:
            write_builtin_corpus(
                Path(folder),
                BuiltinCorpus(
                    num_train=options.clips, num_train_with_clips=options.clips, num_validation=0, num_test=0
                ),
            )
        files = sorted(path for path in (options.media or Path(folder)).rglob("*") if path.is_file())
        audio = [path for path in files if path.suffix.lower() in AUDIO][: options.clips]
        video = [path for path in files if path.suffix.lower() in VIDEO][: options.clips]
        report = {
            kind: compare(paths, ours, plain, options.rounds)
            for kind, paths, ours, plain in (
                ("audio", audio, lambda path: decode_audio(path, 0.0, None, LIMITS), plain_audio),
                ("video", video, lambda path: decode_video(path, 0.0, None, LIMITS), plain_video),
            )
            if paths
        }
    print(json.dumps(report, indent=2))


def compare(
    paths: list[Path], ours: Callable[[Path], np.ndarray], plain: Callable[[Path], np.ndarray], rounds: int
) -> dict[str, float]:
    """Time both on all files in turns; the ratio is above 1 where ours is faster."""
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for path in paths:  # once beforehand, so that both find the file in memory
        ours(path), plain(path)
    for _ in range(rounds):
        for name, decode in (("ours", ours), ("plain", plain)):
            start = time.process_time()
            for path in paths:
                decode(path)
            seconds[name].append(time.process_time() - start)
    best = {name: min(values) for name, values in seconds.items()}
    return {
        "files": len(paths),
        "clips_per_second": round(len(paths) / best["ours"], 1),
        "plain_clips_per_second": round(len(paths) / best["plain"], 1),
        "ratio": round(best["plain"] / best["ours"], 3),
    }


def plain_audio(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        container.streams.audio[0].codec_context.thread_count = 1
        resampler = av.AudioResampler(format="flt", layout="mono", rate=16000)
        pieces = [
            piece.to_ndarray()[0] for frame in [*container.decode(audio=0), None] for piece in resampler.resample(frame)
        ]
    return np.concatenate(pieces)


def plain_video(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        step = max(1, round(float(stream.average_rate) / LIMITS.video_fps))
        frames = [f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(stream)) if i % step == 0]
    return np.stack(frames[: LIMITS.max_frames])


if __name__ == "__main__":
    main()
