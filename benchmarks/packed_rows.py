"""What `tokens_per_row` saves: steps of EPO with several pairs in a row against one pair a row, in turn in one process.

    python benchmarks/packed_rows.py --json out.json [--budgets 1,512,1024,4096] [--steps 8] [--real]

The quickstart's language model (`--real`: one of SmolLM2's shape), LoRA of rank 16, float32 on a CPU, eight pairs a
step, made up token by token: prompts of 40 to 400 tokens, replies of 8 to 60, drawn evenly. Pairs come as they fall,
and grouped by length as a stage groups them. A budget of 1 makes rows as long as the longest pair of a micro-batch.
Noted are the share of computed positions that are padding, the ratio of median steps to those with one pair a row
(above 1: packing is faster), and by how much losses, gradient norms and trained weights differ; above 1e-4 it ends
with 1.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch  # noqa: E402

from launch import stage  # noqa: E402, F401  (mends sys.path)
from compressor.curriculum import ScheduledDataset  # noqa: E402
from epo.model.packed_rows import place_pairs  # noqa: E402

sys.path.append(str(Path(__file__).parent))  # taken off with it; `compressor` is the package by now
from step_arms import FIRST_WORD, Shape, lora_weights, make_model, our_trainer, settings, start_alike  # noqa: E402
from step_clock import Rounds, ratio  # noqa: E402

PAIRS = 8
ORDERS = ("as they fall", "grouped")


def varied_pairs(count: int, vocabulary: int, order: str) -> list[dict[str, Any]]:
    """Return pairs of unequal length, in the order in which they are learnt."""
    draw = torch.Generator().manual_seed(1)

    def ids(least: int, most: int) -> list[int]:
        length = int(torch.randint(least, most + 1, (1,), generator=draw))
        drawn: list[int] = torch.randint(FIRST_WORD, vocabulary, (length,), generator=draw).tolist()
        return drawn

    rows = [{"prompt": ids(40, 400), "chosen": ids(8, 60), "rejected": ids(8, 60)} for _ in range(count)]
    if order == "as they fall":
        return rows
    schedule = ScheduledDataset(count, count, 0, [len(row["prompt"]) for row in rows], PAIRS)
    return [rows[int(schedule[position]["index"])] for position in range(count)]


def padding(rows: list[dict[str, Any]], budget: int | None) -> float:
    """Return the share of positions that are padding, over all steps."""
    real = computed = 0
    for start in range(0, len(rows), PAIRS):
        lengths = torch.tensor([sum(map(len, row.values())) for row in rows[start : start + PAIRS]])
        real += int(lengths.sum())
        longest = int(lengths.max())
        computed += PAIRS * longest if budget is None else place_pairs(lengths, longest, budget).taken.numel()
    return 1 - real / computed


def measure(folder: Path, options: SimpleNamespace, order: str) -> dict[str, Any]:
    """Let trainers with each budget step in turn over pairs in one order."""
    trainers, shape = {}, Shape(pairs=PAIRS, words=0, reply=0)
    for budget in (None, *options.budgets):
        model, processor = make_model(options.real, None)
        rows = varied_pairs(PAIRS * options.steps, model.config.text_config.vocab_size, order)
        args = settings(folder, shape, options.steps) | {"tokens_per_row": budget}
        trainers[str(budget)] = our_trainer(rows, model, processor, args)
    start_alike(list(trainers.values()))
    clocks = Rounds(trainers).run()
    plain, weights = clocks["None"], lora_weights(trainers["None"])
    which = "seconds" if options.clock == "wall" else "cpu_seconds"
    found: dict[str, Any] = {"one pair a row": {"padding": padding(rows, None), "step_s": median(plain, which)}}
    for budget in options.budgets:
        clock = clocks[str(budget)]
        logged = [
            abs(a - b) / abs(b)
            for numbers in ("losses", "gradient_norms")
            for a, b in zip(getattr(clock, numbers), getattr(plain, numbers), strict=True)
        ]
        moved = [
            ((p - weights[n]).norm() / weights[n].norm()).item() for n, p in lora_weights(trainers[str(budget)]).items()
        ]
        speed = ratio(getattr(plain, which), getattr(clock, which), warm_up=2)
        found[f"tokens_per_row {budget}"] = {
            "padding": padding(rows, budget), "step_s": median(clock, which), "ratio": speed,
            "max_rel_loss_diff": max(logged), "max_rel_weight_diff": max(moved),
        }  # fmt: skip
    return found


def median(clock: Any, which: str) -> float:
    """Return the median step, in seconds, the first two left out."""
    return statistics.median(getattr(clock, which)[2:])


def main() -> None:
    """Measure both orders and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--budgets", default="1,512,1024,4096", help="values of tokens_per_row, by commas")
    parser.add_argument("--steps", type=int, default=8, help="of each trainer; the first two are not counted")
    parser.add_argument("--real", action="store_true", help="a language model of SmolLM2's shape")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: where other work shares the cores"
    )
    options = SimpleNamespace(**vars(parser.parse_args()))
    options.budgets = [int(budget) for budget in options.budgets.split(",")]
    if options.steps < 3:
        parser.error("--steps: the first two are not counted; want at least 3")
    torch.set_num_threads(options.threads)
    started_s = time.monotonic()
    report: dict[str, Any] = {"threads": options.threads, "clock": options.clock, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        report |= {order: measure(Path(folder), options, order) for order in ORDERS}
    report["minutes"] = (time.monotonic() - started_s) / 60
    text = json.dumps(report, indent=2)
    if options.json is not None:
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    print(text)
    arms = [arm for order in ORDERS for name, arm in report[order].items() if name != "one pair a row"]
    gap = max(arm[key] for arm in arms for key in ("max_rel_loss_diff", "max_rel_weight_diff"))
    sys.exit(0 if gap <= 1e-4 else 1)


if __name__ == "__main__":
    main()
