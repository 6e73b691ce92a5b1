"""A real Slurm cluster of two nodes on this machine, with its own keys, ports and folders."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

# The ranks meet at the first node's name, so it must lead back to this machine.
ROOT = Path(__file__).parents[2]
NODES = (socket.gethostname(), "zz-second")

# MessageTimeout: on a busy machine a signal that timed out would be sent again a minute later, to the job's next start.
_CONFIG = """
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/%n.pid
SlurmctldPidFile={folder}/controller.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
MessageTimeout=60
SchedulerParameters=batch_sched_delay=1,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={first} NodeHostname=localhost NodeAddr=127.0.0.1 Port={first_port} CPUs=1
NodeName={second} NodeHostname=localhost NodeAddr=127.0.0.1 Port={second_port} CPUs=1
PartitionName=main Nodes={first},{second} Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes={first},{second} MaxTime=60 State=UP PriorityTier=10
"""


class Cluster:
    """Submits jobs and tells what became of them."""

    def __init__(self, environment, start_node):
        self.environment = environment
        self.nodes = NODES
        self._start_node = start_node
        self._nodes = {node: start_node(node) for node in NODES}

    def command(self, *words, cwd=None):
        done = subprocess.run(words, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *words, cwd):
        return self.command("sbatch", "--parsable", *words, cwd=cwd)

    def job(self, job_id):
        """Return the fields of `scontrol show job`."""
        words = self.command("scontrol", "--oneliner", "show", "job", job_id).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)

    def wait(self, job_id, until, timeout_s=300.0):
        """Wait until a job's fields satisfy `until`, and return them."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            fields = self.job(job_id)
            if until(fields):
                return fields
            time.sleep(0.1)
        raise AssertionError(f"job {job_id} after {timeout_s} s: {self.job(job_id)}")

    def lose(self, node):
        """End a node as a power cut does: its daemon and all that ran below it, and the controller gives it up."""
        inside = [process for process in psutil.process_iter() if _node_of(process) == node]
        with contextlib.suppress(psutil.Error):
            daemons = [step for process in inside if (step := process.parent()) and "slurmstepd" in step.name()]
        for process in (self._nodes[node], *daemons, *inside):
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._nodes[node].wait()
        # What the controller does by itself once the node has not answered for SlurmdTimeout.
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def bring_back(self, node):
        """Start a node again that was lost."""
        self._nodes[node] = self._start_node(node)
        self.command("scontrol", "update", f"nodename={node}", "state=resume")


def _node_of(process):
    """Return the node whose job a process belongs to, "" for any other process."""
    try:
        return process.environ().get("SLURMD_NODENAME", "")
    except psutil.Error:
        return ""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    missing = [name for name in ("munged", "slurmctld", "slurmd", "srun", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; Debian, Ubuntu: apt install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs as root only")
    folder = tmp_path_factory.mktemp("slurm")
    environment = dict(os.environ, SLURM_CONF=str(folder / "slurm.conf"))
    if Path(sys.prefix) != ROOT / ".venv":  # what a job takes unless told otherwise
        environment["EPO_BIN"] = str(Path(sys.executable).parent)
    _write_config(folder)
    with contextlib.ExitStack() as daemons:
        _start(daemons, folder, environment, "munged", "--foreground", "--force", *_munge_files(folder))
        _wait_for(lambda: (folder / "munge.sock").exists(), folder)
        _start(daemons, folder, environment, "slurmctld", "-D")

        def start_node(node):
            return _start(daemons, folder, environment, "slurmd", "-D", "-N", node)

        cluster = Cluster(environment, start_node)
        _wait_for(lambda: _idle_nodes(environment) == len(NODES), folder)
        yield cluster
        cluster.command("scancel", "--user=root", "--full", "--signal=KILL")
        cluster.command("scancel", "--user=root")
        _wait_for(lambda: cluster.command("squeue", "--noheader") == "", folder)


def _write_config(folder):
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    ports = dict(zip(("controller_port", "first_port", "second_port"), _free_ports(3), strict=True))
    text = _CONFIG.format(folder=folder, first=NODES[0], second=NODES[1], **ports)
    (folder / "slurm.conf").write_text(text)


def _munge_files(folder):
    names = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munge.pid", "log-file": "munge.log"}
    return [f"--{option}={folder / name}" for option, name in (names | {"seed-file": "munge.seed"}).items()]


def _start(daemons, folder, environment, *words):
    log = daemons.enter_context(open(folder / "daemons.log", "ab"))
    process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    daemons.callback(_stop, process)
    return process


def _stop(process):
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _idle_nodes(environment):
    words = ("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    return done.stdout.split().count("idle")


def _wait_for(condition, folder: Path, timeout_s=60.0):
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            logs = "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(folder.glob("*.log")))
            raise AssertionError(f"the cluster did not get ready:\n{logs}")
        time.sleep(0.2)


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
