"""Gold: the replies of a corpus that a preference pair can be built on, each the chosen one as it stands."""

from collections.abc import Collection, Iterable, Mapping

from epo.data.dialogue import SPLITS, DataError, Dialogue, Split
from epo.data.proportional_draw import draw_by_dialogue, share_out_most
from epo.data.replies import Reply, ReplyChoice, replies_of
from epo.emotions import Emotion, fitting_emotion


def forbidden_emotions(reply: Reply) -> frozenset[Emotion]:
    """Return what may not be rejected in a reply's place: its own emotion, and the one that fits the user's."""
    own = reply.known_emotion
    user = reply.current.emotion
    return frozenset({own} if user is None else {own, fitting_emotion(user)})


def collect_gold(dialogues: Iterable[Dialogue], split: Split, replies: ReplyChoice, require_clip: bool) -> list[Reply]:
    """Return the replies of one split that pairs can be built on, in corpus order.

    Args:
        dialogues: any dialogues; those of other splits are passed over.
        split: train, validation or test.
        replies: only the last reply of each dialogue, or all of them; one without an emotion is passed over.
        require_clip: pass over replies to user turns that can be neither heard nor seen.
    """
    ours = (dialogue for dialogue in dialogues if dialogue.split == split)
    return [reply for reply in replies_of(ours, replies, require_clip) if reply.emotion is not None]


def gold_of_splits(
    dialogues: Collection[Dialogue], splits: Collection[str], replies: ReplyChoice, require_clip: bool, path: str
) -> dict[Split, list[Reply]]:
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


def draw_gold(gold_of: Mapping[Split, list[Reply]], max_replies: int | None, seed: int) -> dict[Split, list[Reply]]:
    """Return at most so many replies of all splits together, a part of each in proportion, drawn by dialogue id.

    Args:
        gold_of: the replies of each split.
        max_replies: of all together; None keeps all.
        seed: another one gives another draw.
    """
    if max_replies is None:
        return dict(gold_of)
    counts = share_out_most({split: len(gold) for split, gold in gold_of.items()}, max_replies)
    return {
        split: draw_by_dialogue(gold, lambda reply: reply.dialogue_id, counts[split], seed)
        for split, gold in gold_of.items()
    }
