"""The compressor's speed and memory, as ratios within one run: a turn, a training step, a prefill, the live bytes.

    python benchmarks/compressor.py --json out.json [--real FOLDER]

Models have the shapes of the quickstart and of SmolLM2-135M, with random weights; `--real` takes a language model of
one's own for the second, such as SmolLM2 itself. What is compared is run in turn, round after round, so that load falls
on all alike. `train_speedup_real` is a training step through the large frozen language model beside the same step as
the project did it at first (commit ce82d39): scores of every position, whole rows; the losses are compared too.
"""

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments

from launch import stage  # noqa: F401  (first: mends sys.path)
from compressor.chat import chat_format
from compressor.curriculum import ScheduledDataset
from compressor.data import CompressionCollator, History, encode_turns
from compressor.fitting import FixedParts, memory_prompt
from compressor.objectives import memory_embeds, turn_memory
from compressor.text import IGNORE
from compressor.trainer import CompressorTrainer, ObjectiveWeights
from compressor.utterance import Utterance
from epo.evaluation.memory_costs import Readers, break_even, measure_costs
from epo.model.parts import build_compressor, load_llm, load_tokenizer
from epo.prompts.marks import add_placeholders

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "recipes" / "quickstart" / "parts"
REAL = ROOT / "recipes" / "realdata" / "parts"
SMOLLM2 = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}  # fmt: skip
# As long as what SmolLM2's template says of itself where no system prompt is given, in words of the histories below.
SYSTEM = (
    "they asked about today because we always had music at dinner and never really found the garden when it was winter"
)
WORDS = (
    "I you we they it is was were had have the a an and but so of to in on for with at from my your her his our went "
    "came saw met lost found bought made told asked lake train garden winter music dinner sister brother doctor "
    "Mira Otto Lena Paul happy sad angry tired again today yesterday never always really about because when where"
).split()


def main() -> None:
    """Measure, print and write."""
    options = parse()
    torch.manual_seed(0)
    began = time.perf_counter()
    turns = [make_turn(random.Random(i), i, 18) for i in range(200)]
    small = make_readers(load_llm(str(QUICKSTART / "llm.json"), "float32"), str(QUICKSTART / "llm.json"),
                         str(QUICKSTART / "mamba2.json"), turns, "")  # fmt: skip
    rows = measure_costs(small, turns, [2, 5, 10, 20, 50, 100, 200], options.repeats)
    at = {row["turns"]: row for row in rows}
    report: dict[str, Any] = {
        "per_turn_ratio_200_over_5": at[200]["turn_ms"] / at[5]["turn_ms"],
        "prefill_speedup_100": speedup(at[100]),
        "prefill_speedup_100_streamed": at[100]["text_ms"] / (at[100]["turn_ms"] + at[100]["memory_ms"]),
        "break_even_turns": break_even(rows),
        "memory_ratio_200": at[200]["memory_bytes"] / at[200]["text_bytes"],
        "prompt_ms_2000_turns": prompt_ms(small),
        **train_exponent(small, options.repeats),
        "quickstart_shape": rows,
    }
    progress("quickstart shape", began)
    large = make_readers(*large_model(options.real), str(REAL / "mamba2.json"), turns, SYSTEM)
    report |= train_speedup(large, options.rounds)
    progress("training step", began)
    rows = measure_costs(large, turns, [5, 10, 20, 100], 1)
    report |= {
        "real_prefill_speedup_100": speedup(rows[-1]),
        "real_break_even_turns": break_even(rows),
        "real_memory_ratio_100": rows[-1]["memory_bytes"] / rows[-1]["text_bytes"],
        "real_shape": rows,
        "real_model": "SmolLM2's shape, random weights" if options.real is None else options.real,
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps({key: value for key, value in report.items() if not isinstance(value, list)}, indent=2))
    if options.json is not None:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if report["train_largest_loss_gap"] < 1e-4 else 1)


def parse() -> SimpleNamespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--real", help="folder or hub name of a language model, in the place of SmolLM2's shape")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of timing, quickstart shape")
    parser.add_argument("--rounds", type=int, default=2, help="training steps of each way, large shape")
    return SimpleNamespace(**vars(parser.parse_args()))


def make_turn(rng: random.Random, number: int, mean_words: int) -> Utterance:
    """Return a turn of half to one and a half times so many words."""
    count = rng.randrange(mean_words // 2, mean_words * 3 // 2 + 1)
    speaker = "user" if number % 2 == 0 else "assistant"
    return Utterance(speaker, " ".join(rng.choice(WORDS) for _ in range(count)) + ".")


def large_model(real: str | None) -> tuple[Any, str]:
    """Return the large language model and what its tokenizer is loaded from."""
    if real is not None:
        return load_llm(real, "float32"), real
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMOLLM2)), str(QUICKSTART / "llm.json")


def make_readers(llm: Any, tokenizer_of: str, backbone: str, turns: Sequence[Utterance], system: str) -> Readers:
    """Put a fresh compressor of four memories a turn beside a language model."""
    texts = [turn.line for turn in turns]
    llm_tokenizer = load_tokenizer(tokenizer_of, texts)
    memory_id = add_placeholders(llm_tokenizer)["memory_token_id"]
    compressor = build_compressor(backbone, 4, llm)
    fixed = FixedParts(system, "", "And how was it for you today?")
    return Readers(llm.eval(), llm_tokenizer, memory_id, compressor, load_tokenizer(backbone, texts), fixed)


def speedup(row: dict[str, Any]) -> float:
    """Return how many times as fast a history is compressed and read as it is read as text."""
    faster: float = row["text_ms"] / (row["compress_ms"] + row["memory_ms"])
    return faster


