"""Voices: the labelled clips of a corpus by who speaks, and the speakers shared out over the splits."""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from epo.data.dialogue import SPLITS, Clip, DataError, Split, read_dialogues
from epo.data.splits import place_of
from epo.emotions import Emotion

VoiceSplits = Literal["own", "drawn"]


@dataclass(frozen=True)
class Voice:
    """One person's labelled clips.

    Attributes:
        name: who it is, after the folder of the corpus.
        group: what may not be in two splits: the corpus's group (often the speaker), else the speaker's name, else the
            dialogue.
        file: which of the voice corpora it is of.
        clips: at least one, in the order of the file.
        own: the splits that the corpus has its clips in; None is a clip without one.
    """

    name: str
    group: str
    file: Path
    clips: dict[Emotion, list[Clip]] = field(default_factory=dict)
    own: set[Split | None] = field(default_factory=set)


def read_voices(file: Path) -> list[Voice]:
    """Return the voices of a dialogues file: of each turn, whoever's it is, that has an emotion and a clip.

    Raises:
        DataError: the file is missing or faulty, or no turn has both.
    """
    voices: dict[tuple[str, str | None], Voice] = {}
    for dialogue in read_dialogues(file):
        for turn in dialogue.turns:
            if turn.emotion is None or turn.clip is None:
                continue
            group = dialogue.group or turn.name or dialogue.id
            key = (group, turn.name)
            if key not in voices:
                name = group if turn.name is None or group.endswith(turn.name) else f"{group}/{turn.name}"
                voices[key] = Voice(f"{file.parent.name}/{name}", group, file)
            voices[key].clips.setdefault(turn.emotion, []).append(turn.clip)
            voices[key].own.add(dialogue.split)
    if not voices:
        raise DataError(
            f"{file}: no turn has both an emotion and a clip, so there is no voice to lend; name a corpus of labelled "
            "clips, such as `launch/data.py import --corpus emodb` writes"
        )
    return list(voices.values())


