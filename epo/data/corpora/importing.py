"""Importing: a reader's dialogues, given splits and probed, go to `dialogues.jsonl`; `card.json` says what they are."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from compressor.progress import show_progress
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.mending import mend_dialogues
from epo.data.corpora.turns import Reader
from epo.data.corpora.unusable import Unusable, find_unusable
from epo.data.dialogue import SPLITS, DataError, Dialogue, read_dialogues, write_dialogues
from epo.data.proportional_draw import draw_by_dialogue, share_out_most
from epo.data.split_draw import SplitDraw
from epo.data.splits import Splits, SplitShares, read_splits
from epo.emotions import EMOTIONS
from epo.files import write_whole


class Card:
    """Counts of a corpus: dialogues, turns, labels, clips, hours; constant memory."""

    def __init__(self, seconds: float) -> None:
        """Start with the length of all clips."""
        self.dialogues: Counter[str] = Counter()
        self.turns: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.machine_labels: Counter[str] = Counter()
        self.clips: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.seconds = seconds

    def add(self, dialogue: Dialogue) -> None:
        """Count a dialogue that has a split."""
        assert dialogue.split is not None
        self.dialogues[dialogue.split] += 1
        self.turns[dialogue.split] += len(dialogue.turns)
        self.languages[dialogue.language] += 1
        for turn in dialogue.turns:
            self.labels["none" if turn.emotion is None else turn.emotion] += 1
            if turn.labelled_by is not None:
                self.machine_labels[turn.labelled_by] += 1
            if turn.clip is not None:
                self.clips["audio"] += turn.clip.audio is not None
                self.clips["video"] += turn.clip.video is not None

    def as_json(self) -> dict[str, Any]:
        """Return the counts by split and label; `hours` is the length of the turns that have a clip."""
        return {
            "dialogues": {split: self.dialogues[split] for split in SPLITS},
            "turns": {split: self.turns[split] for split in SPLITS},
            "emotions": {label: self.labels[label] for label in (*EMOTIONS, "none")},
            "machine_labels": dict(self.machine_labels.most_common()),
            "clips": {kind: self.clips[kind] for kind in ("audio", "video")},
            "hours": round(self.seconds / 3600, 3),
            "languages": dict(self.languages),
        }


def import_corpus(
    read: Reader,
    root: Path,
    out: Path,
    shares: SplitShares,
    report: ImportReport,
    facts: dict[str, Any],
    *,
    decode: bool = True,
    workers: int = 1,
    max_dialogues: int | None = None,
) -> dict[str, Any]:
    """Import a corpus folder into `out` and return its card.

    Clips go to `out/media` first and `dialogues.jsonl` appears whole at the end, so an import that was
    interrupted is simply run again: media already there are kept, and clips once examined are not decoded again.

    Args:
        read: the corpus's reader.
        root: the corpus folder.
        out: where `dialogues.jsonl`, `card.json` and `media/` go.
        shares: splits of dialogues to which the corpus gives none; `out/splits.json` keeps them for the next import.
        report: counts irregularities, and says whether to stop at a fault.
        facts: what the card says besides counts, such as the licence.
        decode: read every clip as training does; False only opens the files.
        workers: processes that read clips.
        max_dialogues: keep that many at most, a part of each split drawn by `shares.seed`; None keeps all.

    Raises:
        DataError: the folder is missing or not laid out as docs/data.md says, or holds no dialogue, or a fault
            was met and `report` says to stop.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the corpus as --root")
    draft = out / "dialogues.jsonl.draft"
    media = MediaFolder(out, root, report)
    draw = SplitDraw(shares, read_splits(out / "splits.json", shares))
    try:
        dialogues = mend_dialogues(read(root, media, report), report)
        if write_dialogues(draft, _drawn(show_progress(dialogues, "import", "dialogues"), draw)) == 0:
            raise DataError(
                "; ".join([f"{root}: not one usable dialogue", *(report.summary() or ["it holds nothing"])])
            )
        splits = draw.decide()
        not_drawn = _keep_at_most(max_dialogues, draft, splits)
        found = find_unusable(draft, media, report, decode=decode, workers=workers)
        card = Card(found.seconds)
        splits.write(out / "splits.json")
        write_dialogues(out / "dialogues.jsonl", _finished(draft, found, splits, card))
    finally:
        draft.unlink(missing_ok=True)
    content = {**facts, **card.as_json(), **({} if max_dialogues is None else {"not_drawn": not_drawn})}
    content |= {"splits": list(splits.notes), "irregularities": report.as_json()}
    write_whole(out / "card.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return content


def missing_splits(card: dict[str, Any], shares: SplitShares) -> list[str]:
    """Return a line for each split that an imported corpus leaves empty: what that costs, and what to do.

    Args:
        card: as `import_corpus` returns it.
        shares: those of the import.
    """
    num_dialogues = sum(card["dialogues"].values())
    advice = f"with {num_dialogues} dialogues {{}}, or write `split` into the corpus"
    lines = {
        "train": "no train dialogues: nothing can be learnt; " + advice.format("lower validation_share and test_share"),
        "validation": "no validation dialogues: training stages will have no held-out numbers; "
        + advice.format(f"raise validation_share, now {shares.validation}"),
        "test": "no test dialogues: launch/evaluate.py cannot do without; "
        + advice.format(f"raise test_share, now {shares.test}"),
    }
    return [lines[split] for split in SPLITS if card["dialogues"][split] == 0]


def _drawn(dialogues: Iterable[Dialogue], draw: SplitDraw) -> Iterator[Dialogue]:
    for dialogue in dialogues:
        draw.add(dialogue)
        yield dialogue


def _keep_at_most(most: int | None, draft: Path, splits: Splits) -> dict[str, int]:
    """Leave that many dialogues in the draft, in proportion to the splits; return how many of each are left out."""
    if most is None:
        return {}
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    for dialogue in read_dialogues(draft):
        ids[splits.of(dialogue.id, dialogue.group, dialogue.split)].append(dialogue.id)
    counts = share_out_most({split: len(names) for split, names in ids.items()}, most)
    kept = {
        name
        for split, names in ids.items()
        for name in draw_by_dialogue(names, lambda name: name, counts[split], splits.shares.seed)
    }
    write_dialogues(draft, (dialogue for dialogue in read_dialogues(draft) if dialogue.id in kept))
    return {split: len(names) - counts[split] for split, names in ids.items()}


def _finished(draft: Path, found: Unusable, splits: Splits, card: Card) -> Iterator[Dialogue]:
    """Yield the dialogues of the draft without the clips that cannot be used, each with its split, and count them."""
    for dialogue in read_dialogues(draft):
        turns = tuple(found.without(dialogue.id, index, turn) for index, turn in enumerate(dialogue.turns))
        split = splits.of(dialogue.id, dialogue.group, dialogue.split)
        dialogue = replace(dialogue, turns=turns, split=split)
        card.add(dialogue)
        yield dialogue


__all__ = ["Card", "import_corpus", "missing_splits"]
