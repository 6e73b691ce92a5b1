"""How runs end: what is the user's and the surroundings' is one line, also from a launcher; orphans end."""

import contextlib
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from launch import launcher
from epo.data.dialogue import DataError
from launch.folder.space import require_space
from launch.processes import ends
from launch.processes.orphan import DRIVER_PID
from launch.recipe import RecipeError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # a writer that failed may still hold its file


def caught(action):
    with pytest.raises(Exception) as error:
        action()
    return error.value


def write_plain(folder):
    (folder / "a").write_bytes(bytes(200_000))


def write_safetensors(folder):
    save_file({"a": torch.zeros(200_000)}, folder / "a.safetensors")


def write_torch(folder):
    torch.save(torch.zeros(200_000), folder / "a.pt")


def write_sqlite(folder):
    with contextlib.closing(sqlite3.connect(folder / "a.db")) as database:
        database.execute("create table t (x blob)")
        database.execute("insert into t values (?)", (bytes(200_000),))
        database.commit()


@pytest.mark.parametrize("write", [write_plain, write_safetensors, write_torch, write_sqlite])
def test_a_full_disk_is_one_line_whoever_meets_it(small_disk, write):
    line = ends.explain(caught(lambda: write(small_disk)))
    assert line is not None and "the disk is full; free some space, or set output_dir" in line


def test_a_run_that_would_fill_the_disk_is_refused(small_disk):
    require_space(small_disk, 1000)
    with pytest.raises(RecipeError, match=r"64 KiB are free, .* writes up to 1 MiB .* lower save_total_limit"):
        require_space(small_disk, 2**20)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RecipeError("toy.yaml: bad"), "toy.yaml: bad"),
        (DataError("d.jsonl:3: bad"), "d.jsonl:3: bad"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), "runs/x: permission denied; change"),
        (OSError(errno.EROFS, "Read-only file system", "runs/x"), "runs/x: the file system cannot be written to"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "runs/x"), "runs/x: your disk quota is used up"),
        (FileExistsError(errno.EEXIST, "File exists", "runs/x"), "runs/x: a file, or a link to nothing, is in the way"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), "a/b: a part of this path is a file"),
        (ValueError("shapes disagree"), None),
        (RuntimeError("boom"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), None),
    ],
)
def test_errors_are_told_apart(error, line):
    found = ends.explain(error)
    assert found is None if line is None else found.startswith(line)


def test_a_fault_of_the_surroundings_is_seen_through_what_a_library_makes_of_it():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        except OSError as error:
            raise RuntimeError("could not save") from error
    except RuntimeError as error:
        assert ends.explain(error).startswith("x: the disk is full")


class Failure:
    def __init__(self, exitcode):
        self.exitcode = exitcode


class ChildFailedError(Exception):
    def __init__(self, **codes):
        self.failures = {int(rank[1:]): Failure(code) for rank, code in codes.items()}


class SignalException(Exception):
    sigval = signal.SIGTERM


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ChildFailedError(r0=2, r1=-15), 2, ""),
        (ChildFailedError(r1=2), 2, ""),
        (ChildFailedError(r0=-15, r1=1), 1, "rank 1 ended with exit code 1; its messages stand above"),
        (ChildFailedError(r0=-15, r1=-9), 137, "rank 1 was ended by SIGKILL; the kernel does so when memory runs out"),
        (subprocess.CalledProcessError(2, ["x"]), 2, ""),
        (SignalException(), 143, "ended by SIGTERM"),
        (KeyError("x"), None, ""),
    ],
)
def test_a_launcher_ends_as_its_ranks_did(error, code, line):
    assert launcher._verdict(error) == (code, line)


def test_only_launchers_of_our_scripts_are_watched(monkeypatch):
    monkeypatch.setattr(launcher, "_start_lightly", lambda: None)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for argv in (["train.py", "--model", "x"], ["accelerate", "launch", "other/epo.py"], [str(ROOT / "launch/epo.py")]):
        monkeypatch.setattr(sys, "argv", argv)
        launcher.watch()
        assert sys.excepthook is sys.__excepthook__
    monkeypatch.setattr(sys, "argv", ["accelerate", "launch", "--cpu", str(ROOT / "launch/epo.py")])
    launcher.watch()
    assert sys.excepthook is launcher._end_as_the_ranks_did


_RANK = """
import time
from launch.processes.orphan import end_with_launcher
end_with_launcher()
print("on", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("who", ["launcher", "driver"])
def test_a_rank_ends_with_its_launcher_and_with_its_driver(who):
    """The parent starts a rank and is killed; the rank must notice by itself."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RANK_CODE": _RANK}
    if who == "launcher":
        environment["LOCAL_RANK"] = "0"
    code = (
        "import os, subprocess, sys, time\n"
        f"environment = os.environ | ({{{DRIVER_PID!r}: str(os.getpid())}} if {who == 'driver'} else {{}})\n"
        "rank = subprocess.Popen([sys.executable, '-c', os.environ['RANK_CODE']], env=environment,"
        " start_new_session=True)\n"
        "print(rank.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    rank = int(parent.stdout.readline())
    assert parent.stdout.readline() == "on\n"
    parent.kill()
    parent.wait()
    end_s = time.monotonic() + 15
    while _is_running(rank):
        assert time.monotonic() < end_s, "the rank outlived its launcher"
        time.sleep(0.1)


def test_a_process_started_by_hand_outlives_its_terminal():
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", DRIVER_PID)}
    code = (
        "import threading; from launch.processes import orphan; "
        "orphan.end_with_launcher(); print(threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def _is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().split()[2] != "Z"


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [("pass", 0, ""), ("raise SystemExit(143)", 143, ""), ("raise SystemExit('nothing to do')", 1, "nothing to do")],
)
@pytest.mark.parametrize("ranks", ["1", "2"])
def test_ranks_leave_with_their_code_and_their_exit_handlers_but_no_teardown(end, code, said, ranks):
    """What torch tears down after the exit handlers aborts now and then; one process is torn down as ever."""
    program = (
        "import atexit, sys\nfrom launch import stage\n"
        "class Torn:\n    def __del__(self, say=sys.__stdout__.write): say('torn down ')\n"
        f"def run():\n    sys.kept = Torn()\n    atexit.register(print, 'handled')\n    {end}\n"
        "try:\n    stage.main(run, is_stage=False)\nfinally:\n    print('after')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120,
        env=os.environ | {"WORLD_SIZE": ranks, "RANK": "0"},
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (code, said)
    assert done.stdout.split()[:2] == ["after", "handled"]
    assert ("torn down" in done.stdout) == (ranks == "1")