def share_out(
    voices: Sequence[Voice],
    wanted: Mapping[Split, int],
    seed: int,
    voice_splits: VoiceSplits,
    earlier: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Return the split of each group of voices; none is in two.

    With "own", a corpus whose own splits keep its groups apart keeps them. All other groups are dealt out by a draw, in
    proportion to what is wanted of each split, at least one to a split that has none. Then groups change places, and
    where that does not help move, as long as more of the emotions are heard in more of the splits; our choice.

    Args:
        voices: of all corpora.
        wanted: dialogues of each split that are to be given a voice; a split with none gets no voice.
        seed: another one gives another draw.
        voice_splits: whether the corpora's own splits count.
        earlier: what this returned before. It is kept where it has the same groups to deal out and a voice for each
            split, so that dialogues that come in addition change nothing.

    Raises:
        DataError: a split with dialogues would have no voice.
    """
    splits = [split for split in SPLITS if wanted.get(split, 0) > 0]
    heard = _emotions_of_groups(voices)
    fixed = _own_splits(voices) if voice_splits == "own" else {}
    free = sorted(heard.keys() - fixed.keys(), key=lambda group: (place_of(group, seed), group))
    held = {split: [group for group, own in fixed.items() if own == split] for split in splits}
    lacking = [split for split in splits if not held[split]]
    if len(free) < len(lacking):
        files = ", ".join(dict.fromkeys(str(voice.file) for voice in voices))
        why = (
            f"by their own splits no voice is left for {', '.join(lacking)}; set voice_splits: drawn"
            if fixed
            else f"{len(heard)} speaker(s) for dialogues of {len(splits)} splits"
        )
        raise DataError(f"{files}: {why}, or name more voices: no speaker may be in two splits")
    if earlier is not None and earlier.keys() - fixed.keys() == set(free):
        kept = {group: earlier[group] for group in free}
        if set(lacking) <= set(kept.values()):
            return fixed | kept
    dealt, start = dict[Split, list[str]](), 0
    for split, count in _quotas(len(free), wanted, splits, lacking).items():
        dealt[split] = free[start : start + count]
        start += count
    _spread_emotions(dealt, held, heard)
    return fixed | {group: split for split, groups in dealt.items() for group in groups}


def _emotions_of_groups(voices: Sequence[Voice]) -> dict[str, set[Emotion]]:
    heard: dict[str, set[Emotion]] = {}
    for voice in voices:
        heard.setdefault(voice.group, set()).update(voice.clips)
    return heard


def _own_splits(voices: Sequence[Voice]) -> dict[str, Split]:
    """Return the splits of the groups of those corpora that have one for each group, and one only."""
    own: dict[str, set[Split | None]] = {}
    for voice in voices:
        own.setdefault(voice.group, set()).update(voice.own)
    torn = {voice.file for voice in voices if len(own[voice.group]) > 1 or None in own[voice.group]}
    fixed: dict[str, Split] = {}
    for voice in voices:
        (split, *_) = own[voice.group]
        if voice.file not in torn and split is not None:
            fixed[voice.group] = split
    return fixed


def _quotas(
    count: int, wanted: Mapping[Split, int], splits: Sequence[Split], lacking: Collection[Split]
) -> dict[Split, int]:
    """Share `count` out by largest remainder, at least one for each split that lacks a voice."""
    total = sum(wanted[split] for split in splits)
    exact = {split: count * wanted[split] / total for split in splits}
    quotas = {split: max(int(exact[split]), int(split in lacking)) for split in splits}
    while sum(quotas.values()) != count:
        step = 1 if sum(quotas.values()) < count else -1
        movable = [split for split in splits if step > 0 or quotas[split] > int(split in lacking)]
        split = max(movable, key=lambda split: step * (exact[split] - quotas[split]))  # of equals the first: train
        quotas[split] += step
    return quotas


def _spread_emotions(
    dealt: dict[Split, list[str]], held: Mapping[Split, Sequence[str]], heard: Mapping[str, set[Emotion]]
) -> None:
    """Exchange groups between splits, or move one, while that raises the number of (split, emotion) that are heard."""
    counts = {split: Counter[Emotion]() for split in dealt}
    for split in dealt:
        for group in [*dealt[split], *held[split]]:
            counts[split].update(heard[group])
    while (change := _best_change(dealt, counts, heard)) is not None:
        first, second, given, taken = change
        moves = [(given, first, second)] if taken is None else [(given, first, second), (taken, second, first)]
        for group, giver, taker in moves:
            dealt[giver].remove(group)
            dealt[taker].append(group)
            counts[giver].subtract(heard[group])
            counts[taker].update(heard[group])


def _best_change(
    dealt: Mapping[Split, Sequence[str]],
    counts: Mapping[Split, Mapping[Emotion, int]],
    heard: Mapping[str, set[Emotion]],
) -> tuple[Split, Split, str, str | None] | None:
    """Return (split, split, group of the first, group of the second that it is exchanged for), None where none helps.

    An exchange comes before a move, since it keeps the proportions; of equals the first.
    """
    kinds = {split: {frozenset(heard[group]): group for group in reversed(dealt[split])} for split in dealt}
    best: tuple[tuple[bool, int], tuple[Split, Split, str, str | None]] | None = None
    for first, second in itertools.permutations(dealt, 2):
        for given, taken in itertools.product(kinds[first].values(), [*kinds[second].values(), None]):
            ours, theirs = heard[given], set() if taken is None else heard[taken]
            gain = sum(counts[second][emotion] == 0 for emotion in ours - theirs)
            gain += sum(counts[first][emotion] == 0 for emotion in theirs - ours)
            gain -= sum(counts[first][emotion] == 1 for emotion in ours - theirs)
            gain -= sum(counts[second][emotion] == 1 for emotion in theirs - ours)
            if gain > 0 and (best is None or (taken is not None, gain) > best[0]):
                best = ((taken is not None, gain), (first, second, given, taken))
    return None if best is None else best[1]


__all__ = ["Voice", "VoiceSplits", "read_voices", "share_out"]
