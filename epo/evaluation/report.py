"""The report: `report.json` for programs, and `report.html` for people: one file, no script, nothing loaded."""

import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from epo.data.chance import is_hardly_better
from epo.emotions import EMOTIONS
from epo.files import write_whole


class ReportError(ValueError):
    """A report that cannot be read or shown; the message names the file or the key."""


Interval = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    """EmotionScore of some of the replies.

    Attributes:
        score: share of them that fit, in [0, 1].
        interval: 95 %, over dialogues; None where they are of one dialogue.
        num_replies: how many.
        num_dialogues: of how many dialogues.
    """

    score: float
    interval: Interval | None
    num_replies: int
    num_dialogues: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system under test, as scored on the test dialogues; None is shown as a dash.

    Shares lie in [0, 1]; intervals are 95 %, over dialogues; `*_sampled` are replies drawn at temperature 1, the rest
    greedy; `*_corpus` counts n-grams over all replies, the plain form is the mean over single replies.
    """

    name: str
    emotion_score: float | None = None
    emotion_score_interval: Interval | None = None
    emotion_score_sampled: float | None = None
    emotion_score_sampled_interval: Interval | None = None
    degenerate: float | None = None
    degenerate_sampled: float | None = None
    fact_recall: float | None = None
    fact_recall_interval: Interval | None = None
    fact_recall_sampled: float | None = None
    fact_recall_sampled_interval: Interval | None = None
    token_f1: float | None = None
    token_f1_interval: Interval | None = None
    rouge_l: float | None = None
    bert_score: float | None = None
    bert_score_interval: Interval | None = None
    distinct_1: float | None = None
    distinct_1_corpus: float | None = None
    distinct_2: float | None = None
    distinct_2_corpus: float | None = None
    mean_reply_words: float | None = None
    reward_accuracy: float | None = None
    reward_accuracy_interval: Interval | None = None
    reward_margin: float | None = None
    reward_margin_interval: Interval | None = None
    prompt_tokens: float | None = None
    history_tokens: float | None = None
    by_gold_emotion: dict[str, Cell] = field(default_factory=dict)
    by_user_emotion: dict[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One number of a row: where it stands, what to call it, how to print it, how it was made."""

    key: str
    title: str
    digits: int
    meaning: str


COLUMNS = (
    Column(
        "emotion_score",
        "EmotionScore",
        3,
        "Share of greedy replies whose words carry the emotion of the gold reply. A text classifier fitted on the "
        "training replies judges the words; it never sees the emotion label, the clip or the user. No system can be "
        "measured better than the judge judges: its accuracy stands beside the score. Our choice: the published score "
        "of this name has no published formula.",
    ),
    Column(
        "emotion_score_sampled",
        "sampled",
        3,
        "EmotionScore of replies drawn at temperature 1 from all tokens of the model's distribution.",
    ),
    Column(
        "degenerate",
        "Degenerate",
        3,
        "Share of greedy replies without words of their own: empty, labels among the words, or mostly repetition. They "
        "score 0 wherever they could gain.",
    ),
    Column("degenerate_sampled", "sampled", 3, "The same share among the replies drawn at temperature 1."),
    Column(
        "fact_recall",
        "Fact recall",
        3,
        "Share of the facts told earlier in the dialogue (a name, a place, an event) that the greedy reply repeats as "
        "whole words, over all facts.",
    ),
    Column("fact_recall_sampled", "sampled", 3, "Fact recall of replies drawn at temperature 1."),
    Column("token_f1", "Token-F1", 3, "Words shared with the gold reply (SQuAD's F1 on words, articles left out)."),
    Column("rouge_l", "ROUGE-L", 3, "Longest common subsequence with the gold reply, F1."),
    Column("bert_score", "BERTScore", 3, "F1 of contextual embeddings, not rescaled; settings name model and layer."),
    Column("distinct_1", "Dist-1", 3, "Different words over all words, mean over single replies."),
    Column("distinct_1_corpus", "Dist-1 corpus", 3, "Different words over all words, all replies as one text."),
    Column("distinct_2", "Dist-2", 3, "Different word pairs over all word pairs, mean over single replies."),
    Column("distinct_2_corpus", "Dist-2 corpus", 3, "Different word pairs over all, all replies as one text."),
    Column("mean_reply_words", "Words", 1, "Mean length of a reply in words; Dist-n falls with it."),
    Column(
        "reward_accuracy",
        "Reward accuracy",
        3,
        "Share of held-out pairs where the policy prefers the gold reply over the counter-emotional one more than the "
        "reference does. With shuffled clips (mean of five shuffles) 0.5 says that a pair cannot be told apart without "
        "its clip; the reference itself scores 0.5 by definition.",
    ),
    Column(
        "reward_margin",
        "Reward margin",
        2,
        "By how many nats more than the reference the policy prefers the gold reply, mean over the same pairs; without "
        "the loss's beta, so that runs with different ones can be compared.",
    ),
    Column("prompt_tokens", "Prompt tokens", 1, "Mean length of the whole prompt: system, memory, clip, transcript."),
    Column("history_tokens", "History tokens", 1, "Mean tokens that stand for the history: memory tokens or its text."),
)
_TERMINAL_COLUMNS = (
    "emotion_score",
    "degenerate",
    "fact_recall",
    "token_f1",
    "distinct_1",
    "reward_accuracy",
    "history_tokens",
)
_EMPTY: dict[str, Any] = {
    "emotion_recognition": {}, "chance": {}, "examples": [], "stages": [], "notes": [], "settings": {}, "hardware": {},
    "history_reduction": None, "prompt_reduction": None, "seconds": None, "peak_rss_mib": None, "seed": None,
    "judge_accuracy": None, "judge_majority": None, "gold_degenerate": None,
}  # fmt: skip


