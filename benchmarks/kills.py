"""Kills a stage again and again at random moments, and compares what comes out with a run that nobody disturbed.

    python benchmarks/kills.py --folder runs/kills --kills 20 -- accelerate launch \
        --config_file launch/accelerate/zero2-cpu.yaml launch/sft.py --config recipes/quickstart/lm.yaml \
        --data runs/quickstart/corpus/dialogues.jsonl --max_steps 60 --save_steps 5 --output_dir {output}

`{output}` becomes a folder of the run. Each time one process of the run, the launcher or a rank, gets SIGKILL: half of
the times during a save, else up to `--seconds` after a new checkpoint. Exit code 0 where all weights are equal.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from safetensors.torch import load_file

_LOOK_S, _PATIENCE_S = 0.02, 1800.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run undisturbed, run with kills, compare, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args(argv)
    draw = random.Random(asked.seed)
    whole, killed = asked.folder / "whole", asked.folder / "killed"
    subprocess.run(_filled(asked.command, whole), check=True, stdout=subprocess.DEVNULL)
    done = 0
    while done < asked.kills:
        process = subprocess.Popen(
            _filled(asked.command, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        what = _kill_one(process, killed, draw, asked.seconds)
        code = process.wait(timeout=_PATIENCE_S)
        if what is None:
            print(f"the run ended by itself with {code} after {done} kills; take more steps for more kills", flush=True)
            break
        done += 1
        print(f"kill {done}: {what}; newest checkpoint {_newest(killed)}", flush=True)
        _wait_until_gone(killed)
    subprocess.run(_filled(asked.command, killed), check=True, stdout=subprocess.DEVNULL)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors") if _is_weights(path))
    wrong = [str(name) for name in files if not _is_equal(whole / name, killed / name)]
    print(f"{done} kills, {len(files)} files of weights: " + (f"differ: {wrong}" if wrong else "equal, bit by bit"))
    return 1 if wrong or not files else 0


def _filled(command: Sequence[str], output: Path) -> list[str]:
    return [word.replace("{output}", str(output)) for word in command]


def _kill_one(process: subprocess.Popen[bytes], output: Path, draw: random.Random, seconds: float) -> str | None:
    """Kill one process of a run when its moment has come; None where the run ended before."""
    in_a_save = draw.random() < 0.5
    before, end_s, moment_s = _newest(output), time.monotonic() + _PATIENCE_S, None
    while process.poll() is None and time.monotonic() < end_s:
        if in_a_save and any((output / ".saving").glob("checkpoint-*")):
            time.sleep(draw.uniform(0.0, 0.05))
            break
        if not in_a_save and moment_s is None and _newest(output) != before:
            moment_s = time.monotonic() + draw.uniform(0.0, seconds)
        if moment_s is not None and time.monotonic() >= moment_s:
            break
        time.sleep(_LOOK_S)
    if process.poll() is not None:
        return None
    python = [p for p in _tree(process.pid) if "python" in p.name()]
    victim = draw.choice(python)
    place = "the launcher" if victim.pid == process.pid else "a process below it"
    victim.send_signal(signal.SIGKILL)
    return f"{place}, {'during a save' if in_a_save else 'between two saves'}"


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _newest(output: Path) -> int:
    names = [path.name.removeprefix("checkpoint-") for path in output.glob("checkpoint-*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _wait_until_gone(output: Path) -> None:
    """Wait until no process names the folder: ranks of a dead launcher end by themselves."""
    for _ in range(120):
        lines = (
            " ".join(p.info["cmdline"] or ())
            for p in psutil.process_iter(["cmdline", "pid"])
            if p.pid != psutil.Process().pid
        )
        if not any(str(output) in line and "kills.py" not in line for line in lines):
            return
        time.sleep(1)
    raise SystemExit(f"{output}: processes of a killed run are still there after two minutes")


def _is_weights(path: Path) -> bool:
    return ".saving" not in path.parts and path.name in ("model.safetensors", "adapter_model.safetensors")


def _is_equal(ours: Path, theirs: Path) -> bool:
    if not theirs.is_file():
        return False
    a, b = load_file(ours), load_file(theirs)
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


if __name__ == "__main__":
    sys.exit(main())
