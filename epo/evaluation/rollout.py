"""Roll-outs: whole dialogues in which the model's own replies are remembered, and only the user's turns stay."""

from collections.abc import Sequence
from dataclasses import dataclass

from epo.data.dialogue import Dialogue, Turn
from epo.data.replies import is_reply
from epo.evaluation.contestants import Contestant, Generation
from epo.evaluation.conversation import Conversations
from epo.evaluation.suite import Answers, Kind, Task
from epo.prompts.emotion_label import reply_text
from epo.ranks import gather_shares, share

Place = tuple[str, int]
"""Dialogue and turn of a reply."""


@dataclass(frozen=True)
class RollOut:
    """One row to be: a contestant that lives with what it said.

    The user's turns are those of the corpus, whatever was replied to them, so later ones may not fit: read it as what
    the model's own past does to its replies, and not as a talk with somebody. A turn is read once and kept as memory
    tokens, so a turn costs the same however long its dialogue is (`Conversations`). Replies are greedy.

    Attributes:
        contestant: who replies.
        dialogues: that are rolled out, from their first turn on.
    """

    contestant: Contestant
    dialogues: Sequence[Dialogue]
    kind: Kind = "variant"

    @property
    def name(self) -> str:
        """The row's."""
        return f"{self.contestant.name}, rolled out"

    def answer(self, task: Task, generation: Generation) -> Answers:
        """Return the replies to the turns that are tested; every rank rolls its share of dialogues out."""
        tested = {reply.dialogue_id for reply in task.gold}
        mine = share([dialogue for dialogue in self.dialogues if dialogue.id in tested])
        parts: list[dict[Place, str]] = []
        for first in range(0, len(mine), generation.batch_size):
            parts.append(self._roll(mine[first : first + generation.batch_size], generation))
        found = {place: reply for part in gather_shares(parts) for place, reply in part.items()}
        return Answers(self.name, [found[reply.dialogue_id, reply.turn] for reply in task.gold], kind=self.kind)

    def _roll(self, dialogues: Sequence[Dialogue], generation: Generation) -> dict[Place, str]:
        """Roll some dialogues out together, turn by turn."""
        build = self.contestant.build
        talks = Conversations(
            self.contestant.model,
            build.processor,
            len(dialogues),
            build.cache,
            max_new_tokens=generation.max_new_tokens,
            batch_size=generation.batch_size,
        )
        said: dict[Place, str] = {}
        for number in range(max(len(dialogue.turns) for dialogue in dialogues)):
            asked: dict[int, Turn] = {}
            told: dict[int, list[Turn]] = {}
            for talk, dialogue in enumerate(dialogues):
                if number >= len(dialogue.turns) or is_reply(dialogue, number):
                    continue  # over, or answered with the turn before
                turn = dialogue.turns[number]
                if is_reply(dialogue, number + 1):
                    asked[talk] = turn
                else:
                    told[talk] = [turn]
            if told:
                talks.hear(told)
            replies = talks.answer(asked) if asked else {}
            for talk, reply in replies.items():
                said[dialogues[talk].id, number + 1] = reply_text(reply.text, reply.emotion)
        return said


__all__ = ["RollOut"]
