"""Damage media files in every way and decode them: nothing may crash, hang or raise anything but a MediaError.

    python benchmarks/fuzz_media.py [--files 2000] [--workers 2] [--seed 0] [--seconds 20]

A dozen tiny files of different containers are made, and each is checked first: a tone for every second of sound, a
grey level for every moment of video. Then copies of them are damaged (bits flipped, stretches overwritten, cut, moved,
repeated or removed, numbers of the header changed) and decoded in worker processes of their own, so that a worker that
dies or takes too long is counted, and its file is named and kept. Prints JSON.
"""

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.dialogue import Clip
from epo.data.examination import examine_clip
from epo.data.media import MediaError, MediaLimits, decode_clip
from epo.data.probe import probe_media

sys.path.insert(0, str(Path(__file__).parent))  # also where this file is imported, and in the workers
from fuzz_seeds import check_seed, make_seeds  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="longest that one file may take")
    parser.add_argument("--keep", type=Path, help="folder for the files that crash, hang or raise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(fuzz(Path(folder), options), indent=2))


def fuzz(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make, damage and decode; returns the counts, and the names of the files at fault."""
    seeds = make_seeds(folder)
    wrong = [fault for seed in seeds for fault in check_seed(seed)]
    began = time.monotonic()
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    running: list[_Worker] = [_Worker() for _ in range(options.workers)]
    jobs = iter(range(options.files))
    slowest = 0.0
    is_done = False
    while not is_done or any(worker.path for worker in running):
        for at, worker in enumerate(running):
            if worker.path is None:
                number = next(jobs, None)
                is_done = number is None
                if number is not None:
                    worker.start(_damaged(folder, seeds, options.seed, number))
                continue
            outcome = worker.poll(options.seconds)
            if outcome is None:
                continue
            outcomes[outcome.split(":")[0]] += 1
            slowest = max(slowest, worker.took_s)
            if outcome not in ("decoded", "refused"):
                faults.append(f"{worker.path.name}: {outcome}")
                if options.keep is not None:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / worker.path.name).write_bytes(worker.path.read_bytes())
            worker.path.unlink()
            worker.path = None
            if not worker.is_alive:
                running[at] = _Worker()
        time.sleep(0.001)
    for worker in running:
        worker.stop()
    return {
        "files": sum(outcomes.values()),
        "seeds": [seed.name for seed in seeds],
        "wrong_seeds": wrong,
        "outcomes": dict(outcomes),
        "faults": faults,
        "slowest_s": round(slowest, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def damage(content: bytes, source: random.Random) -> bytes:
    """Return a copy with one to four damages."""
    data = bytearray(content)
    for _ in range(source.randint(1, 4)):
        if not data:
            break
        kind = source.choice(("bits", "bytes", "cut", "move", "repeat", "remove", "number", "number"))
        # Headers stand at the beginning, and the index often at the end: half of the damage goes there.
        span = source.choice((min(512, len(data)), len(data)))
        at = source.randrange(span) if source.random() < 0.7 else len(data) - 1 - source.randrange(span)
        length = source.randint(1, 64)
        if kind == "bits":
            for _ in range(source.randint(1, 16)):
                data[source.randrange(len(data))] ^= 1 << source.randrange(8)
        elif kind == "bytes":
            data[at : at + length] = source.randbytes(length)
        elif kind == "cut":
            del data[source.randrange(len(data)) :]
        elif kind == "move":
            part = bytes(data[at : at + length * 8])
            del data[at : at + length * 8]
            target = source.randrange(len(data) + 1)
            data[target:target] = part
        elif kind == "repeat":
            data[at:at] = data[at : at + length * 8] * source.randint(1, 4)
        elif kind == "remove":
            del data[at : at + length]
        else:
            width = source.choice((1, 2, 4, 8))
            value = source.choice((0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1))
            order = source.choice(("little", "big"))
            data[at : at + width] = (value % 256**width).to_bytes(width, order)
    return bytes(data)


def decode_everything(path: Path) -> str:
    """Probe, decode and examine a file, whole and a span of it; returns `decoded`, `refused` or what went wrong."""
    outcome = "refused"
    for clip in (Clip(audio=path), Clip(video=path), Clip(audio=path, video=path, start_s=5.0, end_s=6.5)):
        try:
            media = decode_clip(clip, MediaLimits())
            if media.waveform is not None and not 0 < len(media.waveform) <= 30 * 16000:
                return f"wrong: {len(media.waveform)} samples"
            if media.frames is not None and not 0 < len(media.frames) <= 8:
                return f"wrong: {len(media.frames)} frames"
            outcome = "decoded"
        except MediaError as error:
            if not str(error).startswith(f"{path}: "):
                return f"wrong: message without its file, {error}"
        except BaseException as error:  # anything else is what is looked for
            return f"raised: {type(error).__name__}: {error}"
    try:
        examine_clip(Clip(audio=path, video=path), MediaLimits())
        probe_media(path)
    except MediaError:
        pass
    except BaseException as error:
        return f"raised: {type(error).__name__}: {error}"
    return outcome


def _damaged(folder: Path, seeds: list[Path], seed: int, number: int) -> Path:
    source = random.Random(f"{seed}-{number}")
    origin = seeds[number % len(seeds)]
    path = folder / f"damaged-{number}{origin.suffix}"
    path.write_bytes(damage(origin.read_bytes(), source))
    return path


class _Worker:
    """A process that decodes the files it is sent and may die of one."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._ours, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self.path: Path | None = None
        self.is_alive, self.took_s, self._began = True, 0.0, 0.0
        self._ours.recv()  # ready: starting does not count as decoding

    def start(self, path: Path) -> None:
        self.path, self._began = path, time.monotonic()
        self._ours.send(path)

    def poll(self, limit_s: float) -> str | None:
        """Return how it went, None while it runs."""
        self.took_s = time.monotonic() - self._began
        try:
            if self._ours.poll():
                return str(self._ours.recv())
        except (EOFError, ConnectionResetError):
            pass
        if not self._process.is_alive():
            self.is_alive = False
            return f"crashed: exit {self._process.exitcode}"
        if self.took_s > limit_s:
            self._process.kill()
            self._process.join()
            self.is_alive = False
            return f"hung: {self.took_s:.0f} s"
        return None

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection) -> None:
    pipe.send("ready")
    while True:
        pipe.send(decode_everything(pipe.recv()))


if __name__ == "__main__":
    main()
