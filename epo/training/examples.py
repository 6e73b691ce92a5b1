"""Training examples: which replies of which dialogues are learnt, and with what before them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from epo.data.dialogue import Clip, DataError, Dialogue, Split, Turn
from epo.data.replies import ReplyChoice, replies_of
from epo.emotions import Emotion
from epo.preferences.pair import PreferencePair


@dataclass(frozen=True)
class Example:
    """One reply with the turns that lead to it.

    Attributes:
        dialogue_id: where it comes from.
        turn: index of the reply in the dialogue.
        history: turns before the current one, oldest first; none for the first reply of a dialogue.
        current: the turn to answer.
        reply: the words to say.
        reply_emotion: the emotion they are written in, None where unknown.
    """

    dialogue_id: str
    turn: int
    history: tuple[Turn, ...]
    current: Turn
    reply: str
    reply_emotion: Emotion | None


def example_of(dialogue: Dialogue, turn: int) -> Example:
    """Return the example whose reply is turn number `turn` of a dialogue."""
    reply = dialogue.turns[turn]
    return Example(dialogue.id, turn, dialogue.turns[: turn - 1], dialogue.turns[turn - 1], reply.text, reply.emotion)


def reply_examples(dialogues: Iterable[Dialogue], choice: ReplyChoice, require_clip: bool = False) -> list[Example]:
    """Collect the replies to learn or to give, as `replies_of` finds them.

    Args:
        dialogues: any number.
        choice: only the last reply of each dialogue, or all of them.
        require_clip: leave out replies to a turn without audio and video.
    """
    examples = []
    for dialogue in dialogues:
        for turn in replies_of(dialogue, choice):
            if not require_clip or dialogue.turns[turn - 1].clip is not None:
                examples.append(example_of(dialogue, turn))
    return examples


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


def examples_of_split(
    dialogues: Iterable[Dialogue], split: Split, path: str, choice: ReplyChoice, require_clip: bool = False
) -> list[Example]:
    """Collect the replies of one split, as `reply_examples` does, for a stage that cannot do without.

    Raises:
        DataError: there is not one; the message says how many dialogues were looked at, and for what.
    """
    ours = dialogues_of_split(dialogues, split, path)
    found = reply_examples(ours, choice, require_clip)
    if not found and require_clip and reply_examples(ours, choice):
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


def with_history(examples: Sequence[Example], split: Split, path: str) -> list[Example]:
    """Return the examples with at least one past turn, which is what a compressor learns from.

    Raises:
        DataError: there is not one.
    """
    found = [example for example in examples if example.history]
    if examples and not found:
        raise DataError(
            f"{path}: none of the {len(examples)} replies of split {split!r} has a turn before the one it answers, so "
            "there is no history to compress; a compressor needs dialogues of three turns and more"
        )
    return found


def labelled_replies(
    examples: Iterable[Example], split: Split, path: str, min_emotions: int
) -> list[tuple[str, Emotion]]:
    """Return the replies whose emotion is known, with it.

    Args:
        examples: of one split.
        split: theirs, for the message.
        path: the file they come from, for the message.
        min_emotions: how many different ones are needed: two to train a judge on, one to score by.

    Raises:
        DataError: there are fewer.
    """
    found = [(example.reply, example.reply_emotion) for example in examples if example.reply_emotion is not None]
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


def labelled_clips(dialogues: Iterable[Dialogue]) -> list[tuple[Clip, Emotion]]:
    """Return the clips of user turns whose emotion is known, with it."""
    return [
        (turn.clip, turn.emotion)
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.clip is not None and turn.emotion is not None and turn.speaker == "user"
    ]


@dataclass(frozen=True)
class PairExample:
    """A preference: the example whose reply is the chosen one, and the rejected reply."""

    example: Example
    rejected: str
    rejected_emotion: Emotion | None


def pair_examples(
    pairs: Iterable[PreferencePair], dialogues: Mapping[str, Dialogue], split: Split
) -> list[PairExample]:
    """Look up what leads to each pair of one split.

    A pair without an emotion on both sides, as in human rankings, is learnt without labels: a label on one side only
    would tell the sides apart. (Our choice.)

    Args:
        pairs: as read by `epo.preferences.pair.read_pairs`.
        dialogues: by id.
        split: which pairs to keep, by the split of their dialogue.
    """
    found = []
    for pair in pairs:
        dialogue = dialogues[pair.dialogue_id]
        if dialogue.split == split:
            is_labelled = pair.chosen_emotion is not None and pair.rejected_emotion is not None
            emotions = (pair.chosen_emotion, pair.rejected_emotion) if is_labelled else (None, None)
            chosen = replace(example_of(dialogue, pair.turn), reply=pair.chosen, reply_emotion=emotions[0])
            found.append(PairExample(chosen, pair.rejected, emotions[1]))
    return found


def pairs_to_learn(
    pairs: Collection[PreferencePair], dialogues: Mapping[str, Dialogue], path: str, data: str
) -> list[PairExample]:
    """Return the training pairs.

    Args:
        pairs: of all splits.
        dialogues: by id.
        path: the pairs' file, for the message.
        data: the dialogues' file, for the message.

    Raises:
        DataError: no pair belongs to a training dialogue.
    """
    found = pair_examples(pairs, dialogues, "train")
    if not found:
        raise DataError(
            f"{path}: none of its {len(pairs)} pairs belongs to a dialogue of split 'train' in {data}; let "
            "launch/preferences.py build pairs on that split"
        )
    return found
