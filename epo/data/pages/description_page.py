"""The page of a description: its tables and findings, and bar charts of labels, lengths and loudness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epo.data.clip_measures import ClipMeasures
from epo.data.describing import SPEAKERS, Description, Spread
from epo.data.pages.description_tables import Table
from epo.data.pages.page_files import page_template
from epo.emotions import EMOTIONS
from epo.files import write_whole

_MAX_BINS = 24
_MAX_BAR = 30.0
WIDTH, HEIGHT = 440, 150
"""Of the drawing area of a chart, in pixels."""


@dataclass(frozen=True)
class Chart:
    """Bars side by side.

    Attributes:
        title: what is drawn.
        labels: under the bars.
        bars: (left, top, width, height, which series, its value in words), in pixels from the upper left.
        top: what the upper edge stands for, in percent.
    """

    title: str
    labels: tuple[str, ...]
    bars: tuple[tuple[float, float, float, float, int, str], ...]
    top: float


def write_description(
    path: Path,
    source: Path,
    description: Description,
    tables: Sequence[Table],
    measures: Mapping[str, ClipMeasures],
) -> None:
    """Write the page as one HTML file that needs no other."""
    splits = description.in_order()
    page = page_template("description.html.j2").render(
        source=source,
        tables=tables,
        findings=description.findings(),
        examples=description.examples,
        clip_examples={split: measures[split].examples for split in splits if split in measures},
        splits=splits,
        charts=_charts(description, splits, measures),
        width=WIDTH,
        height=HEIGHT,
    )
    write_whole(path, page)


def _charts(description: Description, splits: Sequence[str], measures: Mapping[str, ClipMeasures]) -> list[Chart]:
    numbers = [description.splits[split] for split in splits]
    labels = (*EMOTIONS, "none")
    charts = [
        draw_bars(
            f"Emotions of {speaker} turns, %",
            labels,
            [[split.labels[speaker][label] for label in labels] for split in numbers],
        )
        for speaker in SPEAKERS
    ]
    charts.append(_draw_spread("Turns a dialogue, % of dialogues", [split.turns_a_dialogue for split in numbers]))
    charts.append(_draw_spread("Words a reply, % of replies", [split.reply_words for split in numbers]))
    if measures:
        measured = [measures[split] for split in splits if split in measures]
        charts.append(_draw_spread("Loudness in dBFS, % of clips", [split.loudness for split in measured]))
        charts.append(_draw_spread("Length in seconds, % of clips", [split.tenths for split in measured], unit=10))
    return [chart for chart in charts if chart.bars]


def _draw_spread(title: str, spreads: Sequence[Spread], unit: float = 1) -> Chart:
    """Draw numbers in bins of one width, from the least to the 99th percentile; larger ones go into the last.

    Args:
        title: of the chart.
        spreads: one a series.
        unit: what the numbers are divided by where they are written.
    """
    filled = [spread for spread in spreads if spread.counts]
    if not filled:
        return Chart(title, (), (), 0.0)
    least, most = min(min(s.counts) for s in filled), max(s.quantile(0.99) for s in filled)
    width = max(1, -(-(most - least + 1) // _MAX_BINS))
    starts = list(range(least, most + 1, width))
    counts = [[0] * len(starts) for _ in spreads]
    for row, spread in zip(counts, spreads, strict=True):
        for value, count in spread.counts.items():
            row[min((value - least) // width, len(starts) - 1)] += count
    labels = [f"{start / unit:g}" for start in starts]
    if most < max(max(spread.counts) for spread in filled):
        labels[-1] += "+"
    return draw_bars(title, labels, counts)


def draw_bars(title: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Chart:
    """Draw counts as shares of their series.

    Args:
        title: of the chart.
        labels: one a bar.
        counts: a series of as many counts for each split; one without any gets no bars.
    """
    shares = [[100 * count / sum(row) if sum(row) else 0.0 for count in row] for row in counts]
    top = max((share for row in shares for share in row), default=0.0)
    if top == 0:
        return Chart(title, (), (), 0.0)
    top = next(edge for edge in (1, 2, 5, 10, 20, 40, 60, 80, 100.1) if top <= edge)
    place = WIDTH / len(labels)
    width = min(0.86 * place / len(shares), _MAX_BAR)
    indent = (place - width * len(shares)) / 2
    bars = [
        (
            index * place + indent + series * width,
            HEIGHT * (1 - share / top),
            width,
            HEIGHT * share / top,
            series,
            f"{share:.1f} %",
        )
        for series, row in enumerate(shares)
        for index, share in enumerate(row)
        if share > 0
    ]
    return Chart(title, tuple(labels), tuple(bars), float(round(top)))


__all__ = ["Chart", "draw_bars", "write_description"]
