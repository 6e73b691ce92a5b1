"""One rank of the matrix of test_precision.py: runs all stages in both precisions and writes down what came out.

Started as users start a stage, by python or `accelerate launch`: `matrix_rank.py CORPUS PARTS BEFORE OUT [CELL ...]`.
BEFORE holds the stages of one process, which every layout goes on from; where it is OUT itself, this is that process.
With cells, as `sft:float32`, only those are run.
"""

import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml
from accelerate.state import AcceleratorState
from matrix_stages import PRECISIONS, STAGES, recipe

from launch import stage as place
from launch import training
from compressor.seams import gathered_state, skip_unused_operator, whole_model


def main(corpus, parts, before, out, *cells):
    torch.set_num_threads(1)
    skip_unused_operator()
    for precision in PRECISIONS:
        for stage in STAGES:
            if cells and f"{stage.name}:{precision}" not in cells:
                continue
            AcceleratorState._reset_state()  # each stage is a process of its own elsewhere
            run(stage, precision, corpus, parts, before / precision, out / precision)


def run(stage, precision, corpus, parts, before, out):
    """Run a stage as its command would, but for MLflow, and write `STAGE.json` on rank 0."""
    seen = SimpleNamespace()
    stage.script.fit = lambda trainer: observe(trainer, seen)
    stage.script.open_run = untracked
    out.mkdir(parents=True, exist_ok=True)
    config, folder = out / f"{stage.name}-{place.rank()}.yaml", out / stage.name
    config.write_text(yaml.safe_dump(recipe(stage, precision, parts, before, corpus, folder)))
    sys.argv = [stage.script.__file__, "--config", str(config)]
    stage.script.run()
    seen.found["trained_loss"] = loss_of_the_trained(stage, seen.trainer, folder, before, corpus)
    if place.rank() == 0:
        with torch.no_grad():
            again = stage.load(folder, before, precision).eval()
            seen.found["reloaded_loss"] = stage.loss(again, folder, before, corpus).item()
        (out / f"{stage.name}.json").write_text(json.dumps(seen.found))


def observe(trainer, seen):
    """Train, and note the loss and gradient norm of each step, what was to train, and what did move."""
    seen.trainer = trainer
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trained = sorted(name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad)
    result = training.fit(trainer)
    after = gathered_state(trainer)
    steps = [[log["loss"], log["grad_norm"]] for log in trainer.state.log_history if "grad_norm" in log]
    seen.found = {"steps": steps, "trained": trained}
    seen.found["buffers"] = sorted({str(b.dtype) for b in trainer.model.buffers() if b.is_floating_point()})
    if place.rank() == 0:
        # Rounded as what came out is: under DeepSpeed all weights become bfloat16.
        moved = (n for n, weight in before.items() if not weight.to(after[n].dtype).equal(after[n]))
        seen.found |= {"moved": sorted(moved), "dtypes": sorted({str(weight.dtype) for weight in after.values()})}
    return result


def loss_of_the_trained(stage, trainer, folder, before, corpus):
    """Measure the model as it computed while it trained, before it is saved and read again."""
    with whole_model(trainer):
        if place.rank() != 0:
            return None
        model = trainer.accelerator.unwrap_model(trainer.model).eval()
        with torch.no_grad(), trainer.compute_loss_context_manager():
            return stage.loss(model, folder, before, corpus).item()


@contextlib.contextmanager
def untracked(*_):
    from transformers import TrainerCallback

    def nothing(*_):
        return None

    yield SimpleNamespace(callback=TrainerCallback, log_metrics=nothing)


if __name__ == "__main__":
    place.main(lambda: main(*(Path(argument) for argument in sys.argv[1:5]), *sys.argv[5:]), is_stage=False)
