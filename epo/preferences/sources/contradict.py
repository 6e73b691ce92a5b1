"""Source `contradict`: the gold reply with a sentence of what its clip shows, against one that contradicts the clip.

Both replies are the same words in the same emotion but for the sentence, which is a description (docs/av_emodialog.md):
the clip's own in the chosen reply, another clip's in the rejected one. The sentences of a split are dealt out among the
replies of one emotion, so each is rejected just as often as it is chosen, after replies of the same emotion: without
the clip neither side can be told, not even by which face goes with which reply. All of it is our choice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from epo.data.describers.told_movements import Movement, contradict, num_opposed, told_movements
from epo.data.descriptions import DESCRIPTION
from epo.data.replies import Reply
from epo.data.side_files import Place, read_side_file
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.source import PairSource, SourceContext, SourceError

_BLOCK = 512  # replies that sentences are dealt out among: bounds time at its cube, memory at its square
_LEFT_OUT, _FORBIDDEN = 1e3, 1e9
_NOTHING_TO_TELL = "nothing is known of what its clip shows"


@dataclass(frozen=True, kw_only=True)
class ContradictSettings:
    """Keys of source `contradict`."""

    descriptions: str = field(
        default="", metadata={"help": "descriptions.jsonl with evidence: what is seen, and what is not", "role": "file"}
    )
    remark: str = field(default="I can see it: {}", metadata={"help": "how the reply tells it; {} is the description"})

    def __post_init__(self) -> None:
        """Refuse to describe nothing."""
        if self.descriptions == "":
            raise SourceError("source contradict wants descriptions: FILE; launch/data.py describe-faces writes one")
        if self.remark.count("{}") != 1:
            raise SourceError(f"remark is {self.remark!r}, want a text with {{}} once, where the description stands")


@dataclass(frozen=True)
class Told:
    """A description: its words, and the movements they tell."""

    text: str
    movements: frozenset[Movement]


class ContradictSource:
    """Deals out the descriptions of a split's clips among its replies."""

    name = "contradict"

    def __init__(self, told: Mapping[Place, Told], remark: str, seed: int) -> None:
        """Prepare.

        Args:
            told: of user turns; one that tells no movement can neither contradict nor be contradicted.
            remark: how a reply tells it, with `{}` for the description.
            seed: says which of several sentences that contradict a clip as much is taken.
        """
        self._told, self._remark, self._seed = told, remark, seed

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Return all: a rejected reply has the emotion of the chosen one, whichever that is."""
        return frozenset(EMOTIONS)

    def write_chosen(self, gold: Sequence[Reply]) -> list[Reply | str]:
        """Return each reply with its clip's description behind it; the reason where its movements are not known."""
        found = [self._told_of(reply) for reply in gold]
        return [
            replace(reply, text=self._with(reply.text, told))
            if told is not None and told.movements
            else _NOTHING_TO_TELL
            for reply, told in zip(gold, found, strict=True)
        ]

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return each reply of `write_chosen` with another clip's description, none where no free one contradicts.

        Args:
            gold: as `write_chosen` returned them.
            emotions: their own.
        """
        found: list[list[str]] = [[] for _ in gold]
        for places in self._blocks(gold):
            told = [self._known(gold[place]) for place in places]
            for place, own, other in zip(places, told, self._dealt(told), strict=True):
                if other is not None:
                    plain = gold[place].text.removesuffix(self._with("", own))
                    found[place] = [self._with(plain, other)]
        return found

    def _blocks(self, gold: Sequence[Reply]) -> Iterator[list[int]]:
        """Yield the places of replies of one emotion and language, in random order, so many at most."""
        groups: dict[tuple[str, Emotion], list[int]] = {}
        for place in np.random.default_rng(self._seed).permutation(len(gold)).tolist():
            groups.setdefault((gold[place].language, gold[place].known_emotion), []).append(place)
        for places in groups.values():
            for start in range(0, len(places), _BLOCK):
                yield places[start : start + _BLOCK]

    def _dealt(self, told: Sequence[Told]) -> list[Told | None]:
        """Return another's description for each, every one at most once; the fewest are left out, on both sides.

        As many movements as possible go the other way, as few as possible are the same, and lengths differ little.
        """
        from scipy.optimize import linear_sum_assignment

        costs = np.array([[_cost(own, other) for other in told] for own in told])
        np.fill_diagonal(costs, _LEFT_OUT)  # dealt to itself: neither chosen nor rejected
        _, columns = linear_sum_assignment(costs)
        return [None if column == row else told[column] for row, column in enumerate(columns)]

    def _with(self, reply: str, told: Told) -> str:
        return f"{reply} {self._remark.replace('{}', told.text)}"

    def _told_of(self, reply: Reply) -> Told | None:
        return self._told.get((reply.dialogue_id, reply.turn - 1))

    def _known(self, reply: Reply) -> Told:
        told = self._told_of(reply)
        assert told is not None, "propose is asked for what write_chosen returned"
        return told


def _cost(own: Told, other: Told) -> float:
    """Return how unwelcome a description is in another's place; one movement outweighs any length."""
    first, second = own.movements, other.movements
    if not contradict(first, second):
        return _FORBIDDEN
    return abs(len(own.text) - len(other.text)) / 1000 + len(first & second) - num_opposed(first, second)


def _make(settings: ContradictSettings, context: SourceContext) -> ContradictSource:
    lines = read_side_file(settings.descriptions, DESCRIPTION, {d.id: d for d in context.dialogues})
    told = {
        place: Told(line["description"], told_movements(line.get("evidence") or {})) for place, line in lines.items()
    }
    if not any(one.movements for one in told.values()):
        raise SourceError(
            f"descriptions: {settings.descriptions} holds no evidence, so nobody knows what contradicts a clip; want "
            "descriptions of launch/data.py describe-faces with source builtin or au"
        )
    return ContradictSource(told, settings.remark, context.seed)


SOURCE = PairSource(
    about="the gold reply with what the clip shows, against what it does not show",
    settings=ContradictSettings,
    make=_make,
    is_certain=True,
)
