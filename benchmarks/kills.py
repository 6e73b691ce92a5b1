"""Kills training stages again and again at random moments, and compares what they make with runs that nobody disturbed.

    make smoke
    python benchmarks/kills.py --run runs/smoke --folder runs/kills

Each stage starts from the results of a finished run, takes two replies a step and saves every second step, on two ranks
under ZeRO-2. In turn, shuffled, the launcher, rank 0 and rank 1 get SIGKILL: during a save, between two saves, and
before the first step. The same command then goes on. Exit code 0 where all weights, and the losses of all steps, are
those of the undisturbed run, bit by bit. Twenty kills of EPO and four of each other stage: about an hour of one core.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
from safetensors.torch import load_file

_ROOT = Path(__file__).parents[1]
_LOOK_S, _PATIENCE_S = 0.005, 1800.0
_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
_VICTIMS, _MOMENTS = ("the launcher", "rank 0", "rank 1"), ("during a save", "between two saves", "before a step")
_STAGES = {
    "epo": ("launch/epo.py", "epo"),
    "sft": ("launch/sft.py", "sft"),
    "compressor": ("launch/compressor.py", "compressor"),
    "extractor": ("launch/extractor.py", "extractor"),
    "lm": ("launch/sft.py", "lm"),
}
"""Script and recipe of recipes/quickstart."""

Start = Callable[[Path], "subprocess.Popen[bytes]"]
"""Starts the run whose output folder is given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Try each stage that is asked for, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=_ROOT / "runs/smoke", help="whose stages are done")
    parser.add_argument("--folder", type=Path, required=True, help="for the runs; one that holds none")
    parser.add_argument("--stages", nargs="+", choices=sorted(_STAGES), default=list(_STAGES))
    parser.add_argument("--kills", type=int, help="of each stage, instead of 20 of EPO and 4 of each other")
    parser.add_argument("--accelerate_config", default="launch/accelerate/zero2-cpu.yaml")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    draw, wrong = random.Random(asked.seed), 0
    for stage in asked.stages:
        kills = asked.kills if asked.kills is not None else 20 if stage == "epo" else 4

        def start(output: Path, stage: str = stage, kills: int = kills) -> "subprocess.Popen[bytes]":
            command = _command(stage, asked.run, output, kills, asked.accelerate_config)
            with output.with_suffix(".log").open("ab") as log:
                return subprocess.Popen(command, stdout=log, stderr=log, cwd=_ROOT, start_new_session=True)

        faults = try_kills(start, asked.folder / stage, plan_kills(kills, draw), draw)
        wrong += len(faults)
        print(f"{stage}: " + ("; ".join(faults) if faults else f"{kills} kills, all equal, bit by bit"), flush=True)
    return 1 if wrong else 0


def _command(stage: str, run: Path, output: Path, kills: int, accelerate_config: str) -> list[str]:
    """Return a stage's command, with enough steps for its kills: at most three saves pass before each."""
    script, recipe = _STAGES[stage]
    more = {"min_fact_recall": "0.0"} if stage == "lm" else {}
    keys = more | {
        "run": run, "output_dir": output, "global_batch_size": 2, "per_device_train_batch_size": 1,
        "max_steps": 4 * kills + 6, "save_steps": 2, "save_total_limit": 2, "logging_steps": 2,
    }  # fmt: skip
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", accelerate_config]
    launch += ["--main_process_port", "0", script, "--config", f"recipes/quickstart/{recipe}.yaml"]
    return launch + [word for key, value in keys.items() for word in (f"--{key}", str(value))]


def try_kills(start: Start, folder: Path, plan: Sequence[tuple[str, str]], draw: random.Random) -> list[str]:
    """Run undisturbed, run with kills, and return how what came out differs; nothing where it does not.

    Args:
        start: starts the run whose output folder it is given, in a session of its own.
        folder: for both runs.
        plan: whom to kill at which kind of moment, one after another.
        draw: says how long after the moment has come.
    """
    folder.mkdir(parents=True)
    whole, killed = folder / "whole", folder / "killed"
    process = start(whole)
    save_s = _seconds_of_a_save(process, whole)
    if code := process.wait(_PATIENCE_S):
        return [f"the undisturbed run ended with {code}: {whole.with_suffix('.log')}"]
    for number, (victim, moment) in enumerate(plan, 1):
        what = _kill(start(killed), killed, (victim, moment), save_s, draw)
        if what is None:
            return [f"the run ended by itself after {number - 1} kills: {killed.with_suffix('.log')}"]
        print(f"{folder.name}: kill {number} of {len(plan)}: {what}; newest checkpoint {_newest(killed)}", flush=True)
    if code := start(killed).wait(_PATIENCE_S):
        return [f"the run ended with {code} after {len(plan)} kills: {killed.with_suffix('.log')}"]
    return list(_differences(whole, killed))


