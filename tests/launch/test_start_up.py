"""What starts a stage stays light: no package is loaded before it is used, and ranks are forked from one import."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.processes import shared_start

ROOT = Path(__file__).parents[2]
SELDOM_USED = {"sklearn", "nltk", "rouge_score", "scipy.stats", "matplotlib", "mlflow", "deepspeed", "bert_score"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scripts", "unwanted"),
    [
        (["pipeline", "data", "preferences"], {"torch", "transformers", "datasets", "pandas", "scipy.signal"}),
        (["extractor", "compressor", "sft", "evaluate"], {"trl.trainer.dpo_trainer", "trl.trainer.sft_trainer"}),
        (["epo"], {"trl.trainer.sft_trainer", "trl.trainer.grpo_trainer"}),
    ],
    ids=["without torch", "training", "epo"],
)
def test_scripts_load_nothing_before_it_is_used(scripts, unwanted):
    imports = "; ".join(f"import launch.{script}" for script in scripts)
    done = run("-c", f"{imports}; import sys; print(*sys.modules)")
    loaded = set(done.stdout.split())
    assert f"launch.{scripts[0]}" in loaded, done.stderr
    too_much = loaded & (SELDOM_USED | unwanted)
    if too_much:  # older versions of transformers load some of them themselves
        too_much -= SELDOM_USED & set(
            run("-c", "import sys, transformers.generation.utils; print(*sys.modules)").stdout.split()
        )
    assert too_much == set()


LAUNCHER = """
import os, sys
from launch.processes.shared_start import share_imports
share_imports(sys.argv[1:])
from torch.distributed.run import main
if __name__ == "__main__":
    print("launcher", os.getpid(), flush=True)
    main(sys.argv[1:])
"""
# Named as a module of launch/, whose imports the ranks shall find loaded.
RANKS = """
import os, signal, sys, time
print("rank", os.environ["RANK"], os.getpid(), os.getppid(), "launch.clip_check" in sys.modules,
      *sys.argv[1:],
      signal.getsignal(signal.SIGTERM).name, flush=True)
if sys.argv[1] == "wait":
    try:
        time.sleep(60)
    finally:
        print("ended", os.environ["RANK"], flush=True)
if sys.argv[1] in ("end", "stop"):  # as a stage does
    from launch import stage
    stage.main(lambda: sys.exit(0 if sys.argv[1] == "end" else 143), is_stage=False)
"""


def launch(folder, mode, **environment):
    """Start two ranks by torch's launcher, in a session of its own."""
    (folder / "launcher.py").write_text(LAUNCHER)
    (folder / "clip_check.py").write_text(RANKS)
    command = [sys.executable, "launcher.py", "--nproc_per_node=2", "--standalone", "clip_check.py", mode]
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PET_")}
    clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | environment
    return subprocess.Popen(command, cwd=folder, env=clean, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_ranks_share_one_import(tmp_path):
    process = launch(tmp_path, "go")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    ranks = sorted(line.split()[1:] for line in output.splitlines() if line.startswith("rank "))
    assert [(number, *state) for number, _, _, *state in ranks] == [
        ("0", "True", "go", "SIG_DFL"),
        ("1", "True", "go", "SIG_DFL"),
    ]
    parents = {parent for _, _, parent, *_ in ranks}
    assert len(parents) == 1 and parents != {str(process.pid)}


@pytest.mark.slow
def test_ranks_import_for_themselves_where_asked(tmp_path):
    process = launch(tmp_path, "go", EPO_SHARED_START="0")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    ranks = [line.split() for line in output.splitlines() if line.startswith("rank ")]
    assert [(parent, is_loaded) for _, _, _, parent, is_loaded, *_ in ranks] == [(str(process.pid), "False")] * 2


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["1", "0"])
@pytest.mark.parametrize(("mode", "is_well"), [("end", True), ("stop", False)])
def test_a_launcher_sees_its_ranks_end(tmp_path, shared, mode, is_well):
    """It waits for what a forked rank returns, and for the exit code of one that is a program of its own."""
    process = launch(tmp_path, mode, EPO_SHARED_START=shared)
    process.communicate(timeout=120)
    assert (process.returncode == 0) == is_well


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ranks_end_with_their_launcher_and_in_order(tmp_path, number):
    """A signal goes to the launcher's whole group, as from a terminal, the driver or Slurm."""
    process = launch(tmp_path, "wait")
    pids = []
    while len(pids) < 2:
        words = process.stdout.readline().split()
        assert words, "the launcher ended early"
        pids += [int(words[2]), int(words[3])] if words[0] == "rank" else []
    os.kill(pids[1], signal.SIGTERM)  # to the fork server, as Slurm sends it to every process
    time.sleep(1)
    assert all(is_running(pid) for pid in pids)
    os.killpg(process.pid, number)
    process.wait(timeout=60)
    end_s = time.monotonic() + 20
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < end_s, "a rank or the fork server outlived the launcher"
        time.sleep(0.1)


def test_other_ways_to_start_ranks_are_left_alone(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for argv, setting in (
        (["-m", "launch.epo"], {}),
        (["--module", "launch.epo", "x.py"], {}),
        (["--no_python", "python", "launch/epo.py"], {}),
        (["launch/epo.py"], {"EPO_SHARED_START": "0"}),
        (["launch/epo.py"], {"PET_START_METHOD": "spawn"}),
    ):
        before = dict(os.environ, **setting)
        monkeypatch.setattr(os, "environ", dict(before))
        shared_start.share_imports(argv)
        assert os.environ == before


def run(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300)


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"
