"""What the built-in corpus is made of: sizes, speakers, noise and the seed that fixes every byte."""

from dataclasses import dataclass, field
from typing import Literal

from epo.data.dialogue import DataError, Split


@dataclass(frozen=True)
class BuiltinCorpus:
    """Sizes of the built-in corpus; the defaults are the quickstart's.

    `generic_share` is the chance that a *training* reply is written in the wrong emotion; validation and test
    replies are always right. Only the first `num_train_with_clips` training dialogues have clips: the others
    are text for the language model. Of `clips_per_dialogue`, one shows the current turn, the rest earlier ones.
    """

    seed: int = 0
    num_train: int = field(default=4000, metadata={"help": "training dialogues"})
    num_train_with_clips: int = field(default=1000, metadata={"help": "of them with clips; the others are text"})
    num_validation: int = field(default=100, metadata={"help": "validation dialogues, all with clips"})
    num_test: int = field(default=200, metadata={"help": "test dialogues, all with clips"})
    num_train_speakers: int = field(default=24, metadata={"help": "none of them is in another split"})
    num_validation_speakers: int = field(default=6, metadata={"help": "likewise"})
    num_test_speakers: int = field(default=10, metadata={"help": "likewise"})
    generic_share: float = field(default=0.7, metadata={"help": "chance that a training reply has the wrong emotion"})
    clips_per_dialogue: int = field(default=2, metadata={"help": "one of the current turn, the rest of earlier ones"})
    voice: Literal["vowels", "espeak"] = field(
        default="vowels", metadata={"help": "meaningless syllables, or the turn's words said by the program espeak-ng"}
    )

    def __post_init__(self) -> None:
        """Refuse sizes no corpus can have.

        Raises:
            DataError: a count is negative, a share is not one, or there are more clips than turns to carry them.
        """
        _require(self.voice in ("vowels", "espeak"), f"voice is {self.voice!r:.40}, want vowels or espeak")
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
