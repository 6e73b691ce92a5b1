"""Reply: one thing for the assistant to say, with what leads to it; and the one rule which turns are replies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from epo.data.dialogue import Dialogue, Split, Turn
from epo.emotions import Emotion

ReplyChoice = Literal["last", "all"]


@dataclass(frozen=True)
class Reply:
    """One reply and the turns that lead to it: what is learnt, preferred, given and scored.

    Attributes:
        dialogue_id: where it comes from.
        turn: index of the reply in the dialogue.
        history: turns before the current one, oldest first; none for the first reply of a dialogue.
        current: the user's turn that it answers.
        text: the words to say.
        emotion: the emotion they are written in, None where unknown.
        language: of the dialogue.
        split: of the dialogue, None where none was assigned.
        facts: strings that a good reply contains; only the built-in corpus has them.
        labelled_by: the model that gave the emotion; None where a person did.
    """

    dialogue_id: str
    turn: int
    history: tuple[Turn, ...]
    current: Turn
    text: str
    emotion: Emotion | None
    language: str = "en"
    split: Split | None = None
    facts: tuple[str, ...] = ()
    labelled_by: str | None = None

    @property
    def known_emotion(self) -> Emotion:
        """The emotion of a reply that was chosen for having one.

        Raises:
            ValueError: it has none.
        """
        if self.emotion is None:
            raise ValueError(f"dialogue {self.dialogue_id!r}, turn {self.turn}: the reply has no emotion")
        return self.emotion

    def last_turns(self, count: int) -> tuple[Turn, ...]:
        """Return the last turns before the reply, at most `count`, oldest first; the current one is among them."""
        return (*self.history, self.current)[-count:]


def reply_at(dialogue: Dialogue, turn: int) -> Reply:
    """Return turn number `turn` of a dialogue, for which `is_reply` holds, as a reply."""
    said = dialogue.turns[turn]
    return Reply(
        dialogue.id,
        turn,
        dialogue.turns[: turn - 1],
        dialogue.turns[turn - 1],
        said.text,
        said.emotion,
        dialogue.language,
        dialogue.split,
        tuple(dialogue.facts.get(turn, ())),
        said.labelled_by,
    )


def reply_turns(dialogue: Dialogue, choice: ReplyChoice = "all") -> list[int]:
    """Return the turns of a dialogue that are replies: assistant turns that directly answer a user turn.

    The first one counts too, although nothing was said before the turn that it answers. Of two assistant turns in a
    row only the first is a reply; an assistant turn that opens a dialogue is none.

    Args:
        dialogue: any.
        choice: the last one only, or all of them.

    Returns:
        Indices into `dialogue.turns`, ascending.
    """
    turns = [turn for turn in range(1, len(dialogue.turns)) if is_reply(dialogue, turn)]
    return turns[-1:] if choice == "last" else turns


def is_reply(dialogue: Dialogue, turn: int) -> bool:
    """Tell whether `turn` is an assistant turn that follows a user turn."""
    return (
        1 <= turn < len(dialogue.turns)
        and dialogue.turns[turn].speaker == "assistant"
        and dialogue.turns[turn - 1].speaker == "user"
    )


def replies_of(dialogues: Iterable[Dialogue], choice: ReplyChoice, require_clip: bool = False) -> list[Reply]:
    """Collect the replies of dialogues, in their order.

    Args:
        dialogues: any number.
        choice: only the last reply of each dialogue, or all of them.
        require_clip: leave out replies to a turn without audio and video.
    """
    return [
        reply_at(dialogue, turn)
        for dialogue in dialogues
        for turn in reply_turns(dialogue, choice)
        if not require_clip or dialogue.turns[turn - 1].clip is not None
    ]


__all__ = ["Reply", "ReplyChoice", "is_reply", "replies_of", "reply_at", "reply_turns"]
