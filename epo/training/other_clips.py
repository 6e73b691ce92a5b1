"""The prompts of pairs with the clip of another dialogue in the place of their own, for the conditional term."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from epo.data.dialogue import Clip, DataError
from epo.model.clip_reader import ClipFeatures
from epo.preferences.pair import PreferencePair
from epo.training.collate import PromptBuilder, pad_rows

Swap = Literal["both", "audio", "video"]

_TRIES = 16
_Halves = tuple[bool, bool]


class ClipDraw:
    """Draws, for each pair, one of another dialogue whose user feels otherwise: by the pair and a seed alone.

    So a training position sees the same clip in whatever micro-batch, rank or resumed run it is read. Where there
    is one, a clip with the same halves as the own one is drawn, so that how many there are tells nothing. (Our choice.)
    """

    def __init__(self, pairs: Sequence[PreferencePair], swap: Swap = "both") -> None:
        """Sort the clips of pairs.

        Args:
            pairs: all of them; rows name them by index.
            swap: the half that is another's; of "both" the whole clip.
        """
        self._pairs, self.swap = pairs, swap
        self._groups: dict[tuple[str | None, _Halves], list[int]] = defaultdict(list)
        for index, pair in enumerate(pairs):
            if self._can_give(_halves(pair.reply.current.clip)):
                self._groups[pair.reply.current.emotion, _halves(pair.reply.current.clip)].append(index)
        self._candidates: dict[tuple[str | None, _Halves], np.ndarray] = {}

    def __call__(self, index: int, seed: int) -> int | None:
        """Return the pair whose clip a pair gets, None where it has nothing to swap or nobody has another to give.

        Args:
            index: of the pair.
            seed: of the training position.
        """
        own = self._pairs[index].reply
        if not self._can_give(_halves(own.current.clip)):
            return None
        found = self._allowed(own.current.emotion, _halves(own.current.clip))
        if len(found) == 0:
            return None
        rng = np.random.default_rng((seed, index, 2))
        for start in rng.integers(len(found), size=_TRIES).tolist():
            if self._is_another(index, int(found[start])):
                return int(found[start])
        rest = [i for i in np.roll(found, -start).tolist() if self._is_another(index, i)]  # few dialogues, many pairs
        return rest[0] if rest else None

    def num_without(self) -> int:
        """Count the pairs for which there is no other clip."""
        return sum(self(index, 0) is None for index in range(len(self._pairs)))

    def _can_give(self, halves: _Halves) -> bool:
        return any(halves) if self.swap == "both" else halves[("audio", "video").index(self.swap)]

    def _allowed(self, emotion: str | None, halves: _Halves) -> np.ndarray:
        """Return the pairs whose clips may stand in for one of this emotion, those with the same halves if any."""
        key = (emotion, halves)
        if key not in self._candidates:
            groups = {k: v for k, v in self._groups.items() if k[0] != emotion or emotion is None}
            alike = [i for (_, other), members in groups.items() if other == halves for i in members]
            found = alike if alike else [i for members in groups.values() for i in members]
            self._candidates[key] = np.array(sorted(found), dtype=np.int64)
        return self._candidates[key]

    def _is_another(self, index: int, other: int) -> bool:
        own, given = self._pairs[index].reply, self._pairs[other].reply
        return own.dialogue_id != given.dialogue_id and own.current.clip != given.current.clip


def other_prompts(
    pairs: Sequence[PreferencePair], build: PromptBuilder, draw: ClipDraw, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return B prompts with other clips and the chosen replies.

    A pair without another clip, or with one that does not fit beside its words, gets its own prompt, so that all ranks
    run the same layers whatever is missing.

    Args:
        pairs: all of them.
        build: makes the prompts.
        draw: of the clips of these pairs.
        rows: `{"index": i, "seed": s}`.

    Returns:
        `input_ids`, `attention_mask`, `completion_mask` (B, T), the tensors behind the placeholders, and `has_other`
        bool (B,).
    """
    own = [pairs[row["index"]] for row in rows]
    drawn = [draw(row["index"], row.get("seed", 0)) for row in rows]
    others = [
        None if other is None else _swapped(pair, pairs[other], build, draw.swap)
        for pair, other in zip(own, drawn, strict=True)
    ]
    prompts = [build(pair.reply) if other is None else other for pair, other in zip(own, others, strict=True)]
    chosen = [build.processor.encode_reply(pair.chosen, pair.chosen_emotion) for pair in own]
    batch = pad_rows([prompt.input_ids for prompt in prompts], chosen) | build.processor.batch_context(prompts)
    return batch | {"has_other": torch.tensor([other is not None for other in others])}


def _swapped(pair: PreferencePair, other: PreferencePair, build: PromptBuilder, swap: Swap) -> Any:
    """Return the prompt of a pair with the clip of another one, None where that is too long for it."""
    clip = build.read(other.reply)
    if swap != "both":
        own = build.read(pair.reply)
        clip = ClipFeatures(clip.audio, own.video) if swap == "audio" else ClipFeatures(own.audio, clip.video)
    try:
        return build.with_clip(pair.reply, clip)
    except DataError:
        return None


def _halves(clip: Clip | None) -> _Halves:
    return (False, False) if clip is None else (clip.audio is not None, clip.video is not None)


__all__ = ["ClipDraw", "Swap", "other_prompts"]
