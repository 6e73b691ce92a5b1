"""Training examples: which replies of which dialogues are learnt, and with what before them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from epo.data.dialogue import Clip, Dialogue, Split, Turn
from epo.emotions import Emotion
from epo.preferences.pair import PreferencePair

ReplyChoice = Literal["last", "all"]


@dataclass(frozen=True)
class Example:
    """One reply with the turns that lead to it.

    Attributes:
        dialogue_id: where it comes from.
        turn: index of the reply in the dialogue.
        history: turns before the current one, oldest first.
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
    """Collect the replies to learn: assistant turns that answer a user turn and have a history.

    Args:
        dialogues: any number.
        choice: only the last such reply of each dialogue, or all of them.
        require_clip: leave out replies to a turn without audio and video.
    """
    examples = []
    for dialogue in dialogues:
        turns = [i for i in range(2, len(dialogue.turns)) if _answers_user(dialogue, i)]
        for turn in turns[-1:] if choice == "last" else turns:
            if not require_clip or dialogue.turns[turn - 1].clip is not None:
                examples.append(example_of(dialogue, turn))
    return examples


def labelled_clips(dialogues: Iterable[Dialogue]) -> list[tuple[Clip, Emotion]]:
    """Return the clips of user turns whose emotion is known, with it."""
    return [
        (turn.clip, turn.emotion)
        for dialogue in dialogues
        for turn in dialogue.turns
        if turn.clip is not None and turn.emotion is not None and turn.speaker == "user"
    ]


def _answers_user(dialogue: Dialogue, turn: int) -> bool:
    return dialogue.turns[turn].speaker == "assistant" and dialogue.turns[turn - 1].speaker == "user"


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

    Args:
        pairs: as read by `epo.preferences.pair.read_pairs`.
        dialogues: by id.
        split: which pairs to keep, by the split of their dialogue.
    """
    found = []
    for pair in pairs:
        dialogue = dialogues[pair.dialogue_id]
        if dialogue.split == split:
            chosen = replace(example_of(dialogue, pair.turn), reply=pair.chosen, reply_emotion=pair.chosen_emotion)
            found.append(PairExample(chosen, pair.rejected, pair.rejected_emotion))
    return found