def plan_kills(kills: int, draw: random.Random) -> list[tuple[str, str]]:
    """Return whom to kill when: all combinations equally often, shuffled; one of four before a step at most."""
    deck = [(victim, moment) for victim in _VICTIMS for moment in (*_MOMENTS[:2], *_MOMENTS[:2], _MOMENTS[2])]
    cards: list[tuple[str, str]] = []
    while len(cards) < kills:
        cards += draw.sample(deck, len(deck))
    return cards[:kills]


def _seconds_of_a_save(process: "subprocess.Popen[bytes]", output: Path) -> float:
    """Watch a run to its end, and return the median of what a save took."""
    spent, began_s = [0.0], None
    while process.poll() is None:
        if began_s is None and _is_saving(output):
            began_s = time.monotonic()
        elif began_s is not None and not _is_saving(output):
            spent.append(time.monotonic() - began_s)
            began_s = None
        time.sleep(_LOOK_S)
    return statistics.median(spent)


def _kill(
    process: "subprocess.Popen[bytes]", output: Path, card: tuple[str, str], save_s: float, draw: random.Random
) -> str | None:
    """Kill one process of a run when its moment has come, and wait for all of them; None where the run ended before."""
    victim, moment = card
    saves = draw.randrange(1, 3) if moment == "during a save" else 1
    before, end_s, at_s = _newest(output), time.monotonic() + _PATIENCE_S, None
    while process.poll() is None and time.monotonic() < end_s:
        new = _newest(output) - before
        if at_s is not None and time.monotonic() >= at_s and (victim == _VICTIMS[0] or len(_ranks(process.pid)) == 2):
            break
        if at_s is None and moment == "during a save" and new >= 2 * (saves - 1) and _is_saving(output):
            at_s = time.monotonic() + draw.uniform(0.0, save_s)
        elif at_s is None and moment == "between two saves" and new > 0 and not _is_saving(output):
            at_s = time.monotonic() + draw.uniform(0.0, 1.0)
        elif at_s is None and moment == "before a step" and len(_ranks(process.pid)) == 2:
            at_s = time.monotonic() + draw.uniform(0.0, 5.0)
        time.sleep(_LOOK_S)
    if process.poll() is not None:
        return None
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    ranks, place = _ranks(process.pid), _VICTIMS.index(victim) - 1
    found = "during a save" if _is_saving(output) else "between two saves" if _newest(output) > before else "before one"
    (tree[0] if place < 0 else ranks[place]).send_signal(signal.SIGKILL)
    process.wait(_PATIENCE_S)
    if psutil.wait_procs(tree, timeout=120)[1]:
        raise SystemExit(f"{output}: processes of a killed run are still there after two minutes")
    return f"{victim}, {found}"


def _ranks(launcher: int) -> list[psutil.Process]:
    """Return the ranks of a run in their order: forks of the launcher's fork server, or processes of their own."""
    children = psutil.Process(launcher).children(recursive=True)
    by_pid = {child.pid: child for child in children}
    forks = [child for child in children if "forkserver" in _line(child)]
    if forks:
        found = [child for child in forks if child.ppid() in by_pid and "forkserver" in _line(by_pid[child.ppid()])]
    else:
        found = [child for child in children if child.ppid() == launcher and ".py" in _line(child)]
    return sorted(found, key=lambda child: child.pid)[:2]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return ""


def _is_saving(output: Path) -> bool:
    return (output / ".saving").is_dir()


def _newest(output: Path) -> int:
    names = [path.name.removeprefix("checkpoint-") for path in output.glob("checkpoint-*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _differences(whole: Path, killed: Path) -> Iterator[str]:
    """Yield which of the final weights, in the folder and in its last checkpoint, and which losses are others."""
    files = [
        path.relative_to(whole) for path in (*whole.iterdir(), *(whole / f"checkpoint-{_newest(whole)}").iterdir())
    ]
    weights = sorted(path for path in files if path.name in _WEIGHTS)
    if not weights:
        yield f"no weights in {whole}"
    for name in weights:
        if not (killed / name).is_file():
            yield f"{name} is missing"
            continue
        ours, theirs = load_file(whole / name), load_file(killed / name)
        if ours.keys() != theirs.keys() or not all(ours[key].equal(theirs[key]) for key in ours):
            yield f"{name} differs"
    wanted, found = losses(whole), losses(killed)
    if not wanted or wanted != found:
        steps = [step for step in sorted(wanted.keys() | found.keys()) if wanted.get(step) != found.get(step)]
        yield f"loss or gradient norm differs at steps {steps[:5]}"


def losses(output: Path) -> dict[int, list[tuple[float, float]]]:
    """Return loss and gradient norm of each step that a run's journal holds; two of a step where attempts differ."""
    found: dict[int, list[tuple[float, float]]] = {}
    for line in (output / "tracking.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("step") is not None and "grad_norm" in row["values"]:
            point = (row["values"]["loss"], row["values"]["grad_norm"])
            if point not in (points := found.setdefault(row["step"], [])):
                points.append(point)
    return found


if __name__ == "__main__":
    sys.exit(main())
