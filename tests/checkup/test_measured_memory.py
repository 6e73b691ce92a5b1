"""The estimate of memory against runs: each stage's own script in a fresh process, two steps, its resident memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "whole", "pairs", "compressor"])
def test_an_estimate_is_within_a_fifth_of_what_a_run_takes(kind, tmp_path):
    """glibc is told to give freed memory back at once: what it keeps for later is no need of the run's."""
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    settings |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(Path(__file__).with_name("measured_stage.py")), kind, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | settings, cwd=ROOT, capture_output=True, text=True, timeout=600)
    rows = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(rows) == 1, done.stderr[-3000:]
    row = json.loads(rows[0])
    print(kind, row)
    assert row["problems"] == []
    assert row["grown"] > 100 * 2**20  # what tensors take must be what is measured
    assert row["estimate"] == pytest.approx(row["grown"], rel=0.2)