def write_report(output_dir: Path, report: Mapping[str, Any]) -> None:
    """Write `report.json` and `report.html` into a folder, each whole or not at all.

    Args:
        output_dir: made where missing.
        report: `rows` (dicts or `Row`), and any other key that docs/evaluation.md lists. NaN becomes null.

    Raises:
        ReportError: there are no rows, or a row has no name.
    """
    plain = _plain(report)
    _check(plain)
    output_dir.mkdir(parents=True, exist_ok=True)
    write_whole(output_dir / "report.json", json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(output_dir / "report.html", render_html(plain))


def merge_report(output_dir: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Set top-level keys of a folder's report, rewrite both files, and return the whole.

    Raises:
        ReportError: there is no report, or it is not JSON.
    """
    path = output_dir / "report.json"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{path}: no such report; run launch/evaluate.py first") from None
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}: not JSON ({error}); delete it and run launch/evaluate.py again") from None
    report |= extra
    write_report(output_dir, report)
    return report


def render_html(report: Mapping[str, Any]) -> str:
    """Return the report as one HTML page; every text is escaped, and no script runs."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    page = environment.get_template("report.html.j2")
    known = _EMPTY | {key: value for key, value in report.items() if value is not None}
    rows = {row["name"]: row for row in known["rows"]}
    tables = {
        "by_gold_emotion": ("EmotionScore by emotion of the gold reply", "the emotion that the reply should carry"),
        "by_user_emotion": ("EmotionScore by emotion of the user", "the emotion that the user showed"),
    }
    return page.render(
        report=known, rows_by_name=rows, columns=COLUMNS, emotions=EMOTIONS, tables=tables, judge=describe_judge(known)
    )


def format_table(report: Mapping[str, Any]) -> str:
    """Return the rows as a table for the terminal, about 110 characters wide, and how good the judge is below it."""
    columns = [column for column in COLUMNS if column.key in _TERMINAL_COLUMNS]
    cells = [["", *(column.title for column in columns)]]
    for row in report["rows"]:
        cells.append([row["name"], *(format_number(row.get(column.key), column.digits) for column in columns)])
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns) + 1)]
    lines = [
        "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(row))
        for row in ([*zip(line, widths, strict=True)] for line in cells)
    ]
    judge = describe_judge(report)
    return "\n".join(
        [lines[0], "-" * len(lines[0]), *lines[1:], *([f"EmotionScore rests on {judge}"] if judge else [])]
    )


def describe_judge(report: Mapping[str, Any]) -> str:
    """Return how good the judge behind EmotionScore is, in one sentence without a subject; empty where not known."""
    score, majority = report.get("judge_accuracy"), report.get("judge_majority")
    if score is None:
        return ""
    text = f"a judge of words that is right on {format_number(score)} of the held-out gold replies"
    if majority is None:
        return f"{text}."
    text += f"; always the commonest label: {format_number(majority)}"
    if is_hardly_better(score, majority):
        return f"{text}. That is hardly better, so EmotionScore says little here."
    return f"{text}."


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, or a dash for None."""
    return "–" if value is None else f"{value:,.{digits}f}"


def describe_hardware() -> dict[str, Any]:
    """Return what this machine is: processor, cores it may use, memory in GiB, system, Python."""
    import psutil

    return {
        "processor": _processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _plain(value: Any) -> Any:
    """Turn rows and cells into dicts, tuples into lists, numpy numbers into Python's, NaN and infinity into None."""
    if isinstance(value, Row | Cell):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy array or number
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _check(report: Mapping[str, Any]) -> None:
    rows = report.get("rows")
    if not isinstance(rows, list) or not rows:
        raise ReportError("report: 'rows' must be a list with at least one row")
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            raise ReportError(f"report: row {index} has no 'name'")
