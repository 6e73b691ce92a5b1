"""The console shows a stage's own lines; what others say is hidden line by named line, and shown on request."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.processes import quiet

ROOT = Path(__file__).parents[2]

TALK = """
import logging, sys, warnings
from launch.processes.quiet import settle_console
settle_console()
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
logging.getLogger("DeepSpeed").warning("Setting accelerator to CPU. If you have GPU ...")
logging.getLogger("DeepSpeed").warning("overflow")
logging.getLogger("torch.distributed.run").warning("\\n*****\\nSetting OMP_NUM_THREADS environment variable")
logging.getLogger("torch.distributed.run").warning("master_addr is only used for static rdzv_backend")
logging.getLogger("accelerate.accelerator").warning("[RANK 0] Gradient accumulation steps mismatch: ...")
logging.getLogger("mlflow.store.db.utils").info("Creating initial MLflow database tables...")
logging.getLogger("mlflow.store.db.utils").info("retrying")
warnings.warn("`torch.distributed.all_gather_into_tensor` is deprecated.", FutureWarning)
warnings.warn("Port `29500` is already in use. Accelerate will attempt to launch in a standalone-like mode")
warnings.warn("`is_gradient_checkpointing` is deprecated", FutureWarning)
warnings.warn("`warmup_ratio` is deprecated", FutureWarning)
"""
HIDDEN = (
    "Setting accelerator",
    "mismatch",
    "OMP_NUM_THREADS",
    "database tables",
    "all_gather",
    "29500",
    "is_gradient_checkpointing",
)
SHOWN = ("overflow", "master_addr", "retrying", "warmup_ratio")


@pytest.mark.parametrize("verbose", ["0", "1"])
def test_named_lines_are_hidden_and_no_others(verbose):
    environment = os.environ | {"EPO_VERBOSE": verbose, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", TALK], env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert all(words in said for words in SHOWN), said
    assert [words for words in HIDDEN if words in said] == (list(HIDDEN) if verbose == "1" else [])


@pytest.mark.parametrize("late", [False, True])
def test_bars_of_other_libraries_are_hidden_in_a_file_whenever_they_were_imported(late):
    begin, load = "from launch.processes import quiet; quiet.settle_console()", "from transformers.utils import logging"
    lines = [load, begin] if late else [begin, load]
    ask = "\n".join([*lines, "print(logging.is_progress_bar_enabled())"])
    environment = {name: text for name, text in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    for verbose, is_shown in (("0", "False"), ("1", "True")):
        environment |= {"EPO_VERBOSE": verbose, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == is_shown


def test_kernels_are_advised_where_there_is_a_gpu_and_by_one_rank(monkeypatch):
    advice = "`causal_conv1d_fn` is falling back to its reference PyTorch implementation because ..."
    for has_gpu, rank, is_shown in ((True, "0", True), (True, "1", False), (False, "0", False)):
        monkeypatch.setattr("torch.cuda.is_available", lambda has_gpu=has_gpu: has_gpu)
        monkeypatch.setenv("RANK", rank)
        assert quiet._can_get_kernels(logging.makeLogRecord({"msg": advice})) == is_shown
        assert quiet._can_get_kernels(logging.makeLogRecord({"msg": "kernel is broken"}))


@pytest.mark.slow
def test_a_stage_on_two_ranks_says_nothing_but_its_own(tmp_path):
    turns = [("user", "I lost my key.", "sad"), ("assistant", "Oh no.", "sad")] * 2
    row = {"turns": [dict(zip(("speaker", "text", "emotion"), turn, strict=True)) for turn in turns]}
    rows = [row | {"id": f"d{i}", "split": "validation" if i == 0 else "train"} for i in range(6)]
    (tmp_path / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {name: text for name, text in os.environ.items() if name not in ("OMP_NUM_THREADS", "EPO_VERBOSE")}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--main_process_port=0"]
    command += ["--config_file=launch/accelerate/zero2-cpu.yaml", "launch/sft.py", "--config=recipes/realdata/lm.yaml"]
    command += [f"--data={tmp_path}/dialogues.jsonl", f"--output_dir={tmp_path}/lm", "--max_steps=12"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    first, last = done.stdout.splitlines()
    assert first.startswith("lm: 10/12 steps, loss ") and last.startswith("lm: 12/12 steps, loss "), done.stdout
