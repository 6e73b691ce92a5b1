"""Write a small corpus of real material: Topical-Chat conversations, EMO-DB voices and GRID faces.

    python benchmarks/realdata.py --source FOLDER --out runs/realdata/corpus --num-dialogues 300

FOLDER holds `topical_chat` and `emodb` as docs/corpora.md shows them, the latter with a `labels.csv` of file, speaker,
emotion and seconds beside its clips, and `grid`, with GRID's `.mpg` files.

It is a stand-in to try the trainer on real text, speech and video, not a benchmark of empathy: the voice is a German
actor who speaks other words than the transcript, in the emotion that the turn is labelled with; the face is a third
person who reads a sentence without emotion. Training and validation dialogues come from Topical-Chat's validation
split and test dialogues from its test split; no voice and no face file is in two splits.
"""

import argparse
import csv
import json
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from launch import stage  # noqa: F401  (first: mends sys.path)
from epo.data.corpora.emodb import EMODB_LABELS
from epo.data.corpora.import_report import ImportReport
from epo.data.corpora.media_folder import MediaFolder
from epo.data.corpora.topical_chat import read_topical_chat
from epo.data.dialogue import SPLITS, Clip, Dialogue, Split, Turn, write_dialogues
from epo.data.splits import place_of
from epo.emotions import Emotion

# Of 10 speakers and 11 faces; of the dialogues, the test share is of the whole, validation of what trains.
_NUM_SPEAKERS: dict[Split, int] = {"train": 6, "validation": 2, "test": 2}
_NUM_FACES: dict[Split, int] = {"train": 7, "validation": 2, "test": 2}
_TEST_SHARE, _VALIDATION_SHARE = 0.25, 0.15

Item = TypeVar("Item")
LICENCES = "Topical-Chat CDLA-Sharing-1.0, EMO-DB CC0-1.0, GRID CC BY 4.0"


@dataclass(frozen=True)
class Voice:
    """One utterance of EMO-DB."""

    path: Path
    speaker: str
    emotion: Emotion
    seconds: float


def write_realdata(source: Path, out: Path, num_dialogues: int, seed: int) -> Path:
    """Write `dialogues.jsonl`, `card.json` and `media/` below `out`, the same for the same arguments.

    Args:
        source: the folder with `topical_chat`, `emodb` and `grid`.
        out: where to write.
        num_dialogues: how many conversations, over all splits.
        seed: fixes conversations, splits, voices and faces.

    Returns:
        Path of the dialogues file.
    """
    rng = random.Random(seed)
    voices = _share_out(read_voices(source / "emodb"), rng)
    faces = _share_out_faces(source / "grid", rng)
    dialogues = [
        _attach(dialogue, voices, faces, out, random.Random(f"{seed}/{dialogue.id}"))
        for dialogue in choose_dialogues(source / "topical_chat", num_dialogues, seed)
    ]
    _copy_media(dialogues, source, out)
    path = out / "dialogues.jsonl"
    write_dialogues(path, dialogues)
    (out / "card.json").write_text(json.dumps(_describe(dialogues), indent=2) + "\n", encoding="utf-8")
    return path


def read_voices(folder: Path) -> list[Voice]:
    """Read EMO-DB's `labels.csv`; paths are those of the source."""
    voices = []
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            emotion = EMODB_LABELS.read(row["emotion"])
            assert emotion is not None
            voices.append(Voice(folder / row["file"], row["speaker"], emotion, float(row["seconds"])))
    return voices


def choose_dialogues(folder: Path, num_dialogues: int, seed: int) -> list[Dialogue]:
    """Draw conversations: the published test split tests, the published validation split trains and validates."""
    published = defaultdict(list)
    report = ImportReport("stop")
    for dialogue in read_topical_chat(folder, MediaFolder(folder, folder, report), report):
        published[dialogue.split].append(dialogue)
    num_test = round(num_dialogues * _TEST_SHARE)
    rng = random.Random(f"{seed}/dialogues")
    test = rng.sample(published["test"], num_test)
    rest = rng.sample(published["validation"], num_dialogues - num_test)
    held_out = {dialogue.id for dialogue in rest if place_of(dialogue.id, seed) < _VALIDATION_SHARE}
    return [replace(d, split="validation" if d.id in held_out else "train") for d in rest] + test


