"""The pair-quality page: one HTML file with the marginals, every score's histogram, the probes and twenty pairs."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape

from epo.data.dialogue import Dialogue
from epo.emotions import EMOTIONS
from epo.preferences.pair import PreferencePair

_BINS = 20
_SHOWN_PAIRS = 20
_CONTEXT_TURNS = 3


def render_page(
    report: Mapping[str, Any], pairs: Sequence[PreferencePair], dialogues: Mapping[str, Dialogue], seed: int
) -> str:
    """Return the page as HTML that loads nothing from elsewhere.

    Args:
        report: what `report.json` holds.
        pairs: all pairs; twenty of them, drawn by the seed, are shown side by side.
        dialogues: the dialogues they point into, by id.
        seed: decides which pairs are shown.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=loader, autoescape=select_autoescape(default=True)).get_template("page.html.j2")
    shown = random.Random(seed).sample(list(pairs), min(_SHOWN_PAIRS, len(pairs)))
    return template.render(
        report=report,
        emotions=EMOTIONS,
        histograms=[_histogram(name, pairs) for name in sorted({name for pair in pairs for name in pair.scores})],
        examples=[(pair, _context(pair, dialogues)) for pair in shown],
    )


def _histogram(name: str, pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    values = np.array([pair.scores[name] for pair in pairs if name in pair.scores])
    counts, edges = np.histogram(values, bins=_BINS)
    return {
        "name": name,
        "bars": [round(100 * count / counts.max()) for count in counts.tolist()],  # percent of the tallest
        "lowest": float(edges[0]),
        "highest": float(edges[-1]),
        "median": float(np.median(values)),
    }


def _context(pair: PreferencePair, dialogues: Mapping[str, Dialogue]) -> list[tuple[str, str | None, str]]:
    turns = dialogues[pair.dialogue_id].turns[max(0, pair.turn - _CONTEXT_TURNS) : pair.turn]
    return [(turn.speaker, turn.emotion, turn.text) for turn in turns]
