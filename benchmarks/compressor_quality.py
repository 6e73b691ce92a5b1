"""What compressors keep and cost, side by side: next-reply NLL, recall by age, tokens, prefill time and memory.

    python benchmarks/compressor_quality.py --data runs/quickstart/corpus/dialogues.jsonl --llm runs/quickstart/lm \
        --compressors runs/quickstart/compressor runs/baselines/truncate --json out.json

The folders are those that launch/compressor.py writes, of any `kind` and k, all for the same language model and under
the same system prompt. Each is compared with the whole history as text, with no history, and with as many of the newest
turns as text as fit the same number of input vectors; the first folder also with every other one, reply by reply.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from launch import stage  # noqa: F401  (first: mends sys.path)
from compressor.fitting import FixedParts
from compressor.kinds import KINDS
from compressor.modeling import MambaCompressor
from epo.asking.answer_cache import AnswerCache
from epo.data.dialogue import Dialogue, read_dialogues
from epo.data.replies import replies_of
from epo.evaluation.memory_costs import Readers, break_even, measure_costs
from epo.evaluation.memory_quality import HistoryReader, QualityTest
from epo.evaluation.text_summaries import SummaryWriter, summary_report
from epo.model.checkpoints import load_weights
from epo.model.parts import embedding_fingerprint, load_llm, load_tokenizer
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders
from epo.prompts.past_turns import utterance_of


def main() -> None:
    """Measure what was asked for, show it and write it."""
    options = parse()
    llm = load_llm(options.llm, "float32").eval()
    llm_tokenizer = load_tokenizer(options.llm, ())
    memory_id = add_placeholders(llm_tokenizer)["memory_token_id"]
    loaded = {folder: load_compressor(folder, llm) for folder in options.compressors}
    system = one_system_prompt([compressor for compressor, _ in loaded.values()])
    dialogues = [d for d in read_dialogues(options.data) if d.split == options.split]
    report: dict[str, Any] = {"data": options.data, "llm": options.llm, "split": options.split, "rows": {}}
    if options.num_replies > 0:
        replies = [reply for reply in replies_of(dialogues, options.replies) if reply.history]
        replies = spread(replies, options.num_replies)
        reader = HistoryReader(llm, llm_tokenizer, memory_id, Layout(system_prompt=system), options.batch_size)
        report["num_replies"] = len(replies)
        test = QualityTest(reader, replies)
        report |= quality(test, loaded)
        if options.summaries is not None:
            writer = SummaryWriter(options.llm, llm, llm_tokenizer, AnswerCache(Path(options.summaries)))
            for k in budgets(loaded):
                report["rows"][f"summary as text, k={k}"] = summary_report(test, reader, writer, k)
    if options.turns:
        report["costs"] = {}
        for folder, (compressor, tokenizer) in loaded.items():
            readers = Readers(llm, llm_tokenizer, memory_id, compressor, tokenizer, FixedParts(system, "", "And now?"))
            rows = measure_costs(readers, told(dialogues), options.turns, options.repeats)
            report["costs"][folder] = {"rows": rows, "break_even_turns": break_even(rows)}
    show(report)
    if options.json is not None:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def parse() -> SimpleNamespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="dialogues.jsonl")
    parser.add_argument("--llm", required=True, help="the language model that the compressors were trained for")
    parser.add_argument("--compressors", required=True, nargs="+", help="folders written by launch/compressor.py")
    parser.add_argument("--split", default="test", help="of the dialogues to measure on")
    parser.add_argument("--replies", default="last", choices=("last", "all"), help="of each dialogue")
    parser.add_argument("--num-replies", type=int, default=200, help="at most so many, spread evenly; 0: costs alone")
    parser.add_argument("--batch-size", type=int, default=4, help="replies at a time")
    parser.add_argument("--turns", type=int, nargs="*", default=[5, 10, 20, 50, 100, 200], help="lengths of histories")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of timing")
    parser.add_argument("--summaries", help="also measure summaries by the language model, kept in this file")
    parser.add_argument("--json", help="file to write")
    return SimpleNamespace(**vars(parser.parse_args()))


def load_compressor(folder: str, llm: Any) -> tuple[MambaCompressor, Any]:
    """Load a compressor of any kind and its tokenizer; refuse one that was made for another language model."""
    kind = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["model_type"]
    found = [cls for cls in KINDS.values() if cls.config_class.model_type == kind]
    if not found:
        sys.exit(f"{folder}: holds a {kind}; want a folder written by launch/compressor.py")
    compressor = load_weights(found[0], folder, is_ours=True).eval()
    if compressor.config.llm_fingerprint not in ("", embedding_fingerprint(llm)):
        sys.exit(f"{folder}: was trained for another language model than --llm; name that one")
    return compressor, load_tokenizer(folder, ())


def one_system_prompt(compressors: Sequence[MambaCompressor]) -> str:
    """Return the system prompt that all compressors were trained under."""
    prompts = {compressor.config.system_prompt or "" for compressor in compressors}
    if len(prompts) > 1:
        sys.exit(f"the compressors were trained under {len(prompts)} system prompts; compare those of one")
    return prompts.pop()


def spread(replies: Sequence[Any], count: int) -> list[Any]:
    """Return at most so many replies, evenly from first to last."""
    if len(replies) <= count:
        return list(replies)
    return [replies[i * len(replies) // count] for i in range(count)]


def told(dialogues: Sequence[Dialogue]) -> list[Any]:
    """Return the turns of dialogues, one after another."""
    return [utterance_of(turn, False) for dialogue in dialogues[:20] for turn in dialogue.turns]


def budgets(loaded: dict[str, tuple[MambaCompressor, Any]]) -> list[int]:
    """Return each k that some compressor has."""
    return sorted({compressor.config.num_memory_tokens for compressor, _ in loaded.values()})


def quality(test: QualityTest, loaded: dict[str, tuple[MambaCompressor, Any]]) -> dict[str, Any]:
    """Measure what each way of telling the history keeps."""
    rows: dict[str, Any] = {"full history": test.with_text(), "no history": test.without_history()}
    for k in budgets(loaded):
        rows[f"newest turns as text, k={k}"] = test.newest_turns(k)
    scores: dict[str, Any] = {}
    for folder, (compressor, tokenizer) in loaded.items():
        began = time.perf_counter()
        config = compressor.config
        sizes = {"kind": config.model_type, "k": config.num_memory_tokens, "weights": compressor.num_parameters()}
        sizes["weights_learnt"] = compressor.num_parameters(only_trainable=True)
        scores[folder] = test.memory_scores(compressor, tokenizer)
        rows[folder] = sizes | test.memory(compressor, tokenizer, scores[folder])
        print(f"{folder}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    first, *others = loaded
    lower = {other: test.difference(scores[first], scores[other]) for other in others}
    return {"rows": rows, "first_lower_by": lower}


def show(report: dict[str, Any]) -> None:
    """Print a table of both halves."""
    for name, row in report["rows"].items():
        low, high = row["gap_interval"]
        recall = row["recall"].get("all", {"share": float("nan"), "count": 0})
        swapped = f"  swapped {row['nll_swapped']:.3f}" if "nll_swapped" in row else ""
        rebuilt = f"  rebuilt {row['reconstruction']['rouge_l']:.3f}" if "reconstruction" in row else ""
        print(
            f"{name[-40:]:40}  nll {row['nll']:.3f}  gap {row['gap']:+.3f} [{low:+.3f}, {high:+.3f}]"
            f"  recall {recall['share']:.3f} of {recall['count']}{swapped}{rebuilt}"
        )
    for name, gain in report.get("first_lower_by", {}).items():
        low, high = gain["interval"]
        print(f"first lower than {name[-40:]} by {gain['nats_a_token']:+.3f} [{low:+.3f}, {high:+.3f}] nats a token")
    for name, costs in report.get("costs", {}).items():
        print(f"{name}: faster than text from {costs['break_even_turns']} turns on")
        for row in costs["rows"]:
            print("   " + "  ".join(f"{key} {value:.4g}" for key, value in row.items()))


if __name__ == "__main__":
    main()
