"""What saving and resuming cost a stage, and what Python costs it in a step beside forward, backward and optimizer.

    python benchmarks/checkpointing.py --run runs/quickstart --folder runs/checkpointing --json out.json

EPO and SFT of the quickstart train a few steps from the results of a finished run, by one process and by two ranks
under ZeRO-2. A save's share is what the training thread spends in it, and waits for it, over the time of the steps
between two saves of the recipe. Then the same command goes on from the last checkpoint, until its first step has ended;
for one process the seconds are told by phases too. All figures are of one call, so ratios may be compared.
"""

import argparse
import json
import math
import runpy
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT))

_INTERVAL = {"epo": 160, "sft": 115}
"""`save_steps` of recipes/quickstart."""
_RANKS = {
    "one process": [],
    "two ranks, ZeRO-2": ["-m", "accelerate.commands.launch", "--config_file", "launch/accelerate/zero2-cpu.yaml"],
}
_WARM = 4  # steps that are not counted
_COMPUTING = ("forward", "backward", "gradient norm", "optimizer")
_INSIDE = "inside"


class Clock:
    """Seconds of the wall and of this thread's CPU that a function took, call by call, without what other clocks took.

    Attributes:
        calls: of each the end, and the seconds spent; of the wall, then of the CPU.
        first_end: the wall's time, and the process's CPU, when the first call had ended.
    """

    _inner: list[tuple[float, float]] = []  # of each call that is open, what clocked calls within it took

    def __init__(self, place: Any, name: str) -> None:
        """Take the function's place."""
        self.calls: list[tuple[tuple[float, float], tuple[float, float]]] = []
        self.first_end: tuple[float, float] | None = None
        function = getattr(place, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = _now()
            Clock._inner.append((0.0, 0.0))
            try:
                return function(*args, **kwargs)
            finally:
                ended, inner = _now(), Clock._inner.pop()
                whole = (ended[0] - began[0], ended[1] - began[1])
                self.calls.append((ended, (whole[0] - inner[0], whole[1] - inner[1])))
                if Clock._inner:
                    outer = Clock._inner[-1]
                    Clock._inner[-1] = (outer[0] + whole[0], outer[1] + whole[1])
                self.first_end = self.first_end or (time.time(), time.process_time())

        setattr(place, name, timed)

    def spent(self, kind: int, after: tuple[float, float], until: tuple[float, float]) -> list[float]:
        """Return wall (0) or CPU (1) seconds of each call that ended between two moments."""
        return [spent[kind] for ended, spent in self.calls if after[0] < ended[0] <= until[0]]


def _now() -> tuple[float, float]:
    return time.monotonic(), time.thread_time()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each stage on one process and on two ranks, and print and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=_ROOT / "runs/quickstart", help="whose stages are done")
    parser.add_argument("--folder", type=Path, required=True, help="for the runs; what it holds is deleted")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stages", nargs="+", choices=sorted(_INTERVAL), default=["epo", "sft"])
    parser.add_argument("--ranks", nargs="+", choices=sorted(_RANKS), default=list(_RANKS))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--save_steps", type=int, default=4)
    parser.add_argument("--encoder_cache", action="store_true", help="let EPO keep encoded prompts")
    asked = parser.parse_args(argv)
    figures: dict[str, Any] = {}
    for stage in asked.stages:
        for ranks in asked.ranks:
            figures[f"{stage}, {ranks}"] = row = _measure(stage, _RANKS[ranks], asked)
            print(f"{stage}, {ranks}: {json.dumps(row, indent=1)}", flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


def _measure(stage: str, launch: Sequence[str], asked: argparse.Namespace) -> dict[str, Any]:
    folder: Path = asked.folder / f"{stage}-{len(launch)}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    keys = {
        "run": asked.run, "output_dir": folder / "run", "max_steps": asked.steps, "save_steps": asked.save_steps,
        "save_total_limit": 2, "logging_steps": 1,
    }  # fmt: skip
    if asked.encoder_cache and stage == "epo":
        keys["encoder_cache"] = asked.folder / "encoded"
    words = ["--config", f"recipes/quickstart/{stage}.yaml"]
    words += [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    inside = [sys.executable, *launch, "benchmarks/checkpointing.py", _INSIDE, stage]
    _run([*inside, str(folder / "train.json"), *words], folder)
    row = json.loads((folder / "train.json").read_text())
    for kind in ("wall", "cpu"):
        row[kind]["save_share"] = round(row[kind]["save_s"] / (_INTERVAL[stage] * row[kind]["step_s"]), 5)
    newest = max((folder / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(newest)
    if not launch:
        _copied(folder, "phases")
        again = [word.replace(str(folder / "run"), str(folder / "phases")) for word in words]
        _run([*inside, str(folder / "phases.json"), *again], folder)
        resumed = json.loads((folder / "phases.json").read_text())
        row["resume_by_phases_s"] = {kind: resumed[kind]["start_s"] for kind in ("wall", "cpu")}
    _copied(folder, "resumed")
    again = [word.replace(str(folder / "run"), str(folder / "resumed")) for word in words]
    began_s = time.time()
    _run([sys.executable, *launch, f"launch/{stage}.py", *again], folder)
    row["resume_to_first_step_s"] = round(_first_step_s(folder / "resumed", began_s) - began_s, 2)
    return row


def _copied(folder: Path, name: str) -> None:
    """Copy a run as one that was killed: nothing says that it is done, or how it was going."""
    left_out = shutil.ignore_patterns("stage.json", "tracking.*", "mlflow_run_id.txt", ".lock")
    shutil.copytree(folder / "run", folder / name, ignore=left_out, dirs_exist_ok=True)


def _run(command: Sequence[str], folder: Path) -> None:
    with (folder / "log.txt").open("a") as log:
        if code := subprocess.run(command, cwd=_ROOT, stdout=log, stderr=log).returncode:
            raise SystemExit(f"{' '.join(command)} ended with {code}: {folder / 'log.txt'}")


def _first_step_s(output: Path, began_s: float) -> float:
    rows = map(json.loads, (output / "tracking.jsonl").read_text(encoding="utf-8").splitlines())
    return next(
        row["time_ms"] / 1000 for row in rows if row.get("step") is not None and row["time_ms"] > began_s * 1000
    )


def run_inside(stage: str, report: Path, words: Sequence[str]) -> None:
    """Run a stage in this process with clocks on, and let rank 0 write what they say."""
    launched_s = psutil.Process().create_time()
    import launch.training  # first: `launch` takes this file's folder off the path

    steps, phases = _clocks(stage)
    sys.argv = [f"launch/{stage}.py", *words]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        if launch.stage.rank() == 0:
            report.write_text(json.dumps(_told(steps, phases, launched_s), indent=1))


def _clocks(stage: str) -> tuple[dict[str, Clock], dict[str, Clock]]:
    """Return clocks of the parts of a step, and of what ends each phase of a start, in order."""
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer
    from transformers import Trainer
    from transformers.trainer_callback import CallbackHandler

    import launch.clip_check
    import launch.folder.stage_folder
    import launch.recipe
    import launch.training
    from compressor.checkpointed_trainer import CheckpointedTrainer
    from epo.model import family, loading
    from epo.training.sft import SftTrainer
    from epo.training.trainer import EpoTrainer
    from launch.tracked_run import TrackedRun

    trainer, model = {
        "epo": (EpoTrainer, (family, "load_of_family")), "sft": (SftTrainer, (loading, "join_parts")),
    }[stage]  # fmt: skip
    steps = {
        "forward": Clock(trainer, "compute_loss"), "backward": Clock(Accelerator, "backward"),
        "gradient norm": Clock(Trainer, "_clip_grad_norm"), "optimizer": Clock(AcceleratedOptimizer, "step"),
        "save": Clock(CheckpointedTrainer, "_save_checkpoint"), "batch": Clock(Trainer, "get_batch_samples"),
        "log": Clock(Trainer, "log"), "end of a step": Clock(CallbackHandler, "on_step_end"),
    }  # fmt: skip
    phases = {
        "imports, recipe": Clock(launch.recipe, "read_recipe"),
        "data, digests": Clock(launch.folder.stage_folder, "begin_attempt"), "model": Clock(*model),
        "clips": Clock(launch.clip_check, "read_clips_first"), "tracking": Clock(TrackedRun, "__init__"),
        "trainer": Clock(launch.training, "gather_together"), "verification": Clock(launch.training, "newest_whole"),
        "states": Clock(CallbackHandler, "on_train_begin"), "batch": steps["batch"], "step": steps["end of a step"],
    }  # fmt: skip
    return steps, phases


def _told(steps: dict[str, Clock], phases: dict[str, Clock], launched_s: float) -> dict[str, Any]:
    """Return seconds of a step by parts, of a save, and of each phase of the start; of the wall and of the CPU."""
    ends = [ended for ended, _ in steps["end of a step"].calls]
    warm = min(_WARM, len(ends) - 1)  # a resumed run has few
    told: dict[str, Any] = {"steps": len(ends) - warm}
    for kind, name in enumerate(("wall", "cpu")):
        span = (ends[warm - 1], ends[-1])
        parts = {part: sum(clock.spent(kind, *span)) for part, clock in steps.items()}
        parts["else"] = span[1][kind] - span[0][kind] - sum(parts.values())
        del parts["save"]
        step_s = sum(parts.values()) / told["steps"]
        saves = steps["save"].spent(kind, (0.0, 0.0), (math.inf, math.inf))
        before, start = (launched_s, 0.0)[kind], {}
        for phase, clock in phases.items():
            if clock.first_end is not None:
                start[phase] = round(clock.first_end[kind] - before, 2)
                before = clock.first_end[kind]
        computing_s = sum(parts[part] for part in _COMPUTING) / told["steps"]
        told[name] = {
            "step_s": round(step_s, 4), "python_share": round(1 - computing_s / step_s, 4),
            "step_parts_s": {part: round(value / told["steps"], 5) for part, value in parts.items()},
            "saves": len(saves), "save_s": round(statistics.median(saves), 4) if saves else None,
            "start_s": start | {"whole": round(sum(start.values()), 2)},
        }  # fmt: skip
    return told


if __name__ == "__main__":
    if sys.argv[1:2] == [_INSIDE]:
        run_inside(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    else:
        main()
