"""What EPO changes on real conversations and voices, over several seeds: train, answer, judge, and compare.

    make evidence
    python benchmarks/evidence.py --run runs/laptop --seeds 0 1 2 --parts_root FOLDER --out docs/results/evidence.json

First come the stages of recipes/laptop that all seeds share, up to one SFT model, and pairs of each source. From that
model each seed trains SFT continued on the chosen replies, and EPO on the pairs of each source, for the same number of
steps, and lets every one answer the test dialogues. Every step is a stage of launch/: the same command goes on where it
stopped, and does nothing twice. Intervals are bootstrapped over dialogues, and pair the systems of one seed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.dialogue import read_dialogues
from epo.data.replies import Reply
from epo.data.selection import dialogues_of_split, replies_of_split
from epo.emotions import APPROPRIATENESS, EMOTIONS
from epo.evaluation.answers import read_answers
from epo.evaluation.degenerate import is_degenerate
from epo.evaluation.report import describe_hardware
from epo.judging.judge import EmotionJudge
from epo.judging.opened_judge import EMBEDDINGS_JUDGE, JudgeSettings, open_judge
from epo.prompts.emotion_label import split_reply
from launch.keys.parts_folder import receive_parts_root

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "laptop"
SENTENCES = "sentence-transformers/all-MiniLM-L6-v2"
DRAWS = 2000
SFT_SEED = 0
BRIEF = ("degenerate", "diversity", "emotion", "appropriateness", "gold_nll", "lengths", "overlap")
VERBS = {
    "sft_chosen": ("sft",),
    **dict.fromkeys(("text", "voices", "judge_text"), ("data", "import")),
    "lent": ("data", "lend-clips"),
    "data": ("data", "label"),
}
"""Script and verb of the stages that are not named after theirs."""


def main() -> None:
    options = parse()
    if options.prepare:
        prepare(options)
    if options.train:
        train_sft(options)
        for seed in options.seeds:
            train(options, seed)
    if options.judge:
        write(options, judge(options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of what all seeds share")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--sources",
        nargs="+",
        default=["retrieve", "opposite_random"],
        help="of pairs; the control learns what is chosen in the first one's",
    )
    parser.add_argument("--parts_root", help="folder of models that stands in for the hub")
    parser.add_argument("--sft_steps", type=int, default=80)
    parser.add_argument("--steps", type=int, default=40, help="of EPO, and of SFT continued on the chosen replies")
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="of the same two")
    parser.add_argument("--batch", type=int, default=4, help="examples at a time")
    parser.add_argument("--answers", type=int, default=50, help="prompts at a time")
    parser.add_argument("--test", type=int, default=10_000, help="most test dialogues that are answered")
    parser.add_argument(
        "--brief", action="store_true", help="a third of the time: greedy replies to own clips, no rewards"
    )
    parser.add_argument("--prepare", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--train", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--judge", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "evidence.json")
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> None:
    """Run the stages that all seeds share."""
    for name in ("text", "voices", "judge_text", "lent", "data", "extractor", "compressor"):
        start(options, name)
    for source in options.sources:
        start(options, "preferences", "--source", source, "--output_dir", options.run / f"pairs_{source}")


def train_sft(options: argparse.Namespace) -> None:
    """Train the model that all seeds go on from, and let it answer."""
    run = options.run
    parts = ["--extractor", run / "extractor", "--compressor", run / "compressor"]
    steps = ["--max_steps", options.sft_steps, *fit_flags(options, SFT_SEED)]
    start(options, "sft", *parts, *steps, "--output_dir", run / "sft")
    answer(options, SFT_SEED, run / "sft")


def train(options: argparse.Namespace, seed: int) -> None:
    """Train the systems of one seed, and let them answer; the first source's also to changed clips."""
    run, out = options.run, options.run / f"seed{seed}"
    steps = ["--max_steps", options.steps, "--learning_rate", options.learning_rate, *fit_flags(options, seed)]
    tuned = ["--model", run / "sft"]
    pairs = {source: ["--pairs", run / f"pairs_{source}" / "pairs.jsonl"] for source in options.sources}
    first = options.sources[0]
    start(options, "sft_chosen", *tuned, *pairs[first], *steps, "--output_dir", out / "sft_chosen")
    answer(options, seed, out / "sft_chosen")
    for source in options.sources:
        start(options, "epo", *tuned, *pairs[source], *steps, "--output_dir", out / f"epo_{source}")
        answer(options, seed, out / f"epo_{source}", with_variants=source == first and not options.brief)


