"""Source `on_policy`: what the current policy says of itself; its mistakes are rejected, each in the emotion it has."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.sides import RIGHT, Sides, choose_sides
from epo.preferences.source import PairSource, SourceContext, SourceError
from epo.preferences.sources._policy_writer import Asked, PolicyWriter, WriterSettings, open_writer
from epo.preferences.verification import Examiner
from epo.prompts.emotion_label import split_reply

NO_MISTAKE = "no sample of the policy has a wrong emotion"


@dataclass(frozen=True, kw_only=True)
class OnPolicySettings(WriterSettings):
    """Keys of source `on_policy`."""

    policy_temperature: float = field(default=1.0, metadata={"help": "of sampling, above 0"})
    policy_samples: int = field(default=8, metadata={"help": "of each reply"})
    chosen_reply: Literal["sample", "gold"] = field(
        default="sample", metadata={"help": "the policy's best one, if it is right, or always the gold reply"}
    )

    def __post_init__(self) -> None:
        """Refuse to let nobody answer, or the same thing over and over."""
        self.require_model("on_policy")
        if self.policy_samples < 1:
            raise SourceError(f"policy_samples is {self.policy_samples}, want 1 or more")
        if self.policy_temperature <= 0:
            raise SourceError(
                f"policy_temperature is {self.policy_temperature}, at which every sample is the same; want more than 0"
            )


class OnPolicySource:
    """Samples the policy in each reply's place, and lets the judge say which samples are mistakes."""

    name = "on_policy"

    def __init__(self, writer: PolicyWriter, examiner: Examiner, num_samples: int, may_choose: bool) -> None:
        """Prepare.

        Args:
            writer: lets the policy write.
            examiner: has the judge.
            num_samples: of each reply.
            may_choose: whether a sample that is right may be chosen.
        """
        self._writer, self._examiner = writer, examiner
        self._num_samples, self._may_choose = num_samples, may_choose
        self._sides: dict[tuple[str, int], Sides] = {}
        self._found: dict[str, Counter[str]] = {}

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Return all: a rejected reply has the emotion that the policy gave it."""
        return frozenset(EMOTIONS)

    def write_chosen(self, gold: Sequence[Reply]) -> list[Reply | str]:
        """Return the chosen side of each reply; the reason where no sample is a mistake."""
        asked = [Asked(reply, number=1 + i) for reply in gold for i in range(self._num_samples)]
        samples = self._writer.write(asked, self.name)
        self._examiner.prepare((one.reply, split_reply(sample)[1]) for one, sample in zip(asked, samples, strict=True))
        found: list[Reply | str] = []
        for place, reply in enumerate(gold):
            own = samples[place * self._num_samples : (place + 1) * self._num_samples]
            sides = choose_sides(reply, own, self._examiner, self._may_choose)
            self._sides[reply.dialogue_id, reply.turn] = sides
            self._found.setdefault(str(reply.split), Counter()).update(sides.found)
            found.append(NO_MISTAKE if sides.emotion is None else sides.chosen)
        return found

    def counter_emotions(self, gold: Sequence[Reply]) -> list[Emotion]:
        """Return the emotion of the rejected side of each reply that `write_chosen` returned."""
        emotions = (self._sides[reply.dialogue_id, reply.turn].emotion for reply in gold)
        return [emotion for emotion in emotions if emotion is not None]

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return the samples in the counter emotion of each reply that `write_chosen` returned."""
        return [list(self._sides[reply.dialogue_id, reply.turn].rejected) for reply in gold]

    def count_samples(self) -> dict[str, dict[str, Any]]:
        """Return of each split how many samples were drawn, the share of right ones, and how many were what."""
        return {
            split: {"samples": found.total(), "right": found[RIGHT] / found.total(), "found": dict(found.most_common())}
            for split, found in self._found.items()
        }


def _make(settings: OnPolicySettings, context: SourceContext) -> OnPolicySource:
    writer = open_writer(settings, context, OnPolicySource.name)
    return OnPolicySource(writer, context.examiner, settings.policy_samples, settings.chosen_reply == "sample")


SOURCE = PairSource(
    about="the current policy's own samples: mistakes are rejected, in the emotion that the judge reads in them",
    settings=OnPolicySettings,
    make=_make,
    reads_clips=True,
    names_emotions=True,
)
