"""The pair-quality page: one HTML file with verdict, yield, checks, probes, emotions, scores and thirty pairs."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape

from epo.emotions import EMOTIONS
from epo.preferences.pair import PreferencePair
from epo.preferences.verification import CHECKS

_BINS = 20
_SHOWN_PAIRS = 30
_CONTEXT_TURNS = 3
# What says most of whether a pair teaches emotion comes first; scores of other sources follow by name.
_FIRST_SCORES = (
    "emotion_shift", "emotion_divergence", "embedding_similarity", "similarity", "emotion_distance", "length_ratio",
    "script_share",
)  # fmt: skip
_PROBES = {
    "coherence": "a language model that only reads",
    "coherence_pmi": "the same, common replies discounted",
    "words": "a classifier of words",
    "topic": "words shared with the last turns",
    "length": "the longer reply",
}


def render_page(
    report: Mapping[str, Any],
    pairs: Sequence[PreferencePair],
    seed: int,
    measured: Sequence[Mapping[str, float]] | None = None,
) -> str:
    """Return the page as HTML that loads nothing from elsewhere.

    Args:
        report: what `report.json` holds.
        pairs: all pairs, with emotions or without; thirty of them, drawn by the seed, are shown side by side.
        seed: decides which pairs are shown.
        measured: of each pair, what was measured of its replies, also where the pairs' own scores do not hold it; None:
            those scores.
    """
    measured = [pair.scores for pair in pairs] if measured is None else measured
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    together = list(zip(pairs, measured, strict=True))
    shown = random.Random(seed).sample(together, min(_SHOWN_PAIRS, len(together)))
    return environment.get_template("page.html.j2").render(
        report=report,
        probes=_PROBES,
        emotions={split: _emotion_rows(summary) for split, summary in report["splits"].items()},
        histograms=[_histogram(name, pairs) for name in _score_names(pairs)],
        checks=CHECKS,
        examples=[(pair, _context(pair), scores) for pair, scores in shown],
    )


def _score_names(pairs: Sequence[PreferencePair]) -> list[str]:
    names = {name for pair in pairs for name in pair.scores}
    return [name for name in _FIRST_SCORES if name in names] + sorted(names - set(_FIRST_SCORES))


def _emotion_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the emotions of a split's pairs, the commonest first; those of no pair are left out."""
    rows = [
        {"emotion": name, "chosen": summary["chosen_emotions"][name], "rejected": summary["rejected_emotions"][name]}
        for name in EMOTIONS
    ]
    rows = [row for row in rows if row["chosen"] + row["rejected"] > 0]
    return sorted(rows, key=lambda row: -row["chosen"] - row["rejected"])


def _histogram(name: str, pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    """Return a score's histogram; one that is the same in all pairs has no bars, for it has no range to draw over."""
    values = np.array([pair.scores[name] for pair in pairs if name in pair.scores])
    lowest, highest, median = float(values.min()), float(values.max()), float(np.median(values))
    found = {"name": name, "lowest": lowest, "highest": highest, "median": median, "bars": [], "pairs": len(values)}
    if highest - lowest < 1e-9:
        return found
    counts, _ = np.histogram(values, bins=_BINS, range=(lowest, highest))
    tallest = int(counts.max())
    return found | {"bars": [count / tallest for count in counts.tolist()], "tallest": tallest}


def _context(pair: PreferencePair) -> list[tuple[str, str | None, str]]:
    return [(turn.speaker, turn.emotion, turn.text) for turn in pair.reply.last_turns(_CONTEXT_TURNS)]
