"""The emotion label before words, `(sad) I am sorry.`: its inverse, and what a reply is as a turn."""

from compressor.utterance import label
from epo.data.dialogue import Turn
from epo.emotions import EMOTIONS, Emotion


def reply_text(text: str, emotion: Emotion | None) -> str:
    """Write a reply as the model is to say it: its emotion label, then the words (after arXiv 2412.17292)."""
    return label(emotion) + text


def split_reply(reply: str) -> tuple[str | None, str]:
    """Part a generated reply into its label, None where it has none, and its words: the inverse of `reply_text`.

    Whatever stands in parentheses at the beginning is taken for the label, known or not.
    """
    said, closed, words = reply.strip().removeprefix("(").partition(")")
    if reply.strip().startswith("(") and closed:
        return said.strip(), words.strip()
    return None, reply.strip()


def said_turn(reply: str) -> Turn:
    """Return a generated reply as a turn of the talk that goes on: its words, and its label if that is an emotion."""
    said, words = split_reply(reply)
    emotion = next((emotion for emotion in EMOTIONS if said is not None and said.lower() == emotion), None)
    return Turn("assistant", words, emotion)


__all__ = ["label", "reply_text", "said_turn", "split_reply"]
