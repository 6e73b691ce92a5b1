"""Mending: the texts of an imported corpus put right, so that what is written is what every stage will read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from epo.data.characters import read_text, without_invisible
from epo.data.dialogue import Dialogue, Turn
from epo.data.findings import Findings
from epo.data.spoken_label import without_label


def mend_dialogues(dialogues: Iterable[Dialogue], findings: Findings) -> Iterator[Dialogue]:
    """Yield dialogues with their texts mended, each change noted; what holds no text is a fault and left out.

    A dialogue goes only where it has no id, that of another, or no turn left.
    """
    seen: set[str] = set()
    for dialogue in dialogues:
        where = f"dialogue {dialogue.id!r}"
        name = read_text(dialogue.id, "'id'", "dialogue without an id", where, findings)
        turns = [_mend_turn(turn, f"{where}: turn {index}", findings) for index, turn in enumerate(dialogue.turns)]
        if name is None or not any(turns):
            continue
        if without_invisible(name) in seen:
            findings.fault("dialogue comes twice", where, "give each its own id")
            continue
        seen.add(without_invisible(name))
        yield replace(
            dialogue,
            id=name,
            turns=tuple(turn for turn in turns if turn is not None),
            facts=_mend_facts(dialogue, turns, where, findings),
            group=_mend_optional(dialogue.group, "'group'", where, findings),
            background=_mend_optional(dialogue.background, "'background'", where, findings),
            personas={
                key: _mend_texts(dialogue.personas[key], "personas", where, findings) for key in dialogue.personas
            },
        )


def _mend_turn(turn: Turn, where: str, findings: Findings) -> Turn | None:
    text = read_text(turn.text, "'text'", "empty utterance", where, findings)
    if text is None:
        return None
    if turn.emotion is not None:
        text = without_label(text, "'text'", where, findings)
    return replace(
        turn,
        text=text,
        name=_mend_optional(turn.name, "'name'", where, findings),
        strategy=_mend_optional(turn.strategy, "'strategy'", where, findings),
        description=_mend_optional(turn.description, "'description'", where, findings),
    )


def _mend_facts(
    dialogue: Dialogue, turns: Sequence[Turn | None], where: str, findings: Findings
) -> dict[int, tuple[str, ...]]:
    """Return the facts by index among the turns that are left; those of other turns go with them."""
    facts = {}
    for index, texts in dialogue.facts.items():
        mended = _mend_texts(texts, "facts", where, findings)
        if turns[index] is not None and mended:
            facts[sum(turn is not None for turn in turns[:index])] = mended
    return facts


def _mend_texts(texts: Iterable[str], what: str, where: str, findings: Findings) -> tuple[str, ...]:
    mended = (read_text(text, f"a member of {what}", f"empty text in {what}", where, findings) for text in texts)
    return tuple(text for text in mended if text is not None)


def _mend_optional(text: str | None, what: str, where: str, findings: Findings) -> str | None:
    return None if text is None else read_text(text, what, f"empty {what}", where, findings)


__all__ = ["mend_dialogues"]
