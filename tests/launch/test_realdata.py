"""The recipes for real data, end to end, for a few steps: real conversations, real emotional speech, real faces."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
RECIPES = ROOT / "recipes" / "realdata"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "topical_chat").is_dir(), reason="the real corpora are not part of the project"),
]


def run(*command: str) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def test_sft_and_epo_run_on_real_conversations_speech_and_faces(tmp_path):
    runs = tmp_path / "runs"
    run("benchmarks/realdata.py", "--source", str(SHARED), "--out", str(runs / "corpus"), "--num-dialogues", "30")
    data = ("--data", str(runs / "corpus" / "dialogues.jsonl"))
    few = ("--max_steps", "2", "--save_steps", "2", "--global_batch_size", "4", "--per_device_train_batch_size", "4")
    cache = ("--cache_dir", str(runs / "cache"))

    def stage(script: str, recipe: str, *arguments: str) -> Path:
        out = runs / recipe
        config = str(RECIPES / f"{recipe}.yaml")
        run(f"launch/{script}.py", "--config", config, *data, "--output_dir", str(out), *arguments)
        return out

    lm = stage("sft", "lm", *few)
    extractor = stage("extractor", "extractor", *few, *cache)
    compressor = stage("compressor", "compressor", *few, "--llm", str(lm))
    parts = ("--llm", str(lm), "--extractor", str(extractor), "--compressor", str(compressor))
    sft = stage("sft", "sft", *few, *cache, *parts)
    pairs = stage("preferences", "preferences") / "pairs.jsonl"
    epo = stage("epo", "epo", *few, *cache, "--pairs", str(pairs), "--model", str(sft))
    control = stage("sft", "sft_chosen", *few, *cache, "--pairs", str(pairs), "--model", str(sft))
    models = ("--sft", str(sft), "--control", str(control), "--epo", str(epo), "--pairs", str(pairs))
    report = stage("evaluate", "evaluate", *cache, *models, "--max_dialogues", "3", "--max_new_tokens", "8")

    rows = {row["name"]: row for row in json.loads((report / "report.json").read_text())["rows"]}
    assert set(rows) >= {"majority", "sft", "sft+chosen", "sft+epo", "sft+epo, clips shuffled"}
    assert rows["sft"]["reward_accuracy"] == 0.5  # the reference against itself
    assert rows["sft+epo"]["prompt_tokens"] > rows["sft+epo, no clip"]["prompt_tokens"]
    first = json.loads(pairs.read_text().splitlines()[0])
    assert first["source"] == "retrieve"
    assert first["chosen"] != first["rejected"]
    assert first["chosen_emotion"] != first["rejected_emotion"]
