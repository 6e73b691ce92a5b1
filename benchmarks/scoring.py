"""Scoring alone: seconds and memory of the suites that take no neural network, on many replies.

    python benchmarks/scoring.py --json out.json [--replies 10000] [--seed 0]

The gold replies are those of the built-in corpus, written without clips; the replies scored are other replies of it:
four in ten the gold one, four another dialogue's, one the gold one shortened, one a label said over and over. Asked is
under 60 s and 1 GiB for 10,000. What is timed is what `launch/evaluate.py --replies` does once the files are read: the
judge of words is fitted, every suite that can be given scores the file's row and the majority's, intervals are drawn
and the rows compared. Two thousand further replies are the judge's to learn from. Processor seconds are told beside
those of the clock: on a machine that others use too they are what one to oneself would take.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.corpora.builtin import BuiltinCorpus, write_builtin_corpus
from epo.data.dialogue import read_dialogues
from epo.data.replies import Reply, replies_of
from epo.evaluation.contestants import Generation
from epo.evaluation.evaluating import Chosen, choose_suites, compare, prepare
from epo.evaluation.suite import Answers, Suite, Task

_NUM_TRAINING = 2000


def main() -> None:
    """Make the replies, score them, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    given = parser.parse_args()
    gold, training = make_gold(given.replies, given.seed)
    found = measure(gold, training, given.seed)
    text = json.dumps(found, indent=2)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")


def make_gold(count: int, seed: int) -> tuple[list[Reply], list[Reply]]:
    """Return that many replies of the built-in corpus to be given, and some that a judge learns from."""
    wanted = count + _NUM_TRAINING
    with tempfile.TemporaryDirectory() as folder:
        sizes = BuiltinCorpus(
            seed=seed, num_train=wanted, num_train_with_clips=0, num_validation=0, num_test=0, generic_share=0.0
        )
        write_builtin_corpus(Path(folder), sizes)
        found = replies_of(read_dialogues(Path(folder, "dialogues.jsonl")), "last")
    return found[:count], found[count:]


def make_replies(gold: list[Reply], seed: int) -> list[str]:
    """Return what is scored: right, another dialogue's, cut short, or repeated, by a draw of the seed."""
    rng, said = random.Random(seed), []
    for reply in gold:
        draw = rng.random()
        other = rng.choice(gold)
        text = reply.text if draw < 0.4 else other.text if draw < 0.8 else " ".join(reply.text.split()[:6])
        said.append(text if draw < 0.9 else "happy " * 12)
    return said


def measure(gold: list[Reply], training: list[Reply], seed: int) -> dict[str, Any]:
    """Return seconds in all, processor seconds by suite, peak memory of this process, and the scores.

    Args:
        gold: the replies to give.
        training: a judge's.
        seed: of the replies that are scored and of every draw.
    """
    task = Task(gold, training=training, seed=seed)
    answers = Answers("replies", make_replies(gold, seed))
    before_mib = _peak_mib()
    start_s = time.monotonic()
    start_cpu_s = time.process_time()
    chosen, spent = _timed(choose_suites(None, task))
    prepare(chosen, task)
    spent["judge"] = time.process_time() - start_cpu_s
    report = compare([answers], task, chosen, Generation())
    total_s, cpu_s = time.monotonic() - start_s, time.process_time() - start_cpu_s
    row = next(row for row in report["rows"] if row["name"] == "replies")
    return {
        "num_replies": len(gold),
        "num_rows": len(report["rows"]),
        "seconds": round(total_s, 1),
        "cpu_seconds": round(cpu_s, 1),
        "peak_mib": round(_peak_mib()),
        "peak_mib_before": round(before_mib),
        "cpu_seconds_by_suite": {name: round(value, 2) for name, value in spent.most_common()},
        "cpu_seconds_elsewhere": round(cpu_s - sum(spent.values()), 2),
        "scores": {c["key"]: row[c["key"]] for c in report["columns"] if row[c["key"]] is not None},
    }


def _timed(chosen: Chosen) -> tuple[Chosen, Counter[str]]:
    """Return the suites with a clock in each of their parts but `prepare`, and what the clocks add to."""
    spent: Counter[str] = Counter()

    def timed(name: str, part: Callable[..., Any] | None) -> Callable[..., Any] | None:
        def run(*arguments: Any) -> Any:
            start_s = time.process_time()
            try:
                return part(*arguments) if part is not None else None
            finally:
                spent[name] += time.process_time() - start_s

        return None if part is None else run

    def with_clock(name: str, suite: Suite) -> Suite:
        score, summarise, baseline = (timed(name, part) for part in (suite.score, suite.summarise, suite.baseline))
        return replace(suite, score=score, summarise=summarise, baseline=baseline)

    return Chosen({name: with_clock(name, suite) for name, suite in chosen.suites.items()}, chosen.notes), spent


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