def fit_flags(options: argparse.Namespace, seed: int) -> list[Any]:
    return [
        "--seed",
        seed,
        "--per_device_train_batch_size",
        options.batch,
        "--save_strategy",
        "no",
        *corpus_flags(options),
    ]


def corpus_flags(options: argparse.Namespace) -> list[Any]:
    return ["--data", options.run / "corpus" / "dialogues.jsonl", "--cache_dir", options.run / "cache"]


def answer(options: argparse.Namespace, seed: int, model: Path, with_variants: bool = False) -> None:
    """Let one model answer the test dialogues, into a folder beside it."""
    run = options.run
    flags = [*corpus_flags(options), "--max_dialogues", options.test, "--batch_size", options.answers, "--seed", seed]
    flags += ["--pairs", run / f"pairs_{options.sources[0]}" / "pairs.jsonl"]
    flags += [
        "--emotion_judge",
        EMBEDDINGS_JUDGE,
        "--judge_embeddings",
        SENTENCES,
        *judge_flags(run),
        "--variants",
        str(with_variants).lower(),
    ]
    if options.brief:
        flags += ["--sampled", "false", "--suites", *BRIEF]
    flags += ["--models", model, "--output_dir", report_folder(model)]
    start(options, "evaluate", *flags, without=("sft", "control", "epo", "judge_embeddings"))


def report_folder(model: Path) -> Path:
    return model.with_name(f"report_{model.name}")


def judge_flags(run: Path) -> list[Any]:
    files = [run / "judge_text" / "dialogues.jsonl", run / "text" / "dialogues.jsonl"]
    return ["--judge_data", *files, "--judge_cache", run / "judge"]


def start(options: argparse.Namespace, name: str, *flags: Any, without: Sequence[str] = ()) -> None:
    """Run a stage by its recipe, in one process; leave where it fails."""
    script, *verb = VERBS.get(name, (name,))
    recipe = RECIPES / f"{name}.yaml"
    if without:  # a flag cannot take a key of the recipe away
        lines = [line for line in recipe.read_text().splitlines() if line.partition(":")[0] not in without]
        recipe = options.run / f"{name}_without.yaml"
        recipe.write_text("\n".join(lines) + "\n")
    command = [
        sys.executable,
        ROOT / "launch" / f"{script}.py",
        *verb,
        "--config",
        recipe,
        "--run",
        options.run,
        *flags,
    ]
    if options.parts_root is not None:
        command += ["--parts_root", options.parts_root]
    subprocess.run([str(word) for word in command], cwd=ROOT, check=True)


def judge(options: argparse.Namespace) -> dict[str, Any]:
    """Return all rows: numbers of the seeds' reports, and what the judge reads in every reply, seeds together."""
    run = options.run
    path = run / "corpus" / "dialogues.jsonl"
    dialogues = list(read_dialogues(path))
    held_out = dialogues_of_split(dialogues, "test", str(path))[: options.test]
    gold = replies_of_split(held_out, "test", str(path), "last")
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    settings = JudgeSettings(
        EMBEDDINGS_JUDGE, SENTENCES,
        tuple(str(file) for file in judge_flags(run)[1:3]), str(run / "judge"),
    )  # fmt: skip
    receive_parts_root(options)
    opened = open_judge(settings, ())
    wanted = read(opened.judge, [reply.text for reply in gold])
    rows: dict[str, list[dict[str, Any]]] = {}
    reports: dict[str, list[dict[str, Any]]] = {}
    for folder in report_folders(options):
        report = folder / "report.json"  # not there yet where only the replies are
        for row in json.loads(report.read_text())["rows"] if report.is_file() else ():
            if row["name"] != "majority":
                reports.setdefault(row["name"], []).append(row)
        for file in sorted((folder / "replies").glob("*.jsonl")):
            said = read_answers(file, by_id, gold)[0]
            rows.setdefault(file.stem, []).append(values(opened.judge, said, gold, wanted))
    human = values(opened.judge, [reply.text for reply in gold], gold, wanted)
    return {
        "date": date.today().isoformat(),
        "hardware": describe_hardware(),
        "seeds": options.seeds,
        "steps": {"sft": options.sft_steps, "epo and sft on chosen": options.steps},
        "learning_rate": options.learning_rate,
        "test_replies": len(gold),
        "judge": [quality.describe() for quality in opened.qualities],
        "pairs": {source: pairs_of(run / f"pairs_{source}") for source in options.sources},
        "human": {name: mean(found) for name, found in human.items()},
        "rows": {name: summary(found) for name, found in rows.items()},
        "reports": {name: report_means(found) for name, found in reports.items()},
        "less_sft_on_chosen": {
            name: compared(found, rows["sft_chosen"][: len(found)])
            for name, found in rows.items()
            if name.startswith("epo")
        },
    }


