"""Talk scores: replies of played talks by their number, by what a judge gives them and by words alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from epo.asking.kept_chat import KeptChat
from epo.asking.questions import Question
from epo.data.dialogue import Dialogue
from epo.data.replies import Reply, replies_of
from epo.evaluation.judge_questions import rating_question, read_quality_ratings
from epo.evaluation.rating_sheets import QUALITIES, SHOWN_TURNS
from epo.evaluation.suites.turns import cells
from epo.judging.degenerate_text import is_degenerate

NO_CLIPS = (
    "The users are played in words alone: their turns carry no clip, and nothing here tells of hearing or seeing."
)


class TalkScores:
    """Scores every reply of some talks."""

    def __init__(self, talks: Sequence[Dialogue]) -> None:
        """Write the judge's questions."""
        self._replies = replies_of(talks, "all")
        self.questions = [
            Question(rating_question(reply.last_turns(SHOWN_TURNS), reply.text), 0) for reply in self._replies
        ]

    def report(self, judge: KeptChat) -> dict[str, Any]:
        """Return the scores.

        Args:
            judge: has answered `questions`, or some of them.

        Returns:
            `by_reply_number`: by score and group of reply numbers its mean, 95 % interval over talks and how many;
            scores are the four qualities from 1 to 5, `degenerate`, and `repeated`, the share of replies that were said
            before in their talk. `unreadable` and `unanswered` name what the judge did not rate, which counts nowhere.
        """
        values: dict[str, list[tuple[Reply, float]]] = {
            "degenerate": [(reply, float(is_degenerate(reply.text))) for reply in self._replies],
            "repeated": [(reply, float(_is_repeated(reply))) for reply in self._replies],
        }
        missing: dict[str, list[str]] = {"unreadable": [], "unanswered": []}
        for reply, question in zip(self._replies, self.questions, strict=True):
            answer = judge.answer(question)
            ratings = {} if answer is None else read_quality_ratings(answer)
            for quality in QUALITIES:
                if quality in ratings:
                    values.setdefault(quality, []).append((reply, float(ratings[quality])))
                else:
                    place = f"{reply.dialogue_id}: turn {reply.turn}, {quality}"
                    missing["unanswered" if answer is None else "unreadable"].append(place)
        tables = {name: _by_number(scored) for name, scored in values.items() if scored}
        return {"num_replies": len(self._replies), "by_reply_number": tables, "notes": [NO_CLIPS]} | missing


def _is_repeated(reply: Reply) -> bool:
    return any(turn.speaker == "assistant" and turn.text == reply.text for turn in reply.history)


def _by_number(scored: Sequence[tuple[Reply, float]]) -> dict[str, Any]:
    numbers = [1 + sum(turn.speaker == "assistant" for turn in reply.history) for reply, _ in scored]
    found = cells(numbers, [value for _, value in scored], [reply.dialogue_id for reply, _ in scored])
    return {label: asdict(cell) for label, cell in found.items()}


def format_talk_scores(report: Mapping[str, Any]) -> str:
    """Return the scores in lines for the terminal."""
    lines = []
    for name, table in report["by_reply_number"].items():
        parts = [f"reply {label}: {cell['score']:.2f} of {cell['num_replies']}" for label, cell in table.items()]
        lines.append(f"{name.replace('_', ' ')}: {'; '.join(parts)}")
    for kind in ("unreadable", "unanswered"):
        names = report[kind]
        if names:
            lines.append(f"{len(names)} ratings {kind}, which count nowhere: {'; '.join(names[:5])}")
    return "\n".join([*lines, *report["notes"]])


__all__ = ["NO_CLIPS", "TalkScores", "format_talk_scores"]
