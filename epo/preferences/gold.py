"""GoldReply: a reply of the corpus that a preference pair can be built on."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from epo.data.dialogue import SPLITS, DataError, Dialogue, Split
from epo.data.replies import ReplyChoice, replies_of
from epo.emotions import Emotion, fitting_emotion


@dataclass(frozen=True)
class GoldReply:
    """An assistant turn after a user turn whose emotion is known; it becomes the chosen reply as it stands."""

    dialogue: Dialogue
    turn: int

    @property
    def text(self) -> str:
        """The reply's words."""
        return self.dialogue.turns[self.turn].text

    @property
    def emotion(self) -> Emotion:
        """The emotion the reply is written in."""
        emotion = self.dialogue.turns[self.turn].emotion
        assert emotion is not None  # collect_gold admits no other
        return emotion

    @property
    def user_text(self) -> str:
        """The words of the user's current turn."""
        return self.dialogue.turns[self.turn - 1].text

    @property
    def user_emotion(self) -> Emotion | None:
        """The emotion of the user's current turn, if known."""
        return self.dialogue.turns[self.turn - 1].emotion

    @property
    def forbidden(self) -> frozenset[Emotion]:
        """Emotions that may not be rejected here: the reply's own, and the one that fits the user's."""
        if self.user_emotion is None:
            return frozenset({self.emotion})
        return frozenset({self.emotion, fitting_emotion(self.user_emotion)})


def collect_gold(
    dialogues: Iterable[Dialogue], split: Split, replies: ReplyChoice, require_clip: bool
) -> list[GoldReply]:
    """Return the replies of one split that pairs can be built on, in corpus order.

    Args:
        dialogues: any dialogues; those of other splits are passed over.
        split: train, validation or test.
        replies: only the last reply of each dialogue, or all of them; one without an emotion is passed over.
        require_clip: pass over replies to user turns that can be neither heard nor seen.
    """
    found: list[GoldReply] = []
    for dialogue in dialogues:
        if dialogue.split == split:
            turns = replies_of(dialogue, replies)
            found += [GoldReply(dialogue, turn) for turn in turns if _is_eligible(dialogue, turn, require_clip)]
    return found


def gold_of_splits(
    dialogues: Collection[Dialogue], splits: Collection[str], replies: ReplyChoice, require_clip: bool, path: str
) -> dict[Split, list[GoldReply]]:
    """Return the replies of each split that pairs can be built on.

    Args:
        dialogues: of any split.
        splits: which to look at.
        replies: as for `collect_gold`.
        require_clip: as for `collect_gold`.
        path: the file they come from, for the message.

    Raises:
        DataError: there is not one in any of them.
    """
    found = {split: collect_gold(dialogues, split, replies, require_clip) for split in SPLITS if split in splits}
    if not any(found.values()):
        num_dialogues = sum(dialogue.split in splits for dialogue in dialogues)
        raise DataError(
            f"{path}: nothing to build pairs on for splits {', '.join(splits)}, to which {num_dialogues} of its "
            f"{len(dialogues)} dialogues belong; want assistant turns with an emotion after a user turn"
            + (" with a clip, as require_clip asks" if require_clip else "")
        )
    return found


def _is_eligible(dialogue: Dialogue, turn: int, require_clip: bool) -> bool:
    has_emotion = dialogue.turns[turn].emotion is not None
    return has_emotion and (not require_clip or dialogue.turns[turn - 1].clip is not None)
