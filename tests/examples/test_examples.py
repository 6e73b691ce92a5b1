"""Every script of examples/ runs as its first line says, on a tiny model, in seconds and few lines."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
def folder(make_model, tmp_path):
    """A whole model as launch/sft.py writes it."""
    folder = tmp_path / "model"
    model, processor = make_model()
    model.config.low_rank = None
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def run(name, *arguments, said=""):
    """Return what a script prints."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *map(str, arguments)],
        input=said, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 90  # under 30 s alone; here it may share its cores
    return done.stdout


def test_epo_is_trained_and_its_adapter_put_on_again(folder, corpus, tmp_path):
    printed = run("train_epo.py", folder, corpus / "dialogues.jsonl", corpus / "pairs.jsonl", tmp_path / "epo")
    margins = [float(found) for found in re.findall(r"'rewards/margins': '([-\d.e]+)'", printed)]
    assert len(margins) == 2 and margins[-1] > margins[0]
    talk = run("chat.py", folder, tmp_path / "epo", said="I lost my keys.\nAnd my phone.\n\n")
    assert talk.count("model (") == 2
    printed = run("export_model.py", folder, tmp_path / "epo", tmp_path / "exported")
    assert {"README.md", "config.json", "model.safetensors"} <= {line.split()[0] for line in printed.splitlines()}
    assert run("use_exported.py", tmp_path / "exported", "I lost my keys.").strip()


def test_a_clip_is_heard_in_a_chat(folder, corpus, tmp_path):
    clip = next(corpus.rglob("*.wav"))
    assert run("chat.py", folder, said=f"Look at me! [{clip}]\n\n").count("model (") == 1


def test_own_pairs_are_written_and_read(corpus, tmp_path):
    printed = run("own_pairs.py", corpus / "dialogues.jsonl", tmp_path / "pairs.jsonl")
    lines = (tmp_path / "pairs.jsonl").read_text().splitlines()
    assert printed.startswith(f"{len(lines)} pairs,") and len(lines) > 3
    assert all('"source": "set_phrases"' in line for line in lines)


def test_memories_are_streamed(folder, corpus):
    printed = run("stream_memories.py", folder, corpus / "dialogues.jsonl").splitlines()
    assert len(printed) >= 3 and all("-> (2, 32), norm" in line for line in printed)


def test_they_are_short_and_each_is_run_here():
    tried = set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))
    assert {path.name for path in EXAMPLES} == tried and len(tried) == 6
    for path in EXAMPLES:
        code = [line for line in path.read_text().split('"""', 2)[2].splitlines() if line.strip()]
        assert 8 <= len(code) <= 30, (path.name, len(code))
