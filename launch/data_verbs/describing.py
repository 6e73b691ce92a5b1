"""`data describe`: what a dialogues file holds, split by split, and what each stage would find in it."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from compressor.progress import show_progress
from epo.data.clip_measures import ClipMeasures
from epo.data.describing import NO_SPLIT, Description
from epo.data.dialogue import Clip, read_dialogues
from epo.data.pages.description_tables import format_tables, make_tables
from launch.planning.stage_uses import USES, count_uses


def run(argv: Sequence[str]) -> None:
    """Describe a dialogues file: sizes, labels, lengths, what each stage would find, and what to look at."""
    from epo.data.checking import dialogues_file
    from epo.data.isolation import usable_cores

    parser = argparse.ArgumentParser(prog="launch/data.py describe", description=run.__doc__)
    parser.add_argument("file", type=Path, help="a dialogues.jsonl, or its folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--html", type=Path, help="write a page with charts there as well")
    parser.add_argument("--decode", action="store_true", help="decode every clip: loudness, silence, lengths")
    parser.add_argument("--workers", type=int, help="processes that decode; one a core if not given")
    given = parser.parse_args(argv)
    file = dialogues_file(given.file)
    description = Description()
    for dialogue in show_progress(read_dialogues(file), "describe", "dialogues"):
        description.add(dialogue, count_uses(dialogue))
    measures = measure_clips(file, usable_cores() if given.workers is None else given.workers) if given.decode else {}
    tables = make_tables(description, USES, measures)
    if given.json:
        clips = {split: measured.as_json() for split, measured in measures.items()}
        print(json.dumps({"file": str(file), **description.as_json(), "clips": clips}, indent=2, ensure_ascii=False))
    else:
        print(format_tables(tables))
        findings = [*description.findings(), *_clip_findings(measures)]
        print("\nTo look at:", *(findings or ["nothing"]), sep="\n  ")
    if given.html is not None:
        from epo.data.pages.description_page import write_description

        write_description(given.html, file, description, tables, measures)
        if not given.json:
            print(f"wrote {given.html}")


def measure_clips(file: Path, workers: int) -> dict[str, ClipMeasures]:
    """Decode every clip of a dialogues file that `check` has not decoded yet, and add up what was found by split."""
    from epo.data.checking import LIMITS
    from epo.data.examination_pool import ExaminationRecord, examine_clips

    record = ExaminationRecord(file.parent.resolve(), LIMITS)
    measures: dict[str, ClipMeasures] = {}
    for (split, where), _, report in examine_clips(show_progress(_clips(file), "decode", "clips"), workers, record):
        measures.setdefault(split, ClipMeasures(LIMITS.max_audio_seconds)).add(where, report)
    return measures


def _clips(file: Path) -> Iterator[tuple[tuple[str, str], Clip]]:
    for dialogue in read_dialogues(file):
        for index, turn in enumerate(dialogue.turns):
            if turn.clip is not None:
                split = NO_SPLIT if dialogue.split is None else dialogue.split
                yield (split, f"{dialogue.id} turn {index}"), turn.clip


def _clip_findings(measures: dict[str, ClipMeasures]) -> list[str]:
    return [
        f"{measured.counts[kind]} {split} clips are {kind}; such as {places[0]}"
        for split, measured in measures.items()
        for kind, places in measured.examples.items()
    ]
