"""What terms and numbers need to know of each pair of a batch beside its words: kind, emotions, another clip."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from compressor.text import IGNORE
from epo.emotions import EMOTIONS, emotional_distance
from epo.preferences.pair import PreferencePair
from epo.preferences.pair_kinds import KINDS
from epo.prompts.thought import ThoughtError
from epo.training.collate import PairCollator, emotion_labels
from epo.training.other_clips import ClipDraw, other_prompts

_KEY, _OTHER = "pair_facts", "other_clips"


@dataclass(frozen=True)
class PairFacts:
    """Of a batch of B pairs, each int64 (B,).

    Attributes:
        indices: of the pairs among those of the collator.
        kinds: index of the kind in `KINDS`.
        chosen_emotions: index of the chosen reply's emotion in `EMOTIONS`, `IGNORE` where it is not known.
        rejected_emotions: of the rejected reply's.
    """

    indices: Tensor
    kinds: Tensor
    chosen_emotions: Tensor
    rejected_emotions: Tensor

    @classmethod
    def of(cls, indices: Sequence[int], all_pairs: Sequence[PreferencePair]) -> "PairFacts":
        """Return the facts of those pairs that indices point to."""
        pairs = [all_pairs[index] for index in indices]
        return cls(
            torch.tensor(indices),
            torch.tensor([KINDS.index(pair.known_kind) for pair in pairs]),
            emotion_labels([pair.chosen_emotion for pair in pairs]),
            emotion_labels([pair.rejected_emotion for pair in pairs]),
        )

    def distances(self) -> Tensor:
        """Return the distance of the two emotions in the valence-arousal plane, float32 (B,), 0 where one is unknown.

        Terms that read it are refused where a pair has none (`epo.training.term_needs`).
        """
        table_EE = torch.tensor([[emotional_distance(a, b) for b in EMOTIONS] for a in EMOTIONS])
        known = (self.chosen_emotions != IGNORE) & (self.rejected_emotions != IGNORE)
        chosen, rejected = self.chosen_emotions.clamp(min=0), self.rejected_emotions.clamp(min=0)
        return table_EE.to(chosen.device)[chosen, rejected] * known


class TrainingPairCollator(PairCollator):
    """Batches of a `PairCollator` that also tell the facts of their pairs, and hold other clips where a term asks."""

    def __init__(self, plain: PairCollator, draw: ClipDraw | None = None) -> None:
        """Collate the pairs of another collator.

        Args:
            plain: of the same pairs and prompts.
            draw: of other clips for the same pairs; None where no term asks how likely replies are under another.

        Raises:
            ThoughtError: replies are to be scored under another clip by a model that thinks, whose thought would still
                tell what the own clip shows.
        """
        super().__init__(plain.pairs, plain.build)
        if draw is not None and getattr(self.processor, "think", "none") != "none":
            raise ThoughtError(
                "conditional_weight, or a term of extra_terms, scores replies under another clip, but this model "
                "thinks first and its thought would tell the own one; leave it out, or tune the model with think: none"
            )
        self._plain, self._draw = plain, draw

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Build a batch from `{"index": i, "seed": s}` rows; `split_batch` takes it apart again."""
        batch: dict[str, Any] = self._plain(rows)
        facts = PairFacts.of([row["index"] for row in rows], self.pairs)
        batch[_KEY] = {field.name: getattr(facts, field.name) for field in fields(facts)}
        if self._draw is not None:
            batch[_OTHER] = other_prompts(self.pairs, self.build, self._draw, rows)
        return batch


def split_batch(batch: dict[str, Any]) -> tuple[dict[str, Any], PairFacts | None, dict[str, Any] | None]:
    """Return the model's inputs, the facts of the pairs and the prompts with other clips, each None where not told.

    Args:
        batch: of a `PairCollator` or a `TrainingPairCollator`.
    """
    inputs = {key: value for key, value in batch.items() if key not in (_KEY, _OTHER)}
    return inputs, PairFacts(**batch[_KEY]) if _KEY in batch else None, batch.get(_OTHER)


__all__ = ["PairFacts", "TrainingPairCollator", "split_batch"]
