"""What a stage takes from dialogues and cannot do without: a split's dialogues, replies, histories, labels, clips."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from epo.data.dialogue import Clip, DataError, Dialogue, Split
from epo.data.replies import Reply, ReplyChoice, replies_of
from epo.emotions import Emotion, Vad


def dialogues_of_split(dialogues: Iterable[Dialogue], split: Split, path: str) -> list[Dialogue]:
    """Return the dialogues of a split.

    Args:
        dialogues: of any split.
        split: those of other splits are passed over.
        path: the file they come from, for the message.

    Raises:
        DataError: there are none.
    """
    found = [dialogue for dialogue in dialogues if dialogue.split == split]
    if not found:
        raise DataError(
            f"{path}: no dialogue has split {split!r}; write `split` into the file, or let `python launch/data.py "
            "import` assign splits, with higher validation_share and test_share where dialogues are few"
        )
    return found


def held_out_dialogues(dialogues: Sequence[Dialogue], split: Split, path: str) -> list[Dialogue]:
    """Return the dialogues to test on: those of a split, or all of a file that knows no splits, a test by itself.

    Raises:
        DataError: other splits are there, and this one is not.
    """
    if dialogues and all(dialogue.split is None for dialogue in dialogues):
        return list(dialogues)
    return dialogues_of_split(dialogues, split, path)


def replies_of_split(
    dialogues: Iterable[Dialogue], split: Split, path: str, choice: ReplyChoice, require_clip: bool = False
) -> list[Reply]:
    """Collect the replies of one split, as `replies_of` does, for a stage that cannot do without.

    Raises:
        DataError: there is not one; the message says how many dialogues were looked at, and for what.
    """
    return _replies_of(dialogues_of_split(dialogues, split, path), split, path, choice, require_clip)


def held_out_replies(held_out: Sequence[Dialogue], split: Split, path: str, choice: ReplyChoice) -> list[Reply]:
    """Collect the replies of the dialogues that `held_out_dialogues` returned, or of some of them.

    Raises:
        DataError: there is not one.
    """
    return _replies_of(held_out, split, path, choice, False)


def _replies_of(
    ours: Sequence[Dialogue], split: Split, path: str, choice: ReplyChoice, require_clip: bool
) -> list[Reply]:
    """Collect replies, or say why there is none."""
    found = replies_of(ours, choice, require_clip)
    if not found and require_clip and replies_of(ours, choice):
        place = "whose last reply" if choice == "last" else "in which a reply"
        raise DataError(
            f"{path}: of its {len(ours)} dialogues of split {split!r} there is none {place} answers a turn with a "
            "clip, as require_clip asks; leave require_clip out, or import the corpus with its media"
        )
    if not found:
        raise DataError(
            f"{path}: none of its {len(ours)} dialogues of split {split!r} has a reply, that is an assistant turn "
            "right after a user turn; check `speaker` of the turns, or give the other party the role of the assistant"
        )
    return found


def with_history(replies: Sequence[Reply], split: Split, path: str) -> list[Reply]:
    """Return the replies with at least one past turn, which is what a compressor learns from.

    Raises:
        DataError: there is not one.
    """
    found = [reply for reply in replies if reply.history]
    if replies and not found:
        raise DataError(
            f"{path}: none of the {len(replies)} replies of split {split!r} has a turn before the one it answers, so "
            "there is no history to compress; a compressor needs dialogues of three turns and more"
        )
    return found


def labelled_replies(replies: Iterable[Reply], split: Split, path: str, min_emotions: int) -> list[tuple[str, Emotion]]:
    """Return the replies whose emotion is known, with it.

    Args:
        replies: of one split.
        split: theirs, for the message.
        path: the file they come from, for the message.
        min_emotions: how many different ones are needed: two to train a judge on, one to score by.

    Raises:
        DataError: there are fewer.
    """
    found = [(reply.text, reply.emotion) for reply in replies if reply.emotion is not None]
    emotions = sorted({emotion for _, emotion in found})
    if len(emotions) < min_emotions:
        labels = ", ".join(emotions) if emotions else "no emotion"
        raise DataError(
            f"{path}: the replies of split {split!r} are labelled with {labels}; to score emotions, "
            f"{min_emotions} or more must occur there: label the assistant turns"
        )
    return found


def clips_of_split(dialogues: Iterable[Dialogue], split: Split, path: str) -> list[tuple[Clip, Emotion]]:
    """Return the labelled clips of one split, for a stage that cannot do without.

    Raises:
        DataError: there is not one.
    """
    ours = dialogues_of_split(dialogues, split, path)
    found = labelled_clips(ours)
    if not found:
        raise DataError(
            f"{path}: none of its {len(ours)} dialogues of split {split!r} has a user turn with both a clip and an "
            "emotion, so there is nothing to learn; import the corpus with its media and labels"
        )
    return found


def labelled_strategies(dialogues: Iterable[Dialogue]) -> dict[tuple[str, int], str]:
    """Return the strategies of assistant turns, where the corpus labels them, by dialogue and turn."""
    return {
        (dialogue.id, place): turn.strategy
        for dialogue in dialogues
        for place, turn in enumerate(dialogue.turns)
        if turn.strategy is not None and turn.speaker == "assistant"
    }


@dataclass(frozen=True)
class TaughtClip:
    """A clip of a user turn, and what is known of it: an emotion, a description of its picture, the words, a rating."""

    clip: Clip
    emotion: Emotion | None = None
    description: str | None = None
    words: str | None = None
    vad: Vad | None = None


_MOST_GROUPS = 20


def by_group(dialogues: Sequence[Dialogue]) -> dict[str, list[Dialogue]]:
    """Return dialogues by their group (a speaker, a session), in the order of its name.

    Empty where they are of one group, where some are of none, or of more groups than a table of them would be read: 20,
    our choice.
    """
    names = sorted({dialogue.group for dialogue in dialogues if dialogue.group is not None})
    if not 2 <= len(names) <= _MOST_GROUPS or any(dialogue.group is None for dialogue in dialogues):
        return {}
    return {name: [dialogue for dialogue in dialogues if dialogue.group == name] for name in names}


def spoken_clips(dialogues: Iterable[Dialogue]) -> list[TaughtClip]:
    """Return the clips with sound of user turns, with the words of their turns, and their emotion where it is known."""
    return [
        TaughtClip(replace(turn.clip, video=None), turn.emotion, words=turn.text)
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.clip is not None and turn.clip.audio is not None and turn.speaker == "user"
    ]


def described_clips(dialogues: Iterable[Dialogue]) -> list[TaughtClip]:
    """Return the pictures of user turns that are described, with their emotion where it is known."""
    return [
        TaughtClip(replace(turn.clip, audio=None), turn.emotion, turn.description)
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.clip is not None
        and turn.clip.video is not None
        and turn.description is not None
        and turn.speaker == "user"
    ]


def described_clips_of_split(dialogues: Iterable[Dialogue], split: Split, path: str) -> list[TaughtClip]:
    """Return the described clips of one split, for a stage that cannot do without.

    Raises:
        DataError: there is not one.
    """
    ours = dialogues_of_split(dialogues, split, path)
    found = described_clips(ours)
    if not found:
        raise DataError(
            f"{path}: none of its {len(ours)} dialogues of split {split!r} has a user turn with a picture and a "
            "description; `python launch/data.py describe-faces` writes them into a file that `descriptions` names"
        )
    return found


def labelled_clips(dialogues: Iterable[Dialogue]) -> list[tuple[Clip, Emotion]]:
    """Return the clips of user turns whose emotion is known, with it."""
    return [
        (turn.clip, turn.emotion)
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.clip is not None and turn.emotion is not None and turn.speaker == "user"
    ]


def rated_clips(dialogues: Iterable[Dialogue]) -> list[TaughtClip]:
    """Return the clips of user turns whose valence, arousal and dominance are known, with the emotion where it is."""
    return [one for one in clips_to_recognise(dialogues) if one.vad is not None]


def clips_to_recognise(dialogues: Iterable[Dialogue]) -> list[TaughtClip]:
    """Return the clips of user turns whose emotion, or whose valence, arousal and dominance, are known, with them."""
    return [
        TaughtClip(turn.clip, turn.emotion, vad=turn.vad)
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.clip is not None and (turn.emotion, turn.vad) != (None, None) and turn.speaker == "user"
    ]


def rated_clips_of_split(dialogues: Iterable[Dialogue], split: Split, path: str) -> list[TaughtClip]:
    """Return what a stage that learns valence, arousal and dominance takes of a split: labelled and rated clips.

    Raises:
        DataError: fewer than two are rated, of which no concordance can be taken.
    """
    ours = dialogues_of_split(dialogues, split, path)
    num_rated = len(rated_clips(ours))
    if num_rated < 2:
        raise DataError(
            f"{path}: of its {len(ours)} dialogues of split {split!r}, {num_rated} user turns have both a clip and "
            "`vad`, and a concordance takes two or more; write `vad` into the turns, or leave vad_weight out"
        )
    return clips_to_recognise(ours)
