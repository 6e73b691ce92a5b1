"""Lending: turns of a text corpus get clips of labelled voices: another person, other words, the same emotion."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from epo.data.dialogue import SPLITS, Clip, DataError, Dialogue, Split, Turn
from epo.data.voices import Voice
from epo.emotions import EMOTIONS, Emotion
from epo.files import write_whole


def is_to_be_voiced(turn: Turn) -> bool:
    """Tell whether a turn is to be lent a clip: the user's, with an emotion, and without a clip of its own."""
    return turn.speaker == "user" and turn.emotion is not None and turn.clip is None


def count_wanted(dialogues: Iterable[Dialogue]) -> Counter[Split]:
    """Return by split how many dialogues have a turn that is to be lent a clip.

    Raises:
        DataError: a dialogue that has one is of no split.
    """
    wanted: Counter[Split] = Counter()
    for dialogue in dialogues:
        if not any(map(is_to_be_voiced, dialogue.turns)):
            continue
        if dialogue.split is None:
            raise DataError(
                f"dialogue {dialogue.id!r} has no split, and speakers are shared out by split; write `split` into the "
                "file, or let `launch/data.py import --corpus jsonl` draw it"
            )
        wanted[dialogue.split] += 1
    return wanted


@dataclass
class LendingCounts:
    """What was lent and what was not, counted in turns of the user by split.

    Attributes:
        lent: by emotion.
        without_voice: by emotion: no voice of the split has it, or not the dialogue's.
        again: of the lent, those that their dialogue had heard before, for its voice had no other left.
        unlabelled: turns without an emotion.
        own: turns that had a clip of their own, which they keep.
    """

    lent: dict[Split, Counter[Emotion]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    without_voice: dict[Split, Counter[Emotion]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    again: Counter[Split] = field(default_factory=Counter)
    unlabelled: Counter[Split] = field(default_factory=Counter)
    own: Counter[Split] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """Return the counts; emotions that none has are left out."""
        by_emotion = {"lent": self.lent, "left_without_voice": self.without_voice}
        by_split = {"lent_again": self.again, "unlabelled": self.unlabelled, "own_clip": self.own}
        return {
            name: {split: {str(e): counts[split][e] for e in EMOTIONS if counts[split][e]} for split in SPLITS}
            for name, counts in by_emotion.items()
        } | {name: {split: counts[split] for split in SPLITS} for name, counts in by_split.items()}


class ClipLender:
    """Lends each dialogue the clips of one voice.

    What a dialogue gets hangs on the seed, its id, its turns and the voices of its split, and on no other dialogue.
    """

    def __init__(
        self,
        voices: Sequence[Voice],
        split_of: Mapping[str, Split],
        seed: int,
        place: Callable[[Voice, Clip], Clip],
        counts: LendingCounts,
    ) -> None:
        """Take the voices.

        Args:
            voices: of all corpora.
            split_of: split of each group of voices, as `share_out` returns it.
            seed: another one gives another draw.
            place: brings a voice's clip below the folder that is written, and returns it there.
            counts: hears of every turn of the user.
        """
        self._voices: dict[Split, list[Voice]] = {split: [] for split in SPLITS}
        for voice in sorted(voices, key=lambda voice: voice.name):
            if voice.group in split_of:
                self._voices[split_of[voice.group]].append(voice)
        self._seed, self._place, self._counts = seed, place, counts

    def lend(self, dialogue: Dialogue) -> Dialogue:
        """Return a dialogue with a clip on each user turn that has an emotion of the voice, and none of its own.

        The voice is drawn among those that can speak most of the turns. Its clips of an emotion are lent in drawn
        order, each once before any comes again.
        """
        if not any(map(is_to_be_voiced, dialogue.turns)):
            for turn in dialogue.turns:
                self._count_other(dialogue, turn)
            return dialogue
        rng = random.Random(f"{self._seed}/{dialogue.id}")
        voice = self._choose(dialogue, rng)
        orders: dict[Emotion, Iterator[tuple[Clip, bool]]] = {}
        return replace(dialogue, turns=tuple(self._voiced(dialogue, t, voice, orders, rng) for t in dialogue.turns))

    def _choose(self, dialogue: Dialogue, rng: random.Random) -> Voice | None:
        assert dialogue.split is not None  # or `count_wanted` refused it
        wanted = Counter(turn.emotion for turn in dialogue.turns if is_to_be_voiced(turn))
        voices = self._voices[dialogue.split]
        served = [sum(count for emotion, count in wanted.items() if emotion in voice.clips) for voice in voices]
        best = [voice for voice, count in zip(voices, served, strict=True) if count == max(served)]
        return rng.choice(best) if best else None

    def _voiced(
        self,
        dialogue: Dialogue,
        turn: Turn,
        voice: Voice | None,
        orders: dict[Emotion, Iterator[tuple[Clip, bool]]],
        rng: random.Random,
    ) -> Turn:
        split, emotion = dialogue.split, turn.emotion
        if not is_to_be_voiced(turn):
            self._count_other(dialogue, turn)
            return turn
        assert split is not None and emotion is not None
        if voice is None or emotion not in voice.clips:
            self._counts.without_voice[split][emotion] += 1
            return turn
        clip, is_again = next(orders.setdefault(emotion, _in_drawn_order(voice.clips[emotion], rng)))
        self._counts.lent[split][emotion] += 1
        self._counts.again[split] += is_again
        return replace(turn, clip=self._place(voice, clip), vad=None)  # a rating would be of what nobody hears now

    def _count_other(self, dialogue: Dialogue, turn: Turn) -> None:
        if turn.speaker == "user" and dialogue.split is not None:
            self._counts.own[dialogue.split] += turn.clip is not None
            self._counts.unlabelled[dialogue.split] += turn.clip is None and turn.emotion is None


def _in_drawn_order(clips: Sequence[Clip], rng: random.Random) -> Iterator[tuple[Clip, bool]]:
    """Yield clips without end, each with whether it came before."""
    is_again = False
    while True:
        for clip in rng.sample(clips, len(clips)):
            yield clip, is_again
        is_again = True


def write_speakers(path: Path, split_of: Mapping[str, Split], seed: int) -> None:
    """Write the splits of the speakers, which `read_speakers` gives back when dialogues have come in addition."""
    write_whole(path, json.dumps({"seed": seed, "speakers": dict(sorted(split_of.items()))}, indent=1) + "\n")


def read_speakers(path: Path, seed: int) -> dict[str, Split] | None:
    """Return the splits that were recorded; None where there are none, or another seed's.

    Raises:
        DataError: the file is no such record.
    """
    try:
        row = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        row = None
    speakers = row.get("speakers") if isinstance(row, dict) else None
    if not isinstance(speakers, dict) or not all(split in SPLITS for split in speakers.values()):
        raise DataError(f"{path}: no record of speakers and their splits; delete it to draw them anew")
    return speakers if row.get("seed") == seed else None


__all__ = [
    "ClipLender",
    "LendingCounts",
    "count_wanted",
    "is_to_be_voiced",
    "read_speakers",
    "write_speakers",
]