def prompt_ms(readers: Readers) -> float:
    """Return the milliseconds of building the prompt of 2,000 turns that were never seen before; median of five."""
    found, chat = [], chat_format(readers.llm_tokenizer)
    k, size = readers.compressor.config.num_memory_tokens, readers.compressor.vocab_size
    for seed in range(5):
        rng = random.Random(1000 + seed)
        lines = [make_turn(rng, i, 12).line for i in range(2000)]
        began = time.perf_counter()
        memory_prompt(chat, readers.fixed, len(lines), k, None)
        encode_turns(readers.tokenizer, lines, size, k)
        found.append((time.perf_counter() - began) * 1e3)
    return statistics.median(found)


def make_trainer(readers: Readers, batch: int) -> CompressorTrainer:
    """Return the trainer of a stage, of which only the loss is asked."""
    folder = tempfile.mkdtemp()
    args = TrainingArguments(
        output_dir=folder, use_cpu=not torch.cuda.is_available(), report_to="none", per_device_train_batch_size=batch,
        max_steps=1, remove_unused_columns=False,
    )  # fmt: skip
    return CompressorTrainer(
        model=readers.compressor, args=args, train_dataset=ScheduledDataset(1, 1, 0), llm=readers.llm,
        memory_id=readers.memory_id, weights=ObjectiveWeights(),
    )  # fmt: skip


def make_batch(readers: Readers, num_turns: Sequence[int], mean_words: int, seed: int) -> dict[str, Tensor]:
    """Return a batch of histories of so many turns, as the stage collates them."""
    rng = random.Random(seed)
    collator = CompressionCollator(
        readers.tokenizer, readers.llm_tokenizer, readers.compressor.vocab_size,
        readers.compressor.config.num_memory_tokens, 10**6, has_text=False,
    )  # fmt: skip
    examples = []
    for count in num_turns:
        past = tuple(make_turn(rng, i, mean_words) for i in range(count))
        fixed = FixedParts(readers.fixed.system, "", make_turn(rng, 0, mean_words).text)
        history = History(past, fixed, make_turn(rng, 1, mean_words).text)
        examples.append({"history": history, "target_turn": rng.randrange(count)})
    return {name: tensor.to(readers.llm.device) for name, tensor in collator(examples).items()}


def step(terms: Callable[[], dict[str, Tensor]], model: Any) -> tuple[float, float]:
    """Run a training step's forward and backward pass and return its seconds and its loss."""
    model.zero_grad()
    began = time.perf_counter()
    loss = terms()["loss"]
    loss.backward()
    return time.perf_counter() - began, loss.item()


def train_exponent(readers: Readers, repeats: int) -> dict[str, Any]:
    """Fit how the seconds of a training step grow with the number of past turns: log seconds over log turns."""
    trainer, lengths = make_trainer(readers, 2), (25, 50, 100, 200, 400)
    batches = [make_batch(readers, [length] * 2, 18, length) for length in lengths]
    model = readers.compressor.train()
    seconds: list[list[float]] = [[] for _ in lengths]
    for turn in range(max(2, repeats // 2) + 1):
        for batch, found in zip(batches, seconds, strict=True):
            took = step(lambda batch=batch: trainer.loss_terms(model, batch), model)[0]  # type: ignore[misc]
            if turn > 0:
                found.append(took)
    model.eval()
    medians = [statistics.median(found) for found in seconds]
    slope, _ = statistics.linear_regression([math.log(n) for n in lengths], [math.log(s) for s in medians])
    return {"train_exponent": slope, "train_seconds_by_turns": dict(zip(lengths, medians, strict=True))}


def train_speedup(readers: Readers, rounds: int) -> dict[str, Any]:
    """Compare training steps of eight real-sized histories, in micro-batches of four, with those of ce82d39."""
    trainer, model = make_trainer(readers, 4), readers.compressor.train()
    batches = [make_batch(readers, [14, 16, 18, 20], 22, seed) for seed in range(2)]
    ways: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
        "then": lambda batch: terms_then(readers, model, batch),
        "now": lambda batch: trainer.loss_terms(model, batch),
    }
    trainer.loss_terms(model, batches[0])  # which tries whether beginnings can be shared
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            done = [step(lambda batch=batch, way=way: way(batch), model) for batch in batches]  # type: ignore[misc]
            seconds[name].append(sum(took for took, _ in done))
            losses[name] += [loss for _, loss in done]
    model.eval()
    gap = max(abs(a - b) for a, b in zip(losses["then"], losses["now"], strict=True))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "train_speedup_real": medians["then"] / medians["now"],
        "train_seconds_a_step": medians,
        "train_largest_loss_gap": gap,
    }


def terms_then(readers: Readers, model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the loss as ce82d39 computed it: every position scored, softmax over the dimension between."""
    memory = model(input_ids=batch["input_ids"])
    turn = turn_memory(memory.vectors, batch["target_turn"], model.config.num_memory_tokens)
    loss = torch.zeros(())
    for weight, name, (vectors, mask) in ((1.0, "reply", (memory.vectors, memory.mask)), (0.1, "turn", turn)):
        ids, labels = batch[f"{name}_ids"], batch[f"{name}_labels"][:, 1:]
        embeds = memory_embeds(readers.llm, ids, readers.memory_id, vectors, mask)
        logits = readers.llm(inputs_embeds=embeds, use_cache=False).logits[:, :-1].float()
        nll = functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORE, reduction="none")
        learnt = (labels != IGNORE).float()
        loss = loss + weight * ((nll * learnt).sum(dim=1) / learnt.sum(dim=1)).mean()
    return {"loss": loss}


def progress(what: str, began: float) -> None:
    """Say what is done, and after how many seconds."""
    print(f"{what}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
