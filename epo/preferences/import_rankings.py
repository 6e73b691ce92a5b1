"""Importing rankings: a file of prompt, chosen and rejected becomes `dialogues.jsonl` and `pairs.jsonl`."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.importing import Card
from epo.data.dialogue import SPLITS, DataError, Dialogue, Split, Turn, read_dialogues, write_dialogues
from epo.data.replies import reply_at
from epo.data.splits import SplitShares, place_of
from epo.files import write_whole
from epo.preferences.pair import PreferencePair, read_pairs, write_pairs
from epo.preferences.ranking_files import read_rows
from epo.preferences.rankings import Ranking, RankingFormat


def import_rankings(
    file: Path,
    out: Path,
    columns: Mapping[str, str],
    shares: SplitShares,
    report: ImportReport,
    *,
    language: str = "en",
    source: str = "unnamed",
) -> dict[str, Any]:
    """Import a file of rankings into a folder and return its card.

    Every prompt becomes one dialogue, however many pairs rank replies to it; its last turn is the reply that was chosen
    first. A prompt's split hangs on a hash of what the user says first in it, so that conversations with the same
    opening never stand on both sides.

    Args:
        file: JSON lines, a JSON array, CSV, TSV or Parquet.
        out: where `dialogues.jsonl`, `pairs.jsonl` and `card.json` go.
        columns: names of the columns in the file, where they are other than `rankings.COLUMNS`.
        shares: of the splits.
        report: counts what is left out, and says whether to stop at a fault.
        language: of all texts.
        source: what the pairs say they come from.

    Raises:
        DataError: the file is missing, of another kind or without a ranking, or a fault was met and `report` says to
            stop.
    """
    dialogues: dict[str, Dialogue] = {}
    pairs = []
    for ranking in RankingFormat(columns, report).read(read_rows(file, report)):
        name = ranking.dialogue_id
        if name not in dialogues:
            dialogues[name] = _dialogue(ranking, _split(ranking.group, shares), language)
        place = reply_at(dialogues[name], len(dialogues[name].turns) - 1)
        chosen = replace(place, text=ranking.chosen.text)
        pairs.append(PreferencePair(chosen, ranking.rejected.text, None, source, ranking.scores))
    if not pairs:
        raise DataError("; ".join([f"{file}: not one usable ranking", *(report.summary() or ["it holds nothing"])]))
    write_dialogues(out / "dialogues.jsonl", dialogues.values())
    write_pairs(out / "pairs.jsonl", pairs)
    # Read as every stage will read them; what is odd about the pairs among each other is counted on the way.
    by_id = {dialogue.id: dialogue for dialogue in read_dialogues(out / "dialogues.jsonl")}
    card = Card(seconds=0.0)
    for dialogue in by_id.values():
        card.add(dialogue)
    of_splits = Counter(pair.reply.split for pair in read_pairs(out / "pairs.jsonl", by_id, report))
    content = {"rankings": file.name, "pairs": {split: of_splits[split] for split in SPLITS}, **card.as_json()}
    content["irregularities"] = report.as_json()
    write_whole(out / "card.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return content


def _dialogue(ranking: Ranking, split: Split, language: str) -> Dialogue:
    system = [message.text for message in ranking.prompt if message.role == "system"]
    said = (*(message for message in ranking.prompt if message.role != "system"), ranking.chosen)
    return Dialogue(
        id=ranking.dialogue_id,
        turns=tuple(Turn("user" if message.role == "user" else "assistant", message.text) for message in said),
        language=language,
        split=split,
        group=ranking.group,
        background="\n".join(system) if system else None,
    )


def _split(group: str, shares: SplitShares) -> Split:
    place = place_of(group, shares.seed)
    if place < shares.test:
        return "test"
    return "validation" if place < shares.test + shares.validation else "train"


__all__ = ["import_rankings"]
