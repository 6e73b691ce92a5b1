"""Face question: what a vision model is asked about a clip's frames, and which of its answers are descriptions.

The words are our own, and so is the choice of what is refused: an answer in the first person or with an apology is a
refusal; one half of whose runs of three words stand in the question repeats it.
"""

import re
from collections.abc import Sequence

from compressor.chat import Message
from epo.data.describers.describer import Left
from epo.data.describers.emotion_names import emotion_names_in
from epo.data.script_check import is_other_script

VERSION = "face-1"
"""Of the question; another wording is another version, for each description says by which it was made."""

_LANGUAGE = "en"
_QUESTION = (
    "The pictures show one person in a short video, in order, at {times} seconds.\n"
    "Write one to three plain English sentences about how the face moves from the first picture to the last: which "
    "parts of it move (brows, lids, eyes, nose, cheeks, lips, jaw, head), which way, how strongly, when that begins, "
    "and whether it stays or fades.\n"
    "Tell only what can be seen to move. Use no word for an emotion, a mood or a thought, and do not guess one. Leave "
    "out clothes, background and looks.\n"
    "If no picture shows a face, answer only: NO FACE"
)
_RUN, _REPEATED_FROM = 3, 0.5

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
_MARKS = re.compile(r"[*_#`]+")
_QUOTES = "\"'“”„«»"
_NO_FACE = re.compile(
    r"^no faces?\W*$|\bno (?:\w+ )?faces? "
    r"(?:is|are|was|can|could|visible|seen|shown|found|detected|present|appears?|in)\b",
    re.IGNORECASE,
)
_REFUSALS = re.compile(
    r"\b(?:i(?!\.e)|we can(?:not|'t)|sorry|apologi[sz]e|as an ai|language model|"
    r"unable to (?:assist|help|describe|see|view))\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?…][\"'”»)]*(?=\s|$)")


def face_question(times_s: Sequence[float]) -> list[Message]:
    """Return the messages that ask about frames.

    Args:
        times_s: when they are shown, in seconds from the clip's beginning.
    """
    return [{"role": "user", "content": _QUESTION.format(times=", ".join(f"{time_s:.2f}" for time_s in times_s))}]


def read_description(answer: str, question: Sequence[Message], place: str) -> str | Left:
    """Return the description that an answer holds.

    A thought before it, quotation marks around it and marks of emphasis are taken off; what follows its last full
    sentence, where the answer was cut off, too.

    Args:
        answer: of the model.
        question: that it answers.
        place: of the clip, in words.

    Returns:
        Its sentences on one line, or why there are none: nothing said, no face, another script, a refusal, the question
        repeated, an emotion named, cut off.
    """
    said = _MARKS.sub("", " ".join(_THOUGHT.sub("", answer).split())).strip(f"{_QUOTES} ")
    shown = f"{place}: {said[:80]!r}"
    if not re.search(r"\w", said):
        return Left("empty answer", f"{place}: {answer.strip()[:80]!r}")
    if _NO_FACE.search(said):
        return Left("clip without a face", f"{place}: says the model")
    if is_other_script(said, _LANGUAGE) is not False:
        return Left("answer in another script", shown)
    if _REFUSALS.search(said.replace("’", "'")):
        return Left("refusal", shown)
    if _repeated_share(said, question[-1]["content"]) >= _REPEATED_FROM:
        return Left("answer that repeats the question", shown)
    named = emotion_names_in(said)
    if named:
        return Left("sentence that names an emotion", f"{place}: {named[0]!r} in {said[:80]!r}")
    ends = [end.end() for end in _SENTENCE_END.finditer(said)]
    return said[: ends[-1]] if ends else Left("answer without a whole sentence", f"{shown}; raise llm_max_tokens")


def _repeated_share(said: str, question: str) -> float:
    """Return the share of an answer's runs of three words that stand in the question; of a shorter one, of itself."""
    words, asked = (re.findall(r"\w+", text.lower()) for text in (said, question))
    size = min(_RUN, len(words))
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    known = {tuple(asked[i : i + size]) for i in range(len(asked) - size + 1)}
    return sum(run in known for run in runs) / len(runs)


__all__ = ["VERSION", "face_question", "read_description"]
