"""How much of a past turn's emotion memories carry, by a linear probe: with and without `history_emotions`.

    python benchmarks/feeling_memory.py --data runs/quickstart/corpus/dialogues.jsonl \
        --compressors runs/with/compressor runs/without/compressor [--extractor runs/quickstart/extractor]

Each compressor is probed on memories of gold lines and, with `--extractor`, on those of what it hears in the clips of
past turns: then only test turns with a clip count. The probe is fitted on train dialogues and tested on test dialogues.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import AutoTokenizer

from launch import stage  # noqa: F401  (first: mends sys.path)
from compressor.modeling import MambaCompressor
from epo.data.cache import ClipCache
from epo.data.dialogue import Dialogue, Turn, read_dialogues
from epo.evaluation.feeling_recall import feeling_recall
from epo.model.checkpoints import load_weights
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.heard_emotions import HeardEmotions


def probe(folder: str, train: Sequence[Dialogue], test: Sequence[Dialogue], hear: Any = None) -> dict[str, Any]:
    """Return what the probe finds in the memories of one compressor's folder."""
    compressor = load_weights(MambaCompressor, folder, is_ours=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    row = {"compressor": folder, "history_emotions": compressor.config.history_emotions}
    row["gold"] = feeling_recall(compressor, tokenizer, train, test)
    if hear is not None:
        heard = [replace(d, turns=tuple(map(_only_with_clip, d.turns))) for d in test]
        row["gold_with_clip"] = feeling_recall(compressor, tokenizer, train, heard)
        row["heard"] = feeling_recall(compressor, tokenizer, train, heard, hear)
    return row


def _only_with_clip(turn: Turn) -> Turn:
    """Take the emotion of a user turn without a clip away: nobody can hear it."""
    return replace(turn, emotion=None) if turn.speaker == "user" and turn.clip is None else turn


def main() -> None:
    """Print one JSON object a compressor."""
    parser = argparse.ArgumentParser(
        description="Recall of past turns' emotions from memory tokens, by a linear probe."
    )
    parser.add_argument("--data", required=True, help="dialogues.jsonl")
    parser.add_argument("--compressors", required=True, nargs="+", help="folders written by launch/compressor.py")
    parser.add_argument("--extractor", help="folder written by launch/extractor.py, to probe what it hears too")
    parser.add_argument("--num-train", type=int, default=1000, help="train dialogues that the probe is fitted on")
    given = parser.parse_args()
    dialogues = list(read_dialogues(given.data))
    train = [dialogue for dialogue in dialogues if dialogue.split == "train"][: given.num_train]
    test = [dialogue for dialogue in dialogues if dialogue.split == "test"]
    hear = None
    if given.extractor is not None:
        extractor = load_weights(EmotionExtractor, given.extractor, is_ours=True)
        reading = SimpleNamespace(clips=ClipReader.load(Path(given.extractor)))
        hear = HeardEmotions(SimpleNamespace(extractor=extractor), reading, ClipCache(None))
    for folder in given.compressors:
        print(json.dumps(probe(folder, train, test, hear)), flush=True)


if __name__ == "__main__":
    main()
