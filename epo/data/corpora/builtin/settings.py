"""What the built-in corpus is made of: sizes, speakers, noise and the seed that fixes every byte."""

from dataclasses import dataclass

from epo.data.dialogue import DataError, Split


@dataclass(frozen=True)
class BuiltinCorpus:
    """Sizes of the built-in corpus; the defaults are the quickstart's.

    `generic_share` is the chance that a *training* reply is written in the wrong emotion; validation and test
    replies are always right. Only the first `num_train_with_clips` training dialogues have clips: the others
    are text for the language model. Of `clips_per_dialogue`, one shows the current turn, the rest earlier ones.
    """

    seed: int = 0
    num_train: int = 4000
    num_train_with_clips: int = 1000
    num_validation: int = 100
    num_test: int = 200
    num_train_speakers: int = 24
    num_validation_speakers: int = 6
    num_test_speakers: int = 10
    generic_share: float = 0.7
    clips_per_dialogue: int = 2

    def __post_init__(self) -> None:
        """Refuse sizes no corpus can have.

        Raises:
            DataError: a count is negative, a share is not one, or there are more clips than turns to carry them.
        """
        for name in ("seed", "num_train", "num_train_with_clips", "num_validation", "num_test"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, want 0 or more")
        for split in ("train", "validation", "test"):
            _require(self.num_speakers(split) >= 1, f"num_{split}_speakers must be at least 1")
        _require(
            self.num_train_with_clips <= self.num_train,
            f"num_train_with_clips {self.num_train_with_clips} exceeds num_train {self.num_train}",
        )
        _require(0 <= self.generic_share <= 1, f"generic_share is {self.generic_share}, want 0 to 1")
        _require(1 <= self.clips_per_dialogue <= 5, f"clips_per_dialogue is {self.clips_per_dialogue}, want 1 to 5")

    def num_dialogues(self, split: Split) -> int:
        """How many dialogues a split has."""
        return int(getattr(self, f"num_{split}"))

    def num_speakers(self, split: Split) -> int:
        """How many speakers a split has; no speaker is in two splits."""
        return int(getattr(self, f"num_{split}_speakers"))

    def has_clips(self, split: Split, index: int) -> bool:
        """Whether the dialogue at `index` of a split is seen and heard, not only read."""
        return split != "train" or index < self.num_train_with_clips


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise DataError(f"built-in corpus: {message}")
