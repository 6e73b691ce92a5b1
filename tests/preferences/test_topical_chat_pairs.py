"""Pairs from real conversations, killed half-way and resumed: the same file as an uninterrupted run writes."""

import json
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from epo.data.dialogue import read_dialogues
from epo.preferences.pair import read_pairs

ROOT = Path(__file__).parents[2]
SOURCE = ROOT.parent / "shared" / "data" / "topical_chat"
FAULTS = (
    (429, {"Retry-After": "0"}, "slow down"),
    (500, {}, "oops"),
    (200, {}, "<html>not json"),
    (200, {}, '{"choices": []}'),
    "hang",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCE.is_dir(), reason=f"the real conversations of Topical-Chat are not at {SOURCE}"),
]


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    out = tmp_path_factory.mktemp("topical")
    command = [sys.executable, str(ROOT / "launch" / "data.py"), "import", "--corpus", "topical_chat"]
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{out}/mlflow.db"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        subprocess.run([*command, "--root", str(SOURCE), "--out", str(out / "corpus")], check=True)
        yield out / "corpus" / "dialogues.jsonl"


def one_fault_a_question(stub):
    """Let the first try at most questions fail, each in a way of its own; the next one succeeds."""
    seen = set()

    def misbehave(number):
        prompt = stub.requests[number - 1][2]["messages"][0]["content"]
        kind = zlib.crc32(prompt.encode()) % 40
        if prompt in seen or kind >= len(FAULTS):
            return None
        seen.add(prompt)
        return FAULTS[kind]

    return misbehave


@pytest.mark.parametrize("source", ["retrieve", "llm", "policy"])
def test_killed_and_resumed_equals_uninterrupted(source, talks, tmp_path, stub, make_model):
    stub.misbehave = one_fault_a_question(stub)
    keys = {"data": str(talks), "source": source, "splits": ["validation"], "replies": "last"}
    if source == "llm":
        keys |= {"llm_base_url": stub.url, "llm_model": "m", "llm_timeout_s": 0.3, "llm_first_pause_s": 0.01}
        # The stub writes GRR and the gold reply for any emotion; which candidates are kept is not the question here.
        keys |= {"min_emotion_shift": -1.0, "max_similarity": 1.0}
    if source == "policy":
        model, processor = make_model(max_prompt_tokens=512)
        model.save_pretrained(tmp_path / "sft")
        processor.save_pretrained(tmp_path / "sft")
        keys |= {"policy_model": str(tmp_path / "sft"), "policy_max_new_tokens": 8, "max_length_ratio": 100.0}
        # A model that was taught nothing writes no sentence and no emotion.
        keys |= {"min_script_share": 0.0, "min_emotion_shift": -1.0, "refuse_cut_off": False}

    def command(name):
        recipe = tmp_path / f"{name}.json.yaml"
        recipe.write_text(json.dumps(keys | {"output_dir": str(tmp_path / name)}))
        return [sys.executable, str(ROOT / "launch" / "preferences.py"), "--config", str(recipe)]

    killed = subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not is_half_way(tmp_path / "killed", source) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed" / "pairs.jsonl").exists()
    for name in ("killed", "whole"):
        subprocess.run(command(name), check=True)
    first, second = ((tmp_path / name / "pairs.jsonl").read_text() for name in ("killed", "whole"))
    assert first == second
    dialogues = {dialogue.id: dialogue for dialogue in read_dialogues(talks)}
    pairs = read_pairs(tmp_path / "whole" / "pairs.jsonl", dialogues)
    assert len(pairs) > 100 and {pair.source for pair in pairs} == {source}
    assert all(pair.chosen != pair.rejected and pair.chosen_emotion != pair.rejected_emotion for pair in pairs)


def is_half_way(folder, source):
    if source == "retrieve":  # it keeps nothing, and begins anew
        return (folder / "provenance.json").exists()
    cache = folder / f"{source}_cache.jsonl"
    return cache.is_file() and cache.read_bytes().count(b"\n") >= 64
