"""EPO steps against stock TRL: the same weights, pairs and losses, in turn in one process; ratios of medians.

    python benchmarks/epo_step.py --json out.json [--parts tiny,real,peak] [--real FOLDER] [--threads 2]

Stock is `trl.DPOTrainer` as it comes (`benchmarks/step_arms.py`), on the language model that is inside ours; both train
a LoRA of rank 16 in float32 on a CPU, by plain gradient descent, and start from the same weights. Pairs are made up,
token by token.

- `tiny`: the quickstart's language model; prompts of 400 tokens, replies of 40, four pairs a step. Prompts are words
  alone, so `ratio_online` compares what is done with a prompt, and `ratio_cached` leaves the reference out besides.
  With encoders the same length is a history of 18 turns as memories, a clip of three seconds, and words: stock runs
  compressor and extractor for each row, under policy and reference, as any model does that TRL trains.
  `ratio_encoded` is ours with encoded prompts kept, `ratio_encoded_cached` with the reference's scores kept besides.
- `real`: SmolLM2's shape (`--real` takes its weights), histories of 18 turns of 27 tokens, two pairs a step. `memory`
  is stock on the same memory prompts, whose vectors it is given for nothing, while ours makes them; `full text` is
  stock reading the history as text, as it is run by those who have no memories.
- `peak`: the largest resident memory of a child process that takes three steps of `real`, and does nothing else.

`fraction_of_limit` divides `ratio_online` by what the counts of tokens allow: with P prompt and C reply tokens, N
weights in the layers and H in the head, (N + H) 2 (P + C) / (N (P + 2 C) + H 2 C); without the head
2 (P + C) / (P + 2 C).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

warnings.filterwarnings("ignore", category=FutureWarning)
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch  # noqa: E402

from launch import stage  # noqa: E402, F401  (mends sys.path)

sys.path.append(str(Path(__file__).parent))  # taken off with it; `compressor` is the package by now
from step_arms import (  # noqa: E402
    Shape,
    lora_weights,
    make_model,
    our_trainer,
    remembered_pairs,
    settings,
    start_alike,
    stock_trainer,
    text_pairs,
    with_vectors,
)
from step_clock import Rounds, ratio  # noqa: E402

TINY = Shape(pairs=4, words=400, reply=40)
TINY_WITH_ENCODERS = Shape(pairs=4, words=400 - 18 * 4, reply=40, turns=18)
REAL = Shape(pairs=2, words=45, reply=30, turns=18)
PEAKS = ("ours", "cached", "stock memory", "stock full text")


class Bench:
    """Makes trainers for `steps` steps, all from the same weights."""

    def __init__(self, folder: Path, options: SimpleNamespace) -> None:
        self._folder, self._options = folder, options

    def online(self) -> dict[str, Any]:
        """Return stock and ours, online and cached, on prompts of words."""

        def pairs(model: Any) -> Any:
            return text_pairs(TINY, self._count(TINY), model)

        return {
            "stock": self._stock(TINY, pairs),
            "ours": self._ours(TINY, pairs),
            "cached": self._ours(TINY, pairs, self._folder / "tiny"),
        }

    def with_encoders(self) -> dict[str, Any]:
        """Return stock and ours on memories and clips."""

        def pairs(model: Any) -> Any:
            return remembered_pairs(TINY_WITH_ENCODERS, self._count(TINY_WITH_ENCODERS), model, with_clips=True)

        encoded = self._folder / "encoded"
        return {
            "stock": self._stock(TINY_WITH_ENCODERS, pairs),
            "ours": self._ours(TINY_WITH_ENCODERS, pairs),
            "encoded": self._ours(TINY_WITH_ENCODERS, pairs, encoded=encoded),
            "both": self._ours(TINY_WITH_ENCODERS, pairs, self._folder / "tiny", encoded),
        }

    def real(self, names: tuple[str, ...] = PEAKS) -> dict[str, Any]:
        """Return the trainers of these names on a model of SmolLM2's shape."""

        def memories(model: Any) -> Any:
            return remembered_pairs(REAL, self._count(REAL), model, with_clips=False)

        made: dict[str, Callable[[], Any]] = {
            "ours": lambda: self._ours(REAL, memories, real=True),
            "cached": lambda: self._ours(REAL, memories, self._folder / "real", real=True),
            "stock memory": lambda: self._stock(REAL, lambda m: with_vectors(memories(m), m), real=True),
            "stock full text": lambda: self._stock(REAL, lambda m: text_pairs(REAL, self._count(REAL), m), real=True),
        }
        return {name: made[name]() for name in names}

    def _count(self, shape: Shape) -> int:
        return shape.pairs * self._options.steps

    def _stock(self, shape: Shape, pairs: Callable[[Any], Any], real: bool = False) -> Any:
        model, processor = make_model(real, self._options.real)
        return stock_trainer(pairs(model), model, processor, settings(self._folder, shape, self._options.steps))

    def _ours(
        self,
        shape: Shape,
        pairs: Callable[[Any], Any],
        scores: Path | None = None,
        encoded: Path | None = None,
        real: bool = False,
    ) -> Any:
        model, processor = make_model(real, self._options.real)
        args = settings(self._folder, shape, self._options.steps)
        return our_trainer(pairs(model), model, processor, args, scores, encoded)


