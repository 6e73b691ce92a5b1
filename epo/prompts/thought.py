"""Thought: what a model writes of the user before its reply, `[sad]` or a sentence, and its inverse.

It stands in brackets on a line of its own, `[sad]` then `(calm) I am sorry.`, after the tag and language forms of
OSUM-EChat; the brackets, the sentences and that a turn without a clip has no thought are our choice.
"""

from collections.abc import Sequence
from typing import Literal

from epo.data.dialogue import Turn
from epo.data.findings import DataError
from epo.data.replies import Reply
from epo.emotions import Emotion

Think = Literal["none", "label", "words"]
"""Form of the thought: none; the user's emotion; how the user sounds and looks, in a sentence."""

THOUGHT_TOKENS = {"label": 12, "words": 128}
"""Most tokens of a generated thought, by its form; a longer one is cut off and closed."""

_VOICE: dict[Emotion, str] = {
    "angry": "The voice is loud, hard and fast.",
    "disgust": "The voice is low and drawn out.",
    "fearful": "The voice is high, thin and unsteady.",
    "happy": "The voice is bright, lively and quick.",
    "neutral": "The voice is even.",
    "sad": "The voice is low, soft and slow.",
    "surprised": "The voice leaps up high.",
}
_FACE: dict[Emotion, str] = {
    "angry": "The brows are drawn down and the lips are tight.",
    "disgust": "The nose is wrinkled and the upper lip is raised.",
    "fearful": "The brows are up and together and the eyes are wide.",
    "happy": "The corners of the mouth are up and the cheeks are raised.",
    "neutral": "The face is at rest.",
    "sad": "The corners of the mouth hang and the inner brows are up.",
    "surprised": "The brows are high and the mouth is open.",
}


class ThoughtError(DataError):
    """Thoughts that the data cannot give, or that do not go with something else; says what to do."""


def thought_of(turn: Turn, form: Think) -> str | None:
    """Return what there is to think of a user's turn.

    Args:
        turn: whose clip is heard and seen; of one without a clip there is nothing to think.
        form: of the thought.

    Returns:
        The emotion's name; or the turn's description, else fixed sentences on those of voice and face that the clip
        has, by the emotion; None where there is nothing to say. Brackets inside become parentheses.
    """
    if form == "none" or turn.clip is None:
        return None
    if form == "label":
        return turn.emotion
    if turn.description is not None:
        return " ".join(turn.description.replace("[", "(").replace("]", ")").split())
    if turn.emotion is None:
        return None
    halves = ((turn.clip.audio, _VOICE), (turn.clip.video, _FACE))
    return " ".join(phrases[turn.emotion] for half, phrases in halves if half is not None)


def thought_text(thought: str | None) -> str:
    """Write a thought as it stands before a reply; nothing for none."""
    return "" if thought is None else f"[{thought}]\n"


def split_thought(written: str) -> tuple[str | None, str]:
    """Part what a model wrote into its thought, None where it has none, and its reply: the inverse of `thought_text`.

    A thought that is not closed is one to the end, and there is no reply.
    """
    text = written.lstrip()
    if not text.startswith("["):
        return None, written
    thought, _, reply = text[1:].partition("]")
    return thought.strip(), reply.lstrip()


def require_thoughts(replies: Sequence[Reply], form: Think, place: str) -> None:
    """Refuse replies to learn of which a model could not learn to think.

    Args:
        replies: to learn.
        form: of the thought.
        place: where they are from, for the message.

    Raises:
        ThoughtError: no turn that is answered has a clip, or one of them has neither label nor (for words) description.
    """
    if form == "none":
        return
    heard = [reply for reply in replies if reply.current.clip is not None]
    if not heard:
        raise ThoughtError(f"{place}: think: {form}, but no user turn that is answered has a clip; set think: none")
    unknown = [reply for reply in heard if thought_of(reply.current, form) is None]
    if unknown:
        lacks = "no emotion" if form == "label" else "neither a description nor an emotion"
        remedy = "label them (launch/data.py label)" + ("" if form == "label" else " or give descriptions")
        raise ThoughtError(
            f"{place}: think: {form}, but {len(unknown)} of {len(heard)} user turns with clips have {lacks}, the first "
            f"dialogue {unknown[0].dialogue_id!r}, turn {unknown[0].turn - 1}: {remedy}, or set think: none"
        )


__all__ = [
    "THOUGHT_TOKENS",
    "Think",
    "ThoughtError",
    "require_thoughts",
    "split_thought",
    "thought_of",
    "thought_text",
]
