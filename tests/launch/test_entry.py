"""The commands users type: `launch/epo.py` finds the package `epo`, not itself, and a mistake ends every rank."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_ACCELERATE = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]


def run(*command, cwd):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{cwd}/mlflow.db"}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def test_a_script_below_launch_does_not_shadow_the_packages(tmp_path):
    """What Python does for `python launch/epo.py`: the script's folder comes first, then `launch` is imported."""
    code = (
        f"import sys; sys.path[0] = {str(ROOT / 'launch')!r}; import launch, epo, compressor; "
        "print(epo.__file__, compressor.__file__)"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout.split() == [str(ROOT / name / "__init__.py") for name in ("epo", "compressor")], done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        pytest.param([sys.executable, ROOT / "launch" / "epo.py"], id="python"),
        pytest.param([*_ACCELERATE, "--cpu", ROOT / "launch" / "epo.py"], id="accelerate"),
    ],
)
def test_help_is_shown_from_any_folder(tmp_path, command):
    done = run(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Prefer the gold reply over the counter-emotional one" in done.stdout
    assert "--lora_rank" in done.stdout and "--learning_rate" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_users_mistake_ends_every_rank_with_one_line_and_leaves_nothing(tmp_path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("data: d.jsonl\npairs: p.jsonl\nmodel: m\noutput_dir: out\nbta: 0.5\n")
    launcher = [*_ACCELERATE, "--config_file", ROOT / "launch" / "accelerate" / "cpu.yaml"]
    done = run(*launcher, ROOT / "launch" / "epo.py", "--config", recipe, cwd=tmp_path)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [f"error: {recipe}: unknown key 'bta'; the nearest known key is 'beta'"]
    assert "ChildFailedError" not in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param([sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"], id="torchrun"),
        pytest.param([*_ACCELERATE, "--cpu", "--num_processes", "1"], id="accelerate with one process"),
        pytest.param([sys.executable], id="python"),
    ],
)
def test_every_launcher_hands_on_a_users_mistake(tmp_path, launcher):
    done = run(*launcher, ROOT / "launch" / "sft.py", "--config", "gone.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: gone.yaml: no such recipe") == 1
    assert "ChildFailedError" not in done.stderr and "Traceback" not in done.stderr