def _share_out(voices: list[Voice], rng: random.Random) -> dict[Split, dict[str, dict[Emotion, list[Voice]]]]:
    """Return split -> speaker -> emotion -> utterances, each speaker in one split."""
    speakers = sorted({voice.speaker for voice in voices})
    rng.shuffle(speakers)
    shared: dict[Split, dict[str, dict[Emotion, list[Voice]]]] = {}
    for split, names in _deal(speakers, _NUM_SPEAKERS):
        shared[split] = {name: defaultdict(list) for name in names}
        for voice in voices:
            if voice.speaker in shared[split]:
                shared[split][voice.speaker][voice.emotion].append(voice)
    return shared


def _share_out_faces(folder: Path, rng: random.Random) -> dict[Split, list[Path]]:
    files = sorted(path for path in folder.iterdir() if path.suffix == ".mpg")
    rng.shuffle(files)
    return dict(_deal(files, _NUM_FACES))


def _deal(items: list[Item], counts: dict[Split, int]) -> Iterator[tuple[Split, list[Item]]]:
    items = list(items)
    for split, count in counts.items():
        yield split, items[:count]
        items = items[count:]


def _attach(
    dialogue: Dialogue,
    voices: dict[Split, dict[str, dict[Emotion, list[Voice]]]],
    faces: dict[Split, list[Path]],
    out: Path,
    rng: random.Random,
) -> Dialogue:
    """Give one voice and one face to a dialogue's user: a clip on each user turn whose emotion the voice has."""
    assert dialogue.split is not None
    ours = voices[dialogue.split][rng.choice(sorted(voices[dialogue.split]))]
    face = rng.choice(faces[dialogue.split])

    def with_clip(turn: Turn) -> Turn:
        choices = ours.get(turn.emotion, []) if turn.speaker == "user" and turn.emotion is not None else []
        if not choices:
            return turn
        voice = rng.choice(choices)
        return replace(turn, clip=Clip(_place(voice.path, out), _place(face, out), end_s=voice.seconds))

    return replace(dialogue, turns=tuple(with_clip(turn) for turn in dialogue.turns))


def _place(path: Path, out: Path) -> Path:
    return out / "media" / path.parent.name / path.name


def _copy_media(dialogues: list[Dialogue], source: Path, out: Path) -> None:
    clips = [turn.clip for dialogue in dialogues for turn in dialogue.turns if turn.clip is not None]
    for target in sorted({path for clip in clips for path in (clip.audio, clip.video) if path is not None}):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / target.relative_to(out / "media"), target)


def _describe(dialogues: list[Dialogue]) -> dict[str, object]:
    content: dict[str, object] = {"corpus": "realdata", "licence": LICENCES}
    for split in SPLITS:
        ours = [dialogue for dialogue in dialogues if dialogue.split == split]
        seen = [turn for dialogue in ours for turn in dialogue.turns if turn.clip is not None]
        content[split] = {
            "dialogues": len(ours),
            "turns": sum(len(dialogue.turns) for dialogue in ours),
            "clips": len(seen),
            "emotions_of_clips": dict(Counter(str(turn.emotion) for turn in seen).most_common()),
        }
    return content


def main() -> None:
    """Write the corpus that the command line asks for."""
    parser = argparse.ArgumentParser(description="Topical-Chat words, EMO-DB voices, GRID faces as dialogues.jsonl.")
    parser.add_argument("--source", type=Path, required=True, help="folder with topical_chat, emodb and grid")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--num-dialogues", type=int, default=300, help="over all splits")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"wrote {write_realdata(given.source, given.out, given.num_dialogues, given.seed)}")


if __name__ == "__main__":
    main()
