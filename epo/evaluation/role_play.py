"""Role play: roll-outs in which a chat model plays the user, so that later turns answer what the model said."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from epo.asking.kept_chat import KeptChat
from epo.asking.questions import Question
from epo.data.dialogue import DataError, Dialogue, Turn
from epo.evaluation.conversation import Conversations
from epo.evaluation.role_cards import RoleCard

_SILENCE = "\u2026"


@dataclass(frozen=True)
class PlayedTalk:
    """One talk.

    Attributes:
        card: who was played.
        turns: what was said, the user first, every user turn answered; the user's carry no clip and no label.
        fault: why it ended early; empty where it did not.
    """

    card: RoleCard
    turns: tuple[Turn, ...]
    fault: str = ""

    def dialogue(self) -> Dialogue:
        """Return it in the interchange format, the card as its background and persona.

        A dialogue has no empty turn: a silent reply stands in it as an ellipsis, which is degenerate.
        """
        turns = tuple(turn if _has_words(turn.text) else replace(turn, text=_SILENCE) for turn in self.turns)
        background = f"{self.card.situation} The user feels {self.card.emotion}."
        return Dialogue(self.card.id, turns, background=background, personas={"user": (f"I am {self.card.who}.",)})


def play_talks(
    start: Callable[[int], Conversations], cards: Sequence[RoleCard], user: KeptChat, num_turns: int, batch_size: int
) -> Iterator[PlayedTalk]:
    """Yield talks, some at a time.

    What the played user said is kept as it comes, and greedy replies are the same again: a run that was stopped within
    some talks says them again without asking anew.

    Args:
        start: begins so many talks with the model that is tested, whose replies should be greedy.
        cards: who is played.
        user: plays them.
        num_turns: of the user in each talk; a fixed number is our choice, after ESC-Eval (arXiv 2406.14952).
        batch_size: talks at a time.

    Raises:
        EndpointError: the one who plays fails; talks that were yielded are whole.
    """
    for first in range(0, len(cards), batch_size):
        part = cards[first : first + batch_size]
        talks = start(len(part))
        faults: dict[int, str] = {}
        for number in range(num_turns):
            going = [talk for talk in range(len(part)) if talk not in faults]
            questions = {talk: Question(part[talk].question(talks.turns[talk]), 0) for talk in going}
            user.ask(list(questions.values()), "turns", is_shown=False)
            said = {talk: user.answer(question) for talk, question in questions.items()}
            asked = {talk: Turn("user", " ".join(text.split())) for talk, text in said.items() if text is not None}
            faults |= {talk: f"turn {2 * number}: the user said nothing" for talk in going if talk not in asked}
            faults |= {talk: f"turn {2 * number}: {why}" for talk, why in _answer(talks, asked).items()}
        for talk, card in enumerate(part):
            yield PlayedTalk(card, tuple(talks.turns[talk]), faults.get(talk, ""))


def _has_words(text: str) -> bool:
    return any(character.isprintable() and not character.isspace() for character in text)


def _answer(talks: Conversations, asked: Mapping[int, Turn]) -> dict[int, str]:
    """Answer turns, and return why by talk where one cannot be: each by itself then, so that the others go on."""
    if not asked:
        return {}
    try:
        talks.answer(asked)
    except DataError as error:
        if len(asked) == 1:
            return dict.fromkeys(asked, str(error))
        return {key: why for talk, turn in asked.items() for key, why in _answer(talks, {talk: turn}).items()}
    return {}


__all__ = ["PlayedTalk", "play_talks"]
