"""The corpus of real material: splits keep voices, faces and dialogues apart, and a seed fixes every byte."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from epo.data.checking import check_file
from epo.data.corpora.emodb import EMODB_LABELS
from epo.data.dialogue import read_dialogues

ROOT = Path(__file__).parents[2]
SOURCE = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SOURCE.is_dir(), reason=f"real corpora are not at {SOURCE}")


def write(out: Path, seed: int = 0) -> Path:
    script = [sys.executable, str(ROOT / "benchmarks" / "realdata.py")]
    given = ["--source", str(SOURCE), "--out", str(out), "--num-dialogues", "24", "--seed", str(seed)]
    subprocess.run([*script, *given], check=True, capture_output=True, timeout=120)
    return out / "dialogues.jsonl"


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("realdata"))


def test_every_clip_can_be_decoded(path):
    result = check_file(path)
    assert result.faults == []
    assert result.num_dialogues == 24 and result.num_clips > 50


def test_nothing_crosses_between_splits(path):
    seen: dict[str, set[str]] = {}
    for dialogue in read_dialogues(path):
        used = {dialogue.id}
        for turn in dialogue.turns:
            if turn.clip is not None:
                used |= {f"speaker {turn.clip.audio.name[:2]}", turn.clip.video.name}
        seen.setdefault(dialogue.split, set()).update(used)
    assert set(seen) == {"train", "validation", "test"}
    assert not seen["train"] & seen["validation"]
    assert not (seen["train"] | seen["validation"]) & seen["test"]


def test_published_test_dialogues_never_train(path):
    for dialogue in read_dialogues(path):
        assert ("-test_freq-" in dialogue.id) == (dialogue.split == "test")


def test_the_voice_has_the_emotion_of_the_turn(path):
    with (SOURCE / "emodb" / "labels.csv").open() as rows:
        labels = {row["file"]: EMODB_LABELS.read(row["emotion"]) for row in csv.DictReader(rows)}
    turns = [turn for dialogue in read_dialogues(path) for turn in dialogue.turns if turn.clip is not None]
    assert all(turn.speaker == "user" and labels[turn.clip.audio.name] == turn.emotion for turn in turns)


def test_a_seed_fixes_every_byte(path, tmp_path):
    assert write(tmp_path / "again").read_bytes() == path.read_bytes()
    assert write(tmp_path / "other", seed=1).read_bytes() != path.read_bytes()
