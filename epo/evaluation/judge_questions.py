"""Judge questions: what a language model is asked about replies, and what can be read from its answers."""

import re
from collections.abc import Sequence

from compressor.chat import Message
from epo.data.dialogue import Turn
from epo.evaluation.rating_sheets import QUALITIES

_ROLE = (
    "You judge replies in a talk between a person, called user, and a companion, called assistant. You answer in the "
    "form that is asked for, and with nothing else."
)
_MEANINGS = {
    "empathy": "understands what the person feels, and shows it",
    "relevance": "answers what was said",
    "fluency": "is correct and natural language",
    "emotional_fit": "has the tone that suits what the person feels",
}
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKS = " \t*_`\"'[](){}.,;!#"
_VERDICTS = {"a": "A", "b": "B", "tie": "tie", "reply a": "A", "reply b": "B"}
_VERDICT = re.compile(r"verdict[ *_`]*:(.*?)(?=verdict[ *_`]*:|\n|\Z)")
_RATING = re.compile(r"([1-5])(?:\s*/\s*5)?")


def pair_question(turns: Sequence[Turn], first: str, second: str) -> list[Message]:
    """Ask which of two replies is better.

    Args:
        turns: what was said before them; an emotion that is known of a user's turn is told, for clips are not.
        first: called A.
        second: called B.
    """
    return _question(
        f"{_talk(turns)}\n\nReply A: {_one_line(first)}\nReply B: {_one_line(second)}\n\n"
        "Which reply understands what the person feels and answers it better? Neither its length nor its place "
        "matters.\nAnswer with one line: Verdict: A, or Verdict: B, or Verdict: tie."
    )


def rating_question(turns: Sequence[Turn], reply: str) -> list[Message]:
    """Ask for ratings of one reply from 1 to 5; `turns` as of `pair_question`."""
    meanings = "\n".join(f"{_words(quality)}: the reply {_MEANINGS[quality]}" for quality in QUALITIES)
    form = ", ".join(f"{_words(quality)}: N" for quality in QUALITIES)
    return _question(
        f"{_talk(turns)}\n\nReply: {_one_line(reply)}\n\nRate the reply from 1 (bad) to 5 (good):\n{meanings}\n"
        f"Answer with four lines, N being a whole number from 1 to 5: {form}."
    )


def read_verdict(answer: str) -> str | None:
    """Return A, B or tie; None where an answer gives none, or two that differ.

    A verdict is the whole answer, or all of what follows `verdict:` on its line. A letter that stands
    somewhere in a sentence is none.
    """
    said = _THOUGHT.sub("", answer).strip().lower()
    found = {_VERDICTS.get(part.strip(_MARKS)) for part in _VERDICT.findall(said) or [said]}
    return found.pop() if len(found) == 1 else None


def read_quality_ratings(answer: str) -> dict[str, int]:
    """Return the ratings that an answer gives, by quality; one that it lacks, or that is no 1 to 5, is left out.

    A rating stands behind its quality and a colon (`empathy: 4`, `"empathy": 4`, `Empathy: 4/5`). A digit that stands
    somewhere in a sentence is none, and neither are two that differ.
    """
    said = _THOUGHT.sub("", answer)
    ratings: dict[str, int] = {}
    for quality in QUALITIES:
        name = quality.replace("_", "[ _-]")
        cells = re.findall(rf"\b{name}\b[\"'*_` ]*[:=]([^,\n}}]*)", said, re.IGNORECASE)
        found = {match and int(match[1]) for match in (_RATING.fullmatch(cell.strip(_MARKS)) for cell in cells)}
        rating = found.pop() if len(found) == 1 else None
        if rating is not None:
            ratings[quality] = rating
    return ratings


def _question(asked: str) -> list[Message]:
    return [{"role": "system", "content": _ROLE}, {"role": "user", "content": asked}]


def _talk(turns: Sequence[Turn]) -> str:
    lines = []
    for turn in turns:
        emotion = f" ({turn.emotion})" if turn.speaker == "user" and turn.emotion is not None else ""
        lines.append(f"{turn.speaker}{emotion}: {_one_line(turn.text)}")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _words(quality: str) -> str:
    return quality.replace("_", " ")


__all__ = ["pair_question", "rating_question", "read_quality_ratings", "read_verdict"]
