"""Sheet judge: a language model fills the sheet that people fill, each pair in both orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from epo.asking.kept_chat import KeptChat
from epo.asking.questions import Question
from epo.data.dialogue import DataError
from epo.data.replies import Reply
from epo.evaluation.answers import Place
from epo.evaluation.judge_questions import pair_question, rating_question, read_quality_ratings, read_verdict
from epo.evaluation.rating_sheets import QUALITIES, SHOWN_TURNS, SIDES, RatingItem

_SWAPPED = {"A": "B", "B": "A", "tie": "tie"}


@dataclass
class JudgedSheet:
    """What a judge said of a sheet.

    Attributes:
        filled: by item and column what it filled in.
        verdicts: by item its verdict with the sheet's A first and with its B first, as a choice of the sheet.
        unreadable: answers without a verdict or rating, as `item: what was asked`.
        unanswered: questions that nothing came to, likewise; asking again may help.
    """

    filled: dict[str, dict[str, str]] = field(default_factory=dict)
    verdicts: dict[str, tuple[str, str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return counts and names; `flips` are pairs in which the side changed with the order.

        `flip_share` is of the pairs with two readable verdicts; `first_share` is how often the reply that came first
        won, of all their verdicts that name a side: 0.5 without a bias. None where there is nothing to divide by.
        """
        pairs = self.verdicts
        flips = [item for item, (one, other) in pairs.items() if one != other and "tie" not in (one, other)]
        wavering = [item for item, (one, other) in pairs.items() if one != other and "tie" in (one, other)]
        sides = [(one, "A") for one, _ in pairs.values()] + [(other, "B") for _, other in pairs.values()]
        decided = [said == first for said, first in sides if said != "tie"]
        return {
            "num_pairs": len(pairs),
            "flips": flips,
            "tie_in_one_order": wavering,
            "flip_share": len(flips) / len(pairs) if pairs else None,
            "first_share": sum(decided) / len(decided) if decided else None,
            "unreadable": self.unreadable,
            "unanswered": self.unanswered,
        }


class SheetJudge:
    """Judges the items of a key; it never learns who wrote what, and hears and sees no clip."""

    def __init__(self, items: Sequence[RatingItem], asked: Mapping[Place, Reply], has_ratings: bool) -> None:
        """Write the questions.

        Args:
            items: to judge.
            asked: replies whose turns they answer.
            has_ratings: whether replies are rated from 1 to 5, too.

        Raises:
            DataError: an item answers a turn that is not there.
        """
        self._items, self._has_ratings = items, has_ratings
        gone = [item for item in items if (item.dialogue_id, item.turn) not in asked]
        if gone:
            raise DataError(
                f"item {gone[0].item}: the dialogues have no reply at turn {gone[0].turn} of {gone[0].dialogue_id!r}; "
                "name by --data the file that the sheets were made from"
            )
        turns = {item.item: asked[item.dialogue_id, item.turn].last_turns(SHOWN_TURNS) for item in items}
        self._pairs = {
            item.item: (
                Question(pair_question(turns[item.item], item.reply_a, item.reply_b), 0),
                Question(pair_question(turns[item.item], item.reply_b, item.reply_a), 0),
            )
            for item in items
        }
        self._ratings = {
            item.item: [Question(rating_question(turns[item.item], said), 0) for said in (item.reply_a, item.reply_b)]
            for item in items
            if has_ratings
        }

    @property
    def questions(self) -> list[Question]:
        """All that is to be asked."""
        return [question for asked in (*self._pairs.values(), *self._ratings.values()) for question in asked]

    def read(self, chat: KeptChat) -> JudgedSheet:
        """Return what the answers that are kept say; nothing is asked.

        A reply is preferred where it is in both orders; where they disagree it is a tie, and where one of the two
        cannot be read the choice stays blank. Source: Zheng et al. 2023, arXiv 2306.05685, section 3.4; that a tie in
        one order alone is a tie is our choice.
        """
        sheet = JudgedSheet()
        for item in self._items:
            cells = sheet.filled.setdefault(item.item, {})
            self._read_pair(item.item, chat, sheet, cells)
            for side, question in zip(SIDES, self._ratings.get(item.item, ()), strict=False):
                answer = chat.answer(question)
                ratings = {} if answer is None else read_quality_ratings(answer)
                cells |= {f"{quality}_{side}": str(rating) for quality, rating in ratings.items()}
                missing = [f"{item.item}: {quality}_{side}" for quality in QUALITIES if quality not in ratings]
                (sheet.unanswered if answer is None else sheet.unreadable).extend(missing)
        return sheet

    def _read_pair(self, item: str, chat: KeptChat, sheet: JudgedSheet, cells: dict[str, str]) -> None:
        read = []
        for question, first in zip(self._pairs[item], ("A", "B"), strict=True):
            answer = chat.answer(question)
            verdict = None if answer is None else read_verdict(answer)
            if verdict is None:
                (sheet.unanswered if answer is None else sheet.unreadable).append(f"{item}: {first} first")
            else:
                read.append(verdict if first == "A" else _SWAPPED[verdict])
        if len(read) == 2:
            sheet.verdicts[item] = (read[0], read[1])
            cells["choice"] = read[0] if read[0] == read[1] else "tie"
            cells["comment"] = "" if read[0] == read[1] else f"{read[0]} with A first, {read[1]} with B first"
        else:
            cells["comment"] = "no verdict in one order or both"


def format_judged(report: Mapping[str, Any]) -> str:
    """Return what is to be known of a judge in lines for the terminal."""
    lines = [f"{report['num_pairs']} pairs judged in both orders"]
    if report["num_pairs"]:
        lines.append(
            f"position bias: {len(report['flips'])} flip with the order (share {report['flip_share']:.3f}) and are "
            f"ties; {len(report['tie_in_one_order'])} are a tie in one order alone"
        )
    if report["first_share"] is not None:
        lines.append(f"of the verdicts that name a side {report['first_share']:.3f} are for the reply that came first")
    for kind, what in (("unreadable", "hold no verdict or rating"), ("unanswered", "never came; run it again")):
        names = report[kind]
        if names:
            more = ", ..." if len(names) > 5 else ""
            lines.append(f"{len(names)} answers {what}, and count nowhere: {', '.join(names[:5])}{more}")
    return "\n".join(lines)


__all__ = ["JudgedSheet", "SheetJudge", "format_judged"]
