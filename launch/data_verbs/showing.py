"""`data show`: print one dialogue of a file, or write it as a page."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def run(argv: Sequence[str]) -> None:
    """Print one dialogue of a file, or write it as an HTML page with frames, waveforms, words and emotions."""
    from epo.data.showing import find_dialogue, format_dialogue, write_page

    parser = argparse.ArgumentParser(prog="launch/data.py show", description=run.__doc__)
    parser.add_argument("file", type=Path, help="a dialogues.jsonl")
    parser.add_argument("id", help="id of the dialogue")
    parser.add_argument("--html", type=Path, help="write a page there instead of printing")
    given = parser.parse_args(argv)
    dialogue = find_dialogue(given.file, given.id)
    if given.html is None:
        print(format_dialogue(dialogue))
    else:
        write_page(dialogue, given.html)
        print(f"wrote {given.html}")
