"""What saving and resuming cost a stage: a save's share of the time at a save interval, and the time to the first step.

    accelerate launch --config_file launch/accelerate/zero2-cpu.yaml benchmarks/save_cost.py launch/epo.py \
        --config recipes/quickstart/epo.yaml --run runs/quickstart --output_dir runs/cost --max_steps 24 --save_steps 8

Runs the stage with these arguments and prints, for rank 0, the medians of a step and of a save, and when the first step
ended. To measure a resume remove the newest checkpoint and stage.json, and give the same command again. EPO of the
quickstart saves every 160 steps, which the share is for.
"""

import runpy
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from compressor.checkpointed_trainer import CheckpointedTrainer
from launch.stage import rank

_INTERVAL = 160  # of recipes/quickstart/epo.yaml


class Clock:
    """Seconds of the clock and of this process's CPU, for each call of a method."""

    def __init__(self, kind: Any, name: str) -> None:
        self.spent: list[tuple[float, float]] = []
        self.first_end_s = self.first_cpu_s = 0.0
        method = getattr(kind, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            before = time.monotonic(), time.process_time()
            result = method(*args, **kwargs)
            self.spent.append((time.monotonic() - before[0], time.process_time() - before[1]))
            if len(self.spent) == 1:
                self.first_end_s, self.first_cpu_s = time.time(), time.process_time()
            return result

        setattr(kind, name, timed)

    def median(self) -> tuple[float, float]:
        """Return the medians, without the first, which also warms up."""
        rows = self.spent[1:] if len(self.spent) > 1 else self.spent
        return statistics.median(row[0] for row in rows), statistics.median(row[1] for row in rows)


def main() -> None:
    """Run the stage named first and print what was measured."""
    steps, saves = Clock(CheckpointedTrainer, "training_step"), Clock(CheckpointedTrainer, "_save_checkpoint")
    sys.argv = sys.argv[1:]
    launched_s = min(process.create_time() for process in _launchers())
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        if rank() == 0 and steps.spent and saves.spent:
            step, save = steps.median(), saves.median()
            shares = [100 * saving / (_INTERVAL * stepping) for saving, stepping in zip(save, step, strict=True)]
            print(f"a step {step[0]:.3f} s, {step[1]:.3f} s of CPU; a save {save[0]:.3f} s, {save[1]:.3f} s of CPU")
            print(f"a save in {_INTERVAL} steps: {shares[0]:.2f} % of the time, {shares[1]:.2f} % of the CPU")
            first_s = steps.first_end_s - launched_s
            print(f"first step ended {first_s:.1f} s after the launcher's start, {steps.first_cpu_s:.1f} s of its CPU")


def _launchers() -> list[psutil.Process]:
    this = psutil.Process()
    return [process for process in (this, *this.parents()) if "python" in process.name()]


if __name__ == "__main__":
    main()
