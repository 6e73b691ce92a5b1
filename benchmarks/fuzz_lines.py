"""Mutated lines of dialogues and pairs: how many end in a fault, how many are read, and that nothing else happens.

    python benchmarks/fuzz_lines.py [--lines 20000] [--seed 0]

Each mutated file holds one mutated line between two sound ones. Reading it may end in a DataError and in nothing else;
the sound lines must be read as they are wherever faults are collected; check and training must say the same. Half of
the mutations change bytes, half a value. Prints counts.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.checking import check_file
from epo.data.dialogue import DataError, Dialogue, Turn, read_dialogues, write_dialogues
from epo.data.findings import CollectFaults
from epo.preferences.pair import read_pairs, write_pairs

TALK = {
    name: Dialogue(name, (Turn("user", "I lost it."), Turn("assistant", "I am sorry.", "sad")))
    for name in ("d0", "d1", "d2")
}
_TEXT = "It\u2019s caf\u00e9 \U0001f622, \u4f60\u597d"
_INSERTED = [
    b"\\ud83d", b"\\u200b", b"\\u0000", b"\x00", "\ufeff".encode(), "\u00c3\u00a9".encode(), b"\n", b"\r", b"\r\n",
    b"9" * 5000, b"NaN", b"-Infinity", b"1e999", b"[" * 2000, b'{"a":1,"a":2}', b'"id":"d0",', b"\x92", b"\xed\xa0\x80",
    b"\xff\xfe", "e\u0301".encode(), "\u202e".encode(), "\u2800".encode(), b"null", b"true", b'""', b"\\", b'"', b"}",
]  # fmt: skip
_SWAPS = [("\u2019", "\x92"), ("\u00e9", "e\u0301"), (" ", "\u00a0"), ("i", "\u200bi"), ('"', "\u201d"), ("so", "")]
_VALUES = [
    None, True, 0, -1, 1, 10**30, 0.5, float("inf"), float("nan"), "", " ", "\u200b", "\ud83d", "a\0b", "It\x92s",
    "caf\u00c3\u00a9", "e\u0301", "x" * 5000, "sad", "excited", "user", "train", [], {}, [[]], {"1": ["a"]},
    {"user": ["a"]}, {"audio": "a.wav"}, ["a", 3],
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000, help="mutated lines, half of them dialogues")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("dialogues", "pairs"):
            counts = fuzz(kind, options.lines // 2, random.Random(f"{options.seed} {kind}"), Path(folder))
            print(f"{kind}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    print(f"{time.monotonic() - started:.0f} s")


def fuzz(kind: str, num_lines: int, rng: random.Random, folder: Path) -> Counter[str]:
    """Read so many mutated lines of a kind; any error but a DataError, and any disagreement, ends the run."""
    path = folder / f"{kind}.jsonl"
    counts: Counter[str] = Counter()
    before, middle, after = (line_of(kind, name) for name in ("d0", "d1", "d2"))
    for _ in range(num_lines):
        mutated = mutate(middle, rng)
        path.write_bytes(before + mutated + b"\n" + after)
        try:
            counts[verdict(kind, path)] += 1
        except BaseException:
            print(f"{kind}: {mutated!r}", file=sys.stderr)
            raise
    return counts


def line_of(kind: str, name: str) -> bytes:
    """A sound line; the pair points into the dialogue of that name."""
    turns = [
        {"speaker": "user", "text": _TEXT, "emotion": "sad", "name": "Ada"},
        {"speaker": "assistant", "text": "I am sorry."},
    ]
    dialogue = {"id": name, "language": "en", "split": "train", "facts": {"1": ["sorry"]}, "turns": turns}
    pair = {
        "dialogue_id": name,
        "turn": 1,
        "chosen": _TEXT,
        "rejected": "So?",
        "source": "people",
        "scores": {"a": 0.5},
    }
    return json.dumps(dialogue if kind == "dialogues" else pair, ensure_ascii=False).encode() + b"\n"


def mutate(line: bytes, rng: random.Random) -> bytes:
    """Change one value or key of a line, or flip, cut, double, insert and swap in its bytes, mostly once."""
    if rng.random() < 0.5:
        row = json.loads(line)
        change_value(row, rng)
        return json.dumps(row, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    raw = bytearray(line.rstrip(b"\n"))
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(raw) + 1)
        change = rng.randrange(5)
        if change == 0 and at < len(raw):
            raw[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del raw[at : at + rng.randint(1, 40)]
        elif change == 2:
            raw[at:at] = raw[at : at + rng.randint(1, 80)]
        elif change == 3:
            raw[at : at + rng.randint(0, 2)] = rng.choice(_INSERTED)
        else:
            old, new = rng.choice(_SWAPS)
            raw = bytearray(bytes(raw).replace(old.encode(), new.encode(), rng.randint(1, 3)))
    return bytes(raw)


def change_value(value: Any, rng: random.Random) -> None:
    """Go down into a value and set, drop, rename or double one member."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = rng.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.7:
        change_value(value[key], rng)
    elif rng.random() < 0.8:
        value[key] = rng.choice(_VALUES)
    elif isinstance(value, dict):
        member = value.pop(key)
        if rng.random() < 0.5:
            value[rng.choice(["mood", "\ud83d", "9" * 5000, "emotion", "labelled_by", "background"])] = member
    else:
        value.insert(0, value[key])


def verdict(kind: str, path: Path) -> str:
    """Read one file every way there is and return what became of its mutated line."""
    findings = CollectFaults()
    if kind == "dialogues":
        found = list(read_dialogues(path, findings))
        assert check_file(path, decode=False).faults == findings.faults
        names = [dialogue.id for dialogue in found]
    else:
        names = [pair.dialogue_id for pair in read_pairs(path, TALK, findings)]
    assert names[0] == "d0" and (names[-1] == "d2" or any("twice" in fault for fault in findings.faults))
    for message in [*findings.faults, *findings.note_lines()]:
        message.encode()
    try:
        if kind == "dialogues":
            dialogues = list(read_dialogues(path))
            write_dialogues(path.with_suffix(".again"), dialogues)
            assert list(read_dialogues(path.with_suffix(".again"))) == dialogues
        else:
            pairs = read_pairs(path, TALK)
            write_pairs(path.with_suffix(".again"), pairs)
            assert read_pairs(path.with_suffix(".again"), TALK) == pairs
    except DataError as error:
        assert str(error) == findings.faults[0]
        return "named as faults"
    assert not findings.faults
    return "read with a note" if findings.notes else "read"


if __name__ == "__main__":
    main()