def main() -> None:
    """Run the parts asked for and write what they gave."""
    options = parse()
    torch.set_num_threads(options.threads)
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if options.child is not None:
            return run_child(Bench(Path(folder), options), options.child)
        report: dict[str, Any] = {"machine": machine(options)}
        bench = Bench(Path(folder), options)
        if "tiny" in options.parts:
            add_tiny(report, bench, options.clock)
        if "real" in options.parts:
            add_real(
                report, Bench(Path(folder), SimpleNamespace(**vars(options) | {"steps": options.real_steps})), options
            )
    if "peak" in options.parts:
        add_peaks(report, options)
    report["minutes"] = (time.monotonic() - started_s) / 60
    text = json.dumps(report, indent=2)
    if options.json is not None:
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    print(text)
    gaps = [report[key] for key in ("max_rel_loss_diff", "max_rel_weight_diff") if key in report]
    sys.exit(0 if all(gap <= 1e-4 for gap in gaps) else 1)


def parse() -> SimpleNamespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--parts", default="tiny,real,peak", help="of tiny, real, peak; by commas")
    parser.add_argument("--steps", type=int, default=12, help="of each tiny trainer; the first two are not counted")
    parser.add_argument("--real_steps", type=int, default=6, help="of each real one")
    parser.add_argument("--real", help="folder of a pretrained language model; none: SmolLM2's shape, weights drawn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: where other work shares the cores"
    )
    parser.add_argument("--child", choices=PEAKS, help=argparse.SUPPRESS)
    options = SimpleNamespace(**vars(parser.parse_args()))
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - {"tiny", "real", "peak"}:
        parser.error(f"--parts: there is no {', '.join(sorted(unknown))}; want tiny, real, peak")
    if min(options.steps, options.real_steps) < 3:
        parser.error("--steps and --real_steps: the first two are not counted; want at least 3")
    return options


def machine(options: SimpleNamespace) -> dict[str, Any]:
    """Return what ran, and how busy it was before."""
    return {
        "threads": options.threads, "cores": os.cpu_count(), "load_before": os.getloadavg()[0], "clock": options.clock,
        "processor": platform.processor() or platform.machine(), "torch": torch.__version__,
    }  # fmt: skip


def add_tiny(report: dict[str, Any], bench: Bench, clock: str) -> None:
    """Measure the tiny parts."""
    trainers = bench.online()
    clocks = run_alike(report, trainers, ("ours", "cached"), "stock")
    add_ratio(report, "ratio_online", clocks["stock"], clocks["ours"], clock)
    add_ratio(report, "ratio_cached", clocks["stock"], clocks["cached"], clock)
    report |= limits(TINY, trainers["stock"].model.get_base_model())
    report["fraction_of_limit"] = report["ratio_online"] / report["limit"]
    clocks = run_alike(report, bench.with_encoders(), ("ours", "encoded", "both"), "stock")
    add_ratio(report, "ratio_online_with_encoders", clocks["stock"], clocks["ours"], clock)
    add_ratio(report, "ratio_encoded", clocks["stock"], clocks["encoded"], clock)
    add_ratio(report, "ratio_encoded_cached", clocks["stock"], clocks["both"], clock)


