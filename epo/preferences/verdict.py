"""Whether pairs are fit to train on: each number that speaks against it, beside its threshold and a remedy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

# All thresholds are our choice.
PROBE_TOLERANCE = 0.05  # a probe counts where its whole 95 % interval lies beyond 0.5 by more than this
MAX_TOTAL_VARIATION = 0.1
MIN_TRAINING_PAIRS = 100
MIN_HELD_OUT_PAIRS = 20
MIN_DISTINCT_SHARE = 0.5

Weight = Literal["against", "unproven"]
Level = Literal["unfit", "unproven", "fit"]

_TITLES: dict[Level, str] = {
    "unfit": "not fit to train on",
    "unproven": "nothing speaks against training on them, but not everything is known",
    "fit": "nothing speaks against training on them",
}
PROBES = {
    "words": ("by its words alone", "marginals: equal, another source, or max_similarity and min_similarity"),
    "topic": (
        "by the words it shares with the last turns",
        "another context_turns, an embedding_model, or source: llm",
    ),
    "length": ("by its length", "a lower max_length_ratio"),
    "coherence": (
        "by a language model that only reads",
        "source: llm or policy, whose rejected replies answer the same turn; retrieved ones do not",
    ),
    "coherence_pmi": (
        "by a language model that only reads, common replies discounted",
        "source: llm or policy, whose rejected replies answer the same turn; retrieved ones do not",
    ),
}


@dataclass(frozen=True)
class Reason:
    """One number that speaks against the pairs, or that leaves something open.

    Attributes:
        weight: against: what is trained on them is likely something else than emotion; unproven: nobody can tell.
        split: of the pairs; "all" where it is of all.
        what: what the number says, in a sentence that holds it.
        value: the number; None where it was not measured.
        threshold: what it is compared with.
        remedy: what to try.
    """

    weight: Weight
    split: str
    what: str
    value: float | None
    threshold: str
    remedy: str


def judge_pairs(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on pairs, ready for JSON.

    Args:
        report: what `report.json` holds besides: the reader's quality, and the summary of each split.

    Returns:
        level, "unfit" where a number speaks against the pairs, else "unproven" where one is missing or cannot be
        trusted, else "fit"; title, the same in words; reasons, the heaviest first.
    """
    reasons = _reader_reasons(report)
    for split, summary in report["splits"].items():
        if summary["pairs"] > 0:
            reasons += _probe_reasons(split, summary) + _marginal_reasons(split, summary)
            reasons += _duplicate_reasons(split, summary)
        reasons += _balance_reasons(split, summary, report["marginals"])
        reasons += _judge_reasons(split, summary) + _count_reasons(split, summary)
    if not any("coherence" in summary["probes"] for summary in report["splits"].values()):
        reasons.append(_coherence_not_measured())
    reasons.sort(key=lambda reason: reason.weight)  # "against" before "unproven"; otherwise as they come
    level: Level = "fit" if not reasons else "unproven" if reasons[0].weight == "unproven" else "unfit"
    return {"level": level, "title": _TITLES[level], "reasons": [asdict(reason) for reason in reasons]}


def _reader_reasons(report: Mapping[str, Any]) -> list[Reason]:
    if not report.get("reader_says_little"):
        return []
    accuracy, majority = report["reader_accuracy"], report["reader_majority"]
    return [
        Reason(
            "unproven",
            "all",
            f"the reader of emotions is right on {accuracy:.3f} of the gold replies, always the commonest label on "
            f"{majority:.3f}: whether the words of a pair differ in emotion is not known",
            accuracy,
            "a tenth of the way from the commonest label to 1, and beyond its 95 % interval",
            "name a better emotion_judge",
        )
    ]


