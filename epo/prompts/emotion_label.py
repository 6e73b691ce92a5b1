"""The emotion label before words, `(sad) I am sorry.`: the one place where it is written, and its inverse."""

from epo.emotions import Emotion


def label(emotion: str | None) -> str:
    """Return the label that words of an emotion begin with, blank included; nothing where it is unknown."""
    return "" if emotion is None else f"({emotion}) "


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


__all__ = ["label", "reply_text", "split_reply"]