def report_folders(options: argparse.Namespace) -> list[Path]:
    """Return the folders with replies: the SFT model's, then each seed's systems."""
    names = ["sft_chosen", *(f"epo_{source}" for source in options.sources)]
    models = [options.run / f"seed{seed}" / name for seed in options.seeds for name in names]
    folders = [report_folder(model) for model in (options.run / "sft", *models)]
    return [folder for folder in folders if (folder / "replies").is_dir()]


def read(judge: EmotionJudge, texts: Sequence[str]) -> np.ndarray:
    return np.asarray(judge.read(list(texts)))


def values(
    judge: EmotionJudge, said: Sequence[str], gold: Sequence[Reply], wanted: np.ndarray
) -> dict[str, np.ndarray]:
    """Return one number a reply, NaN where it is not defined; degenerate replies score 0."""
    words = [split_reply(reply)[1] for reply in said]
    found = read(judge, words)
    degenerate = np.array([is_degenerate(text) for text in words])
    user = [reply.current.emotion for reply in gold]
    fit = np.array([[np.nan] * 7 if u is None else [APPROPRIATENESS[u][e] for e in EMOTIONS] for u in user])
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    scores = {
        "appropriateness": (found * fit).sum(axis=1),
        "unfit": (found * (fit < 0.35)).sum(axis=1) + 0 * fit.sum(axis=1),
        "emotion_score": (found.argmax(axis=1) == wanted.argmax(axis=1)).astype(float),
        "emotion_cosine": (found * wanted).sum(axis=1) / lengths,
    }
    scores = {name: np.where(degenerate, 1.0 if name == "unfit" else 0.0, value) for name, value in scores.items()}
    words_count = np.array([len(text.split()) for text in words], dtype=float)
    return scores | {"degenerate": degenerate.astype(float), "words": words_count}


def mean(values: np.ndarray) -> float:
    return round(float(np.nanmean(values)), 4)


def summary(seeds: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return each number's mean over seeds and replies, its interval over dialogues, and the mean of each seed."""
    return {
        name: {
            "mean": mean(np.stack([seed[name] for seed in seeds])),
            "interval": interval(np.stack([seed[name] for seed in seeds])),
            "by_seed": [mean(seed[name]) for seed in seeds],
        }
        for name in seeds[0]
    }


def compared(ours: Sequence[dict[str, np.ndarray]], theirs: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Return the differences to another system, paired by seed and dialogue."""
    return summary([{name: a[name] - b[name] for name in a} for a, b in zip(ours, theirs, strict=True)])


def interval(values_SN: np.ndarray) -> list[float]:
    """Return the 95 % interval of the mean, dialogues (one reply each) drawn again together in all seeds."""
    rng = np.random.default_rng(0)
    size = values_SN.shape[1]
    draws = [np.nanmean(values_SN[:, rng.integers(size, size=size)]) for _ in range(DRAWS)]
    return [round(float(edge), 4) for edge in np.quantile(draws, [0.025, 0.975])]


def report_means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds of each number of a report's rows, and each seed's."""
    numbers = {
        name for name, value in rows[0].items() if isinstance(value, float | int) and not isinstance(value, bool)
    }
    return {
        name: {"mean": mean(np.array([row[name] for row in rows])), "by_seed": [round(row[name], 4) for row in rows]}
        for name in sorted(numbers)
        if all(row.get(name) is not None for row in rows)
    }  # fmt: skip


def pairs_of(folder: Path) -> dict[str, Any]:
    report = json.loads((folder / "report.json").read_text())
    return {
        split: {"pairs": found["pairs"], "replies": found["replies"], "probes": found["probes"]}
        for split, found in report["splits"].items()
    }


def write(options: argparse.Namespace, found: dict[str, Any]) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    for name, row in found["rows"].items():
        print(f"{name:32} " + "  ".join(f"{key} {value['mean']:.3f}" for key, value in row.items()))
    for name, row in found["less_sft_on_chosen"].items():
        print(f"{name:32} less sft+chosen: {row['appropriateness']['mean']:+.4f} {row['appropriateness']['interval']}")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
