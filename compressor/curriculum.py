"""The curriculum: which history a training position sees, a pure function of that position."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from compressor.words import split_words


@dataclass(frozen=True)
class Curriculum:
    """Shares of training spent on each phase; the rest sees whole dialogues.

    Two phases as in public MambaCompressor work (single turns, then dialogues); that dialogues grow, and that a
    short history keeps the turns closest to its reply, is our choice: it triples the updates a second.
    """

    single_turns: float = 0.0
    short: float = 0.6
    medium: float = 0.25
    short_turns: int = 2
    medium_turns: int = 6

    def num_turns(self, progress: float) -> int | None:
        """Return how many past turns to show at a training progress in [0, 1), None for all."""
        stages = ((self.single_turns, 1), (self.short, self.short_turns), (self.medium, self.medium_turns))
        for share, turns in stages:
            if progress < share:
                return turns
            progress -= share
        return None


class RelevantTurns:
    """Ranks the turns of a history by the rare words they share with the reply."""

    def __init__(self, turns: Iterable[str]) -> None:
        counts: Counter[str] = Counter()
        total = 0
        for turn in turns:
            counts.update(_words(turn))
            total += 1
        self._idf = {word: math.log(total / count) for word, count in counts.items()}

    def pick(self, turns: Sequence[str], reply: str, num_turns: int | None) -> list[int]:
        """Return, in order, the indices of the `num_turns` turns most like the reply; all where that is None.

        Ties go to the later turn.
        """
        if num_turns is None:
            return list(range(len(turns)))
        wanted = _words(reply)
        shared = [wanted & _words(turn) for turn in turns]
        # fsum, since a set gives its words in another order in every process: ties must stay ties.
        scores = [math.fsum(self._idf.get(word, 0.0) for word in words) for words in shared]
        ranked = sorted(range(len(turns)), key=lambda i: (scores[i], i), reverse=True)
        return sorted(ranked[:num_turns])


class ScheduledDataset(Dataset[Any]):
    """Maps a training position to an example index and a random seed, the same whoever asks and whenever.

    Read in order it is a shuffled pass over the examples again and again. Because nothing depends on a global
    random state, a resumed run sees exactly what the uninterrupted one would have seen.

    With lengths, examples of like length come together: positions are dealt out in windows of a few global batches,
    sorted within each and the batches shuffled. Less padding, and ranks that wait less for one another (our choice).
    """

    _BATCHES_A_WINDOW = 16

    def __init__(
        self,
        num_examples: int,
        num_samples: int,
        seed: int,
        lengths: Sequence[int] | None = None,
        global_batch_size: int = 1,
    ) -> None:
        """Plan a run.

        Args:
            num_examples: how many there are.
            num_samples: how many are read in the whole run, some of them again and again.
            seed: of the order.
            lengths: of each example, in any unit; None leaves the order as it falls.
            global_batch_size: samples an optimizer step, over all ranks.
        """
        self._num_examples, self._num_samples, self._seed = num_examples, num_samples, seed
        self._lengths, self._batch = lengths, global_batch_size
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))
        self._window: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, position: int) -> dict[str, int | float]:
        """Return `index` (which example), `seed` (for its randomness) and `progress` in [0, 1)."""
        return {
            "index": self._shuffled(position) if self._lengths is None else self._grouped(position),
            "seed": self._seed * 1_000_003 + position,
            "progress": position / self._num_samples,
        }

    def _shuffled(self, position: int) -> int:
        epoch, offset = divmod(position, self._num_examples)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self._seed, epoch)).permutation(self._num_examples))
        return int(self._order[1][offset])

    def _grouped(self, position: int) -> int:
        size = self._BATCHES_A_WINDOW * self._batch
        window, offset = divmod(position, size)
        if self._window[0] != window:
            self._window = (window, self._arrange(window, range(window * size, (window + 1) * size)))
        return self._window[1][offset]

    def _arrange(self, window: int, positions: range) -> list[int]:
        assert self._lengths is not None
        lengths = self._lengths
        indices = [self._shuffled(p) for p in positions if p < self._num_samples]
        indices.sort(key=lambda index: lengths[index])
        batches = [indices[i : i + self._batch] for i in range(0, len(indices), self._batch)]
        order = np.random.default_rng((self._seed, window, 1)).permutation(len(batches))
        return [index for i in order for index in batches[i]]


@lru_cache(maxsize=65_536)  # each turn stands before every later reply of its dialogue
def _words(text: str) -> set[str]:
    return set(split_words(text))