def _probe_reasons(split: str, summary: Mapping[str, Any]) -> list[Reason]:
    reasons = []
    for name, share in summary["probes"].items():
        low, high = summary["probe_intervals"][name]
        is_told = low > 0.5 + PROBE_TOLERANCE
        # Words are learnt on other pairs and so can only win; the others are fixed rules, and one that loses can be
        # turned round by whoever learns it.
        is_told_in_reverse = name != "words" and high < 0.5 - PROBE_TOLERANCE
        if is_told or is_told_in_reverse:
            how, remedy = PROBES[name]
            reasons.append(
                Reason(
                    "against",
                    split,
                    f"the chosen reply is found {how} in {share:.3f} of the pairs ({low:.2f} to {high:.2f})",
                    share,
                    f"{0.5 - PROBE_TOLERANCE:.2f} to {0.5 + PROBE_TOLERANCE:.2f}",
                    remedy,
                )
            )
    return reasons


def _marginal_reasons(split: str, summary: Mapping[str, Any]) -> list[Reason]:
    value = summary["total_variation"]
    if value <= MAX_TOTAL_VARIATION:
        return []
    return [
        Reason(
            "against",
            split,
            f"the emotions of chosen and rejected replies differ by {value:.3f} (total variation): some are mostly "
            "chosen, others mostly rejected, which can be learnt without the clip",
            value,
            f"at most {MAX_TOTAL_VARIATION}",
            f"marginals: equal, which would leave out {summary['left_out_for_equal']} of {summary['replies']} replies, "
            "or a larger max_dropped_share",
        )
    ]


def _balance_reasons(split: str, summary: Mapping[str, Any], wanted: str) -> list[Reason]:
    if wanted != "equal" or summary["balanced_by"] == "equal":
        return []
    return [
        Reason(
            "unproven",
            split,
            f"equal marginals would leave no pair of its {summary['replies']} replies: balanced as near as leaving out "
            "three tenths brings them",
            None,
            "marginals equal",
            "more replies, in more emotions, in this split; or leave it out of splits",
        )
    ]


def _judge_reasons(split: str, summary: Mapping[str, Any]) -> list[Reason]:
    shift = summary["checks"]["counter emotion likelier"]
    untold = summary["candidates"] - shift["measured"] if shift["drops"] else 0
    if untold == 0:
        return []
    return [
        Reason(
            "unproven",
            split,
            f"of {untold} of {summary['candidates']} candidates the judge cannot tell the counter emotion, because it "
            "was fitted on labels without it: whether they have it was not verified",
            None,
            "told of all",
            "an emotion_judge that knows all emotions",
        )
    ]


def _duplicate_reasons(split: str, summary: Mapping[str, Any]) -> list[Reason]:
    share = summary["distinct_rejected"] / summary["pairs"]
    if share >= MIN_DISTINCT_SHARE:
        return []
    return [
        Reason(
            "against",
            split,
            f"only {summary['distinct_rejected']} different rejected replies in {summary['pairs']} pairs: they can be "
            "learnt by heart",
            share,
            f"at least {MIN_DISTINCT_SHARE} of the pairs",
            "more replies of the rarer emotions, marginals: equal, or source: llm",
        )
    ]


def _count_reasons(split: str, summary: Mapping[str, Any]) -> list[Reason]:
    count = summary["pairs"]
    is_training = split == "train"
    least = MIN_TRAINING_PAIRS if is_training else MIN_HELD_OUT_PAIRS
    if count >= least:
        return []
    return [
        Reason(
            "against" if is_training else "unproven",
            split,
            f"{count} pairs" + ("" if is_training else ": what is measured on them is mostly noise"),
            float(count),
            f"at least {least}",
            "more dialogues with emotions on both sides; see what was dropped and why",
        )
    ]


def _coherence_not_measured() -> Reason:
    return Reason(
        "unproven",
        "all",
        "whether the chosen replies are found by a language model that only reads was not measured",
        None,
        "measured",
        "name a causal language model, such as --coherence_model HuggingFaceTB/SmolLM2-135M",
    )
