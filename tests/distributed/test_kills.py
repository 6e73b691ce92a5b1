"""Ranks and launchers get SIGKILL, also during a save, and the same command comes to the weights it would have had."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.kills import try_kills

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_ranks_and_launchers_lose_nothing(corpus, make_llm, tmp_path):
    """`benchmarks/kills.py` does the same twenty times; docs/reliability.md says what came out."""
    make_llm().config.to_json_file(tmp_path / "llm.json")
    recipe = {
        "data": str(corpus / "dialogues.jsonl"), "input": "text", "llm": str(tmp_path / "llm.json"), "max_steps": 12,
        "logging_steps": 2, "save_steps": 2, "save_total_limit": 2, "global_batch_size": 2,
        "per_device_train_batch_size": 1, "min_fact_recall": 0.0,
    }  # fmt: skip
    (tmp_path / "lm.yaml").write_text(yaml.safe_dump(recipe))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port", "0", "--config_file"]
    stage = ["launch/accelerate/zero2-cpu.yaml", "launch/sft.py", "--config", str(tmp_path / "lm.yaml"), "--output_dir"]

    def start(output):
        with output.with_suffix(".log").open("ab") as log:
            return subprocess.Popen([*launch, *stage, output], stdout=log, stderr=log, cwd=ROOT, start_new_session=True)

    plan = [("rank 1", "during a save"), ("the launcher", "between two saves")]
    assert try_kills(start, tmp_path / "kills", plan, random.Random(0)) == []