def add_real(report: dict[str, Any], bench: Bench, options: SimpleNamespace) -> None:
    """Measure the model of SmolLM2's shape."""
    clocks = run_alike(report, bench.real(), ("ours", "cached"), "stock memory")
    add_ratio(report, "ratio_real_memory", clocks["stock memory"], clocks["ours"], options.clock)
    add_ratio(report, "ratio_real_memory_cached", clocks["stock memory"], clocks["cached"], options.clock)
    add_ratio(report, "ratio_real_full_text", clocks["stock full text"], clocks["ours"], options.clock)
    add_ratio(report, "ratio_real_full_text_cached", clocks["stock full text"], clocks["cached"], options.clock)


def run_alike(report: dict[str, Any], trainers: dict[str, Any], ours: tuple[str, ...], stock: str) -> dict[str, Any]:
    """Let trainers step in turn from one LoRA, and note by how much the numbers of ours differ from stock's."""
    start_alike(list(trainers.values()))
    clocks = Rounds(trainers).run()
    weights = lora_weights(trainers[stock])
    for name in ours:
        losses = [
            abs(a - b) / abs(b)
            for which in ("losses", "gradient_norms")
            for a, b in zip(getattr(clocks[name], which), getattr(clocks[stock], which), strict=True)
        ]
        moved = [((p - weights[n]).norm() / weights[n].norm()).item() for n, p in lora_weights(trainers[name]).items()]
        report["max_rel_loss_diff"] = max(report.get("max_rel_loss_diff", 0.0), *losses)
        report["max_rel_weight_diff"] = max(report.get("max_rel_weight_diff", 0.0), *moved)
    return clocks


def add_ratio(report: dict[str, Any], key: str, slow: Any, fast: Any, clock: str) -> None:
    """Note a ratio with its spread, and the seconds behind it."""
    which = "seconds" if clock == "wall" else "cpu_seconds"
    found = ratio(getattr(slow, which), getattr(fast, which), warm_up=2)
    report[key] = found["median"]
    report.setdefault("spread", {})[key] = [found["least"], found["largest"]]
    report.setdefault("seconds", {})[key] = [getattr(slow, which)[2:], getattr(fast, which)[2:]]


def limits(shape: Shape, llm: Any) -> dict[str, float]:
    """Return what the counts of tokens allow, with the head's work and without it."""
    prompt, reply = shape.words, shape.reply
    head = llm.get_output_embeddings().weight.numel()
    layers = sum(p.numel() for n, p in llm.named_parameters() if ".layers." in n and ".lora_" not in n)
    ours = layers * (prompt + 2 * reply) + head * 2 * reply
    tokens = 2 * (prompt + reply)
    return {"limit": (layers + head) * tokens / ours, "limit_without_head": tokens / (prompt + 2 * reply)}


def run_child(bench: Bench, name: str) -> None:
    """Take the steps of one trainer and print the largest memory this process has had, in MiB."""
    bench.real((name,))[name].train()
    # Not getrusage: its largest memory is that of the process that started this one, if that was larger.
    lines = Path("/proc/self/status").read_text().splitlines()
    print("PEAK", int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024)


def add_peaks(report: dict[str, Any], options: SimpleNamespace) -> None:
    """Measure the memory of each real trainer in a process of its own."""
    keys = dict(
        zip(PEAKS, ("peak_mib_ours", "peak_mib_ours_cached", "peak_mib_trl", "peak_mib_trl_full_text"), strict=True)
    )
    for name, key in keys.items():
        command = [sys.executable, __file__, "--child", name, "--steps", "3", "--threads", str(options.threads)]
        command += [] if options.real is None else ["--real", options.real]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        lines = [line for line in done.stdout.splitlines() if line.startswith("PEAK ")]
        if not lines:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        report[key] = float(lines[0].removeprefix("PEAK "))


if __name__ == "__main__":
    main()
