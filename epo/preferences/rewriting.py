"""How a language model is asked to rewrite a reply for another emotion: version 3 of the question, in chat form."""

from compressor.chat import Message
from epo.data.replies import Reply
from epo.emotions import Emotion

# Answers are cached by what was asked, so a change of any word here asks anew.
_SYSTEM = (
    "You rewrite one line of a conversation so that it carries another emotion. Change only the words that carry the "
    "emotion and leave all others as they are: who and what it is about, who did it, every name, number and fact, what "
    "is said to be so and what is said not to be so, its language, and about its length. Do not explain anything, do "
    "not answer the line. Write the rewritten line and nothing else."
)
# (line, its emotion, another emotion, the line in that one). Every emotion is asked for once, and each line keeps most
# of its words: what a small writer is shown is what it does. All wording is our own.
_EXAMPLES: tuple[tuple[str, Emotion, Emotion, str], ...] = (
    ("Your sister moved to Leeds in March, right?", "neutral", "angry",
     "So your sister just had to move to Leeds in March, right?"),
    ("Oh no, nine hours on that train, you poor thing!", "sad", "happy",
     "Oh wow, nine hours on that train, you lucky thing!"),
    ("That's lovely, your dad finally plays the violin again.", "happy", "sad",
     "That breaks my heart a little, your dad finally plays the violin again."),
    ("I would ask the landlord about the two keys.", "neutral", "fearful",
     "I would be scared to ask the landlord about the two keys."),
    ("Great that Nora cooks for all of you on Fridays!", "happy", "disgust",
     "Ugh, gross that Nora cooks for all of you on Fridays!"),
    ("I'm so sorry the bakery closed after 40 years. Do you miss it?", "sad", "surprised",
     "Hold on, what, the bakery closed after 40 years? Do you miss it?"),
    ("How dare they cancel your flight to Oslo again!", "angry", "neutral",
     "I see, they cancel your flight to Oslo again."),
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
