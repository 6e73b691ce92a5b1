"""`data show`: print one dialogue of a file, write it as a page, or write a page of the whole corpus."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from launch.recipe import RecipeError


def run(argv: Sequence[str]) -> None:
    """Print one dialogue, or write pages with sound and video that play, frames, waveforms, words and emotions."""
    parser = argparse.ArgumentParser(prog="launch/data.py show", description=run.__doc__)
    parser.add_argument("file", type=Path, help="a dialogues.jsonl, or its folder")
    parser.add_argument("id", nargs="?", help="id of the dialogue; without it, --html names a folder for all of them")
    parser.add_argument("--html", type=Path, help="write a page there instead of printing; without id, a folder")
    parser.add_argument("--limit", type=int, default=20, help="dialogues that get a page of their own, without id")
    parser.add_argument("--decode", action="store_true", help="decode every clip first, to sort by faults and loudness")
    parser.add_argument("--workers", type=int, help="processes that decode; one a core if not given")
    parser.add_argument("--descriptions", type=Path, help="descriptions.jsonl, shown beside the frames")
    given = parser.parse_args(argv)
    if given.id is None:
        _show_corpus(given)
        return
    from epo.data.pages.showing import find_dialogue, format_dialogue, write_page

    dialogue = find_dialogue(given.file, given.id, given.descriptions)
    if given.html is None:
        print(format_dialogue(dialogue))
    else:
        write_page(dialogue, given.html)
        print(f"wrote {given.html}")


def _show_corpus(given: argparse.Namespace) -> None:
    from epo.data.checking import LIMITS, check_file, dialogues_file
    from epo.data.examination_pool import ExaminationRecord
    from epo.data.isolation import usable_cores
    from epo.data.pages.corpus_page import write_corpus_page
    from epo.data.pages.showing import described_dialogues

    if given.html is None:
        raise RecipeError("show: give the id of a dialogue, or --html FOLDER for a page of the whole corpus")
    if given.html.is_file() or given.html.suffix in (".html", ".htm"):
        raise RecipeError(f"--html {given.html}: for a page of the whole corpus name a folder, or give an id as well")
    file = dialogues_file(given.file)
    workers = usable_cores() if given.workers is None else given.workers
    if given.decode:
        check_file(file, workers)
    dialogues = described_dialogues(file, given.descriptions)
    record = ExaminationRecord(file.parent.resolve(), LIMITS)
    num_pages, faults = write_corpus_page(dialogues, file, given.html, record, given.limit, workers)
    if faults:
        print(*faults, sep="\n")
    print(f"wrote {given.html / 'index.html'} and {num_pages} pages of single dialogues")
