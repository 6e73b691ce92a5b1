"""How fast `data check` reads clips, against the bare decoding of the same clips in as many processes.

    python benchmarks/checking.py --clips 10000

What the difference pays for: workers that may die, a record that survives, a report on every clip. Also printed: how
long a second check takes, which decodes nothing.
"""

import argparse
import functools
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from pathlib import Path

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.checking import LIMITS, check_file
from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.dialogue import Clip, read_dialogues
from epo.data.isolation import usable_cores
from epo.data.media import decode_clip


def main() -> None:
    """Write the clips, decode them bare, check them, check them again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=usable_cores())
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_clips(Path(folder), given.clips)
        clips = [turn.clip for dialogue in read_dialogues(path) for turn in dialogue.turns if turn.clip is not None]
        bare_s = seconds_of(functools.partial(decode_all, clips, given.workers))
        check_s = seconds_of(functools.partial(check_file, path, given.workers))
        again_s = seconds_of(functools.partial(check_file, path, given.workers))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"{len(clips)} clips, {given.workers} processes, peak memory {peak:.0f} MiB")
    print(f"bare decoding  {len(clips) / bare_s:7.1f} clips/s")
    print(f"check          {len(clips) / check_s:7.1f} clips/s, ratio {bare_s / check_s:.2f}")
    print(f"check again    {len(clips) / again_s:7.1f} clips/s")


def write_clips(folder: Path, count: int) -> Path:
    """Write a dialogues file of that many clips, copies of those of the built-in corpus."""
    few = BuiltinCorpus(num_train=30, num_train_with_clips=30, num_validation=0, num_test=0)
    write_builtin_corpus(folder / "seed", few)
    turns = [
        turn
        for dialogue in read_dialogues(folder / "seed" / "dialogues.jsonl")
        for turn in dialogue.turns
        if turn.clip is not None
    ]
    path = folder / "dialogues.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for number in range(count):
            clip = turns[number % len(turns)].clip
            assert clip is not None
            row = {}
            for kind, source in (("audio", clip.audio), ("video", clip.video)):
                if source is not None:
                    row[kind] = f"{number}-{kind}{source.suffix}"
                    shutil.copyfile(source, folder / row[kind])
            turn = {"speaker": "user", "text": "Hello.", "clip": row}
            out.write(json.dumps({"id": str(number), "turns": [turn]}) + "\n")
    return path


def decode_all(clips: list[Clip], workers: int) -> None:
    """Decode clips in a plain pool, as fast as it goes."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(functools.partial(_decode, limits=LIMITS), clips, chunksize=16):
            pass


def _decode(clip: Clip, limits: object) -> None:
    decode_clip(clip, limits)  # type: ignore[arg-type]


def seconds_of(task: "functools.partial[object]") -> float:
    """Run it once."""
    start_s = time.monotonic()
    task()
    return time.monotonic() - start_s


if __name__ == "__main__":
    main()
