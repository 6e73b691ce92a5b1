"""Mending: the texts of an imported corpus put right, so that what is written is what every stage will read."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from epo.data.characters import read_text
from epo.data.dialogue import Dialogue, Turn
from epo.data.findings import Findings

_TURN_TEXTS = ("name", "strategy", "description")


def mend_dialogues(dialogues: Iterable[Dialogue], findings: Findings) -> Iterator[Dialogue]:
    """Yield dialogues with their texts mended, each change noted; what holds no text is a fault and left out.

    Facts follow their turns. A dialogue goes only where it has no id or no turn left.
    """
    for dialogue in dialogues:
        where = f"dialogue {dialogue.id!r}"
        name = read_text(dialogue.id, "'id'", "dialogue without an id", where, findings)
        turns = [_mend_turn(turn, f"{where}: turn {index}", findings) for index, turn in enumerate(dialogue.turns)]
        kept = tuple(turn for turn in turns if turn is not None)
        if name is None or not kept:
            continue
        facts = {
            sum(turn is not None for turn in turns[:index]): _mend_texts(texts, "'facts'", where, findings)
            for index, texts in dialogue.facts.items()
            if turns[index] is not None
        }
        yield replace(
            dialogue,
            id=name,
            turns=kept,
            facts=facts,
            group=_mend_optional(dialogue.group, "'group'", where, findings),
            background=_mend_optional(dialogue.background, "'background'", where, findings),
            personas={
                key: _mend_texts(texts, "'personas'", where, findings) for key, texts in dialogue.personas.items()
            },
        )


def _mend_turn(turn: Turn, where: str, findings: Findings) -> Turn | None:
    text = read_text(turn.text, "'text'", "empty utterance", where, findings)
    if text is None:
        return None
    changes = {key: _mend_optional(getattr(turn, key), f"{key!r}", where, findings) for key in _TURN_TEXTS}
    return replace(turn, text=text, **changes)


def _mend_texts(texts: Iterable[str], what: str, where: str, findings: Findings) -> tuple[str, ...]:
    mended = (read_text(text, f"a member of {what}", f"empty {what}", where, findings) for text in texts)
    return tuple(text for text in mended if text is not None)


def _mend_optional(text: str | None, what: str, where: str, findings: Findings) -> str | None:
    return None if text is None else read_text(text, what, f"empty {what}", where, findings)


__all__ = ["mend_dialogues"]
