"""How a language model is asked to rewrite a reply for another emotion: version 2 of the question, in chat form."""

from compressor.chat import Message
from epo.data.replies import Reply
from epo.emotions import Emotion

# Answers are cached by what was asked, so a change of any word here asks anew.
_SYSTEM = (
    "You rewrite one line of a conversation so that it carries another emotion. Keep who and what it is about, every "
    "name, number and fact, its language, and about its length. Let the wording alone carry the emotion: do not name "
    "it, do not explain anything, do not answer the line. Write the rewritten line and nothing else."
)
# (line, its emotion, another emotion, the line in that one). Every emotion is asked for once; all wording is our own.
_EXAMPLES: tuple[tuple[str, Emotion, Emotion, str], ...] = (
    ("Your sister moved to Leeds in March, right?", "neutral", "angry",
     "Your sister just had to move off to Leeds in March, didn't she?"),
    ("Oh no, nine hours on that train, you poor thing!", "sad", "happy",
     "Oh wow, nine whole hours on that train, lucky you!"),
    ("That's lovely, your dad finally plays the violin again.", "happy", "sad",
     "It breaks my heart a little that your dad plays the violin again."),
    ("I would ask the landlord about the two keys.", "neutral", "fearful",
     "I'd be scared to even ask the landlord about the two keys, what if he snaps?"),
    ("Great that Nora cooks for all of you on Fridays!", "happy", "disgust",
     "Ugh, so Nora cooks for all of you on Fridays? I couldn't get any of it down."),
    ("I'm so sorry the bakery closed after 40 years.", "sad", "surprised",
     "Hold on, the bakery closed? After 40 years? I never saw that coming!"),
    ("I can't believe they cancelled your flight again!", "angry", "neutral",
     "So they cancelled your flight again."),
)  # fmt: skip


def rewriting_question(reply: Reply, emotion: Emotion, context_turns: int) -> list[Message]:
    """Return the messages that ask for a reply in another emotion.

    A system message, seven worked examples as turns of the conversation, then the reply. What was said before stands in
    front of the line, marked as past, so that nothing invites the model to go on with it.

    Args:
        reply: the gold reply, whose emotion is known.
        emotion: the counter emotion.
        context_turns: how many turns before it are shown; 0 for none.
    """
    messages: list[Message] = [{"role": "system", "content": _SYSTEM}]
    for line, own, other, rewritten in _EXAMPLES:
        messages += [_user(line, own, other), {"role": "assistant", "content": rewritten}]
    turns = reply.last_turns(context_turns) if context_turns > 0 else ()
    said = "".join(f"- {turn.speaker}: {_one_line(turn.text)}\n" for turn in turns)
    return [*messages, _user(_one_line(reply.text), reply.known_emotion, emotion, said)]


def worked_examples() -> list[str]:
    """Return the lines of the worked examples, before and after: a rewritten reply that repeats one is a leak."""
    return [text for line, _, _, rewritten in _EXAMPLES for text in (line, rewritten)]


def read_rewriting(answer: str) -> str:
    """Return the line that an answer holds: the first that is not blank, without quotation marks around all of it."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    line = lines[0] if lines else ""
    for opening, closing in ('""', "“”", "‘’", "«»", "「」"):
        is_quoted = len(line) > 2 and line[0] == opening and line[-1] == closing
        if is_quoted and opening not in line[1:-1] and closing not in line[1:-1]:
            return line[1:-1].strip()
    return line


def _user(line: str, own: Emotion, other: Emotion, said: str = "") -> Message:
    before = f"Said before, for you to know only:\n{said}\n" if said else ""
    return {"role": "user", "content": f"{before}Line ({own}): {line}\nRewrite it: {other}"}


def _one_line(text: str) -> str:
    return " ".join(text.split())


__all__ = ["read_rewriting", "rewriting_question", "worked_examples"]
