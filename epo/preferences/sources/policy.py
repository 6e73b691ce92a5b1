"""Source `policy`: the tuned model itself answers, made to begin with the label of the counter emotion."""

from collections.abc import Sequence
from dataclasses import dataclass

from epo.data.replies import Reply
from epo.emotions import EMOTIONS, Emotion
from epo.preferences.source import PairSource, SourceContext
from epo.preferences.sources._policy_writer import Asked, PolicyWriter, WriterSettings, open_writer
from epo.prompts.emotion_label import split_reply


@dataclass(frozen=True, kw_only=True)
class PolicySettings(WriterSettings):
    """Keys of source `policy`."""

    def __post_init__(self) -> None:
        """Refuse to let nobody answer."""
        self.require_model("policy")


class PolicySource:
    """Lets a model write, each reply in the emotion that it is told.

    What the model would say itself, only in the wrong emotion, is the nearest rejected reply there is; but it is only
    as divergent as the model heeds its own label: look at `emotion_divergence`.
    """

    name = "policy"

    def __init__(self, writer: PolicyWriter) -> None:
        """Take what writes."""
        self._writer = writer

    def available(self, gold: Sequence[Reply]) -> frozenset[Emotion]:
        """Every emotion can be asked for."""
        return frozenset(EMOTIONS)

    def propose(self, gold: Sequence[Reply], emotions: Sequence[Emotion]) -> list[list[str]]:
        """Return one reply for each gold reply and counter emotion; none where the model wrote nothing."""
        asked = [Asked(reply, emotion) for reply, emotion in zip(gold, emotions, strict=True)]
        said = [split_reply(reply)[1] for reply in self._writer.write(asked, self.name)]
        return [[words] if words else [] for words in said]


def _make(settings: PolicySettings, context: SourceContext) -> PolicySource:
    return PolicySource(open_writer(settings, context, PolicySource.name))


SOURCE = PairSource(
    about="the tuned model's own reply, made to begin with the counter emotion's label",
    settings=PolicySettings,
    make=_make,
    reads_clips=True,
)
