"""`data check`: list every fault of a dialogues file and of the media it names."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

_SHOWN_NOTES = 3  # of each kind


def run(argv: Sequence[str]) -> None:
    """List every fault of a dialogues file, and of pairs; exit 1 if there is one, unless it is told to drop them."""
    from epo.data.checking import check_file
    from epo.data.dropping import write_sound
    from epo.preferences.pair_check import check_pairs

    parser = argparse.ArgumentParser(prog="launch/data.py check", description=run.__doc__)
    parser.add_argument("file", type=Path, help="a dialogues.jsonl")
    parser.add_argument("--pairs", type=Path, help="a pairs.jsonl that points into it, to be checked too")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument("--no-decode", action="store_true", help="only look whether media exist, do not decode them")
    parser.add_argument("--fresh", action="store_true", help="decode again what an earlier check has decoded")
    parser.add_argument(
        "--drop", type=Path, metavar="FILE", help="write it there without what is at fault; same folder"
    )
    parser.add_argument("--workers", type=int, help="processes that decode; one a core if not given")
    given = parser.parse_args(argv)
    result = check_file(given.file, workers=given.workers, decode=not given.no_decode, fresh=given.fresh)
    num_pairs = None if given.pairs is None else check_pairs(given.pairs, given.file, result)
    if given.json:
        counted = {} if num_pairs is None else {"pairs": num_pairs}
        print(json.dumps(result.as_json() | counted, indent=2, ensure_ascii=False))
    else:
        counts = {"dialogues": result.num_dialogues, "clips": result.num_clips, "pairs": num_pairs}
        counts |= {"faults": len(result.faults), "notes": len(result.notes)}
        summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count is not None)
        print(*result.faults, *_first_of_each_kind(result.notes), summary, sep="\n")
    if given.drop is not None:
        left_out = write_sound(given.file, given.drop)
        print(*left_out.summary(), f"wrote {given.drop}", sep="\n", file=sys.stderr if given.json else sys.stdout)
    elif result.faults:
        sys.exit(1)


def _first_of_each_kind(notes: Sequence[str]) -> list[str]:
    """Return lines for the first notes of each kind and for how many more there are."""
    by_kind: dict[str, list[str]] = {}
    for note in notes:
        # The kind is what follows the place, without its numbers.
        by_kind.setdefault(re.sub(r"[\d.]+", "0", note.rpartition(": ")[2]), []).append(note)
    lines = []
    for same in by_kind.values():
        lines += [f"note: {note}" for note in same[:_SHOWN_NOTES]]
        if len(same) > _SHOWN_NOTES:
            lines.append(f"note: {len(same) - _SHOWN_NOTES} more like this; --json lists them")
    return lines
