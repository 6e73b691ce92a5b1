"""Splits: which dialogue belongs to train, validation or test, decided by its id alone."""

import hashlib
from dataclasses import dataclass, replace

from epo.data.dialogue import Dialogue, Split


class SplitError(ValueError):
    """Shares that are no shares."""


@dataclass(frozen=True)
class SplitShares:
    """What part of the dialogues is held out; the rest trains. Shares are in [0, 1]."""

    validation: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.validation, self.test) < 0 or self.validation + self.test >= 1:
            raise SplitError(
                f"validation_share {self.validation} and test_share {self.test}: want two numbers >= 0 "
                "that leave something to train on"
            )


def split_of(dialogue_id: str, shares: SplitShares) -> Split:
    """Return the split of a dialogue: a function of its id and the seed, so an id can never cross.

    Independent of the order and number of the other dialogues: a corpus that grows keeps the splits it had.
    The shares therefore hold in expectation, not to the dialogue.
    """
    digest = hashlib.sha256(f"{shares.seed}:{dialogue_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    if place < shares.test:
        return "test"
    return "validation" if place < shares.test + shares.validation else "train"


def with_split(dialogue: Dialogue, shares: SplitShares) -> Dialogue:
    """Return the dialogue with a split: its own where the corpus gives one, else that of `split_of`."""
    if dialogue.split is not None:
        return dialogue
    return replace(dialogue, split=split_of(dialogue.id, shares))


__all__ = ["SplitError", "SplitShares", "split_of", "with_split"]
