"""Which replies count: the one rule by which every stage takes replies from a dialogue."""

from typing import Literal

from epo.data.dialogue import Dialogue

ReplyChoice = Literal["last", "all"]


def replies_of(dialogue: Dialogue, choice: ReplyChoice = "all") -> list[int]:
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
