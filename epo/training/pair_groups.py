"""Reward accuracy and margin by kind of pair and by the two emotions, exact over batches and ranks."""

import torch
from torch import Tensor

from compressor.text import IGNORE
from epo.emotions import EMOTIONS
from epo.preferences.pair import PreferencePair
from epo.preferences.pair_kinds import KINDS
from epo.training.objective import PairScores
from epo.training.pair_facts import PairFacts

GROUPS = (
    *(f"kind/{kind}" for kind in KINDS),
    *(f"{chosen}-{rejected}" for chosen in EMOTIONS for rejected in EMOTIONS),
)
"""Groups by name: kinds, and the emotions of (chosen, rejected): `sad-happy`."""


def groups_of(pair: PreferencePair) -> list[str]:
    """Return the groups that a pair belongs to: its kind, and its two emotions where they are known."""
    emotions = (pair.chosen_emotion, pair.rejected_emotion)
    return [f"kind/{pair.known_kind}", *([f"{emotions[0]}-{emotions[1]}"] if None not in emotions else [])]


def group_sums(scores: PairScores, facts: PairFacts | None, beta: float) -> Tensor:
    """Return counts, sums of wins and of margins of each group, float32 (3, G), G of `GROUPS`; 0 without facts.

    Args:
        scores: of a batch.
        facts: of its pairs.
        beta: of the rewards.
    """
    chosen, rejected = scores.rewards(beta)
    if facts is None:
        return torch.zeros(3, len(GROUPS), device=chosen.device)
    numbers_B3 = torch.stack([torch.ones_like(chosen), (chosen > rejected).float(), chosen - rejected], dim=1)
    members_BG = torch.zeros(len(chosen), len(GROUPS), device=chosen.device)
    rows = torch.arange(len(chosen), device=chosen.device)
    members_BG[rows, facts.kinds] = 1.0
    known = (facts.chosen_emotions != IGNORE) & (facts.rejected_emotions != IGNORE)
    places = len(KINDS) + facts.chosen_emotions * len(EMOTIONS) + facts.rejected_emotions
    members_BG[rows[known], places[known]] = 1.0
    return numbers_B3.detach().float().T @ members_BG


class GroupNumbers:
    """Adds up `group_sums` since the last log."""

    def __init__(self) -> None:
        self._sums = torch.zeros(3, len(GROUPS), dtype=torch.float64)

    def add(self, sums: Tensor) -> None:
        """Add the sums of a batch over all ranks, (3, G)."""
        self._sums += sums.double().cpu()

    def pop(self) -> dict[str, float]:
        """Return `rewards/accuracies/GROUP` and `rewards/margins/GROUP` of the groups that occurred, and start anew."""
        counts, wins, margins = self._sums.tolist()
        self._sums.zero_()
        found: dict[str, float] = {}
        for name, count, won, margin in zip(GROUPS, counts, wins, margins, strict=True):
            if count > 0:
                found |= {f"rewards/accuracies/{name}": won / count, f"rewards/margins/{name}": margin / count}
        return found


__all__ = ["GROUPS", "GroupNumbers", "group_sums", "groups_of"]
