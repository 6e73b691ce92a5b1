"""Suite: one thing that is measured of replies: what that takes, the columns it fills, and how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from epo.data.dialogue import Clip
from epo.data.replies import Reply
from epo.data.selection import TaughtClip
from epo.emotions import Emotion
from epo.judging.degenerate_text import is_degenerate
from epo.judging.opened_judge import JudgeSettings
from epo.preferences.pair import PreferencePair
from epo.prompts.emotion_label import split_reply
from epo.registry import Registry, modules_of

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant
    from epo.evaluation.vad_file import VadCourse
    from epo.evaluation.vad_measuring import VadMeter
    from epo.model.processing import Prompt

Need = Literal[
    "emotions", "judge", "user_emotions", "facts", "pairs", "model", "reference", "clips", "strategies", "thoughts"
]
"""What a suite may need besides replies and the gold replies, which there always are."""

Kind = Literal["main", "base", "variant"]
"""Of a row: what is tested, what it is compared with, or what is tested with something changed."""

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Column:
    """One number of a row.

    Attributes:
        key: of the row in report.json; its interval is `KEY_interval`.
        heading: what it is called on the page and in the console.
        explanation: how the number is made.
        better: which direction is good, None where neither is.
        digits: after the point.
        has_interval: whether a 95 % interval comes with it.
        is_charted: whether the page draws it: of a share, in [0, 1].
        in_console: whether it is in the table that the console shows.
        sampled_form_of: heading of the column that is the same of greedy replies.
        levels: lines across the chart, by what they are called: the path of a number in the report.
    """

    key: str
    heading: str
    explanation: str
    better: Literal["higher", "lower"] | None = "higher"
    digits: int = 3
    has_interval: bool = False
    is_charted: bool = False
    in_console: bool = True
    sampled_form_of: str | None = None
    levels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Breakdown:
    """One number of a row by a label of the replies: a `Cell` each, under `key` of the row.

    Attributes:
        key: of the row in report.json, where a mapping of labels to cells stands.
        heading: of the table on the page.
        explanation: how the numbers are made.
        labels: in the order of the table's columns.
    """

    key: str
    heading: str
    explanation: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What is to be answered, and what the answers are measured against.

    Attributes:
        gold: the replies to give, each with what leads to it.
        training: replies that a judge may learn from.
        pairs: held-out preference pairs.
        clips: held-out clips with the emotion that they show.
        has_model: whether any model is tested.
        has_reference: whether any of them has a model to compare its rewards with.
        bert_score_model: encoder for BERTScore, None to leave it out.
        bert_score_layer: its layer, None for the package's choice.
        seed: of whatever is drawn.
        judge: who reads emotions from words.
        strategies: that gold replies follow, by dialogue and turn, as the corpus labels them.
        vad: courses of valence, arousal and dominance that were measured in speech (`epo.evaluation.vad_file`).
        meter: the extractor that measured some of them, None where none did.
        rated: held-out clips of which people rated valence, arousal and dominance, to rate that extractor on.
        has_thoughts: whether a model that is tested names the user's emotion before it replies (`think: label`).
    """

    gold: Sequence[Reply]
    training: Sequence[Reply] = ()
    pairs: Sequence[PreferencePair] = ()
    clips: Sequence[tuple[Clip, Emotion]] = ()
    has_model: bool = False
    has_reference: bool = False
    bert_score_model: str | None = None
    bert_score_layer: int | None = None
    seed: int = 0
    judge: JudgeSettings = JudgeSettings()
    strategies: Mapping[tuple[str, int], str] = field(default_factory=dict)
    vad: Sequence["VadCourse"] = ()
    meter: "VadMeter | None" = None
    rated: Sequence[TaughtClip] = ()
    has_thoughts: bool = False
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def texts(self) -> list[str]:
        """The words of the gold replies."""
        return [reply.text for reply in self.gold]

    @property
    def dialogue_ids(self) -> list[str]:
        """The dialogue of each reply, over which intervals are drawn."""
        return [reply.dialogue_id for reply in self.gold]

    def once(self, make: Callable[["Task"], Kept]) -> Kept:
        """Return what a function makes of this task, made at the first call and kept: a fitted judge, an encoder."""
        if make not in self._kept:
            self._kept[make] = make(self)
        kept: Kept = self._kept[make]
        return kept

    def lacks(self, need: Need) -> str | None:
        """Return why something cannot be had here and how it could, None where it can."""
        if need in ("emotions", "judge"):
            return self._lacks_judge() or (self._lacks_emotions() if need == "emotions" else None)
        remedies = {
            "user_emotions": (
                any(reply.current.emotion is not None for reply in self.gold),
                "no user turn that is answered has an emotion",
            ),
            "facts": (any(reply.facts for reply in self.gold), "no reply to give has facts"),
            "pairs": (bool(self.pairs), "there is no preference pair of these replies; name a file that has some"),
            "model": (self.has_model, "there are only replies, and no model to ask"),
            "reference": (self.has_reference, "no model has a reference; test an adapter, or name the reference"),
            "strategies": (bool(self.strategies), "no reply to give is labelled with a strategy"),
            "thoughts": (self.has_thoughts, "no model names the user's emotion before it replies (think: label)"),
            "clips": (bool(self.clips or self.rated), "no user turn has both a clip and an emotion"),
        }
        has_it, reason = remedies[need]
        return None if has_it else reason

    def _lacks_judge(self) -> str | None:
        if not self.judge.is_own_words:
            return None
        learnable = {r.emotion for r in self.training if r.emotion is not None and not is_degenerate(r.text)}
        if len(learnable) < 2:
            labels = ", ".join(sorted(learnable)) or "no emotion"
            return (
                f"the training replies are labelled with {labels}, and a judge of words learns from two emotions or "
                "more: label the assistant turns"
            )
        return None

    def _lacks_emotions(self) -> str | None:
        if not self.judge.can_read_gold and all(reply.emotion is None for reply in self.gold):
            return "the replies to give are labelled with no emotion: label the assistant turns"
        return None


@dataclass(frozen=True)
class Answers:
    """What one contestant replied.

    Attributes:
        name: of the row.
        replies: one for each gold reply, greedy, each as it was written, with its label.
        sampled: the same drawn at temperature 1, None where none were.
        contestant: what gave them; None for replies that only lie in a file or are the same to everybody.
        kind: of the row.
        prompts: this rank's share of the prompts that were answered.
        strategies: what each reply is meant to do, None for a reply of which nothing is said; None where none says it.
        thoughts: what was written of the user before each greedy reply, None where nothing was; None of what does not
            think.
    """

    name: str
    replies: Sequence[str]
    sampled: Sequence[str] | None = None
    contestant: "Contestant | None" = None
    kind: Kind = "main"
    prompts: "Sequence[Prompt]" = ()
    strategies: Sequence[str | None] | None = None
    thoughts: Sequence[str | None] | None = None

    @cached_property
    def words(self) -> list[str]:
        """The replies without the label that they begin with."""
        return [split_reply(reply)[1] for reply in self.replies]

    @cached_property
    def counted(self) -> list[str]:
        """The words, none for a degenerate reply: it scores 0 wherever it could gain."""
        return ["" if is_degenerate(said) else said for said in self.words]

    @cached_property
    def drawn(self) -> "Answers | None":
        """The sampled replies, None where there are none."""
        return None if self.sampled is None else Answers(self.name, self.sampled, None, self.contestant, self.kind)


Values = dict[str, Any]
"""Numbers by the key of their column."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One thing that is measured.

    Attributes:
        place: where its columns stand, the smallest number first.
        needs: what it cannot be given without. A suite that needs a model is asked on every rank of a job, and must
            deal its work out with `epo.ranks`; others on the first rank alone.
        columns: of the numbers that `score` returns.
        breakdowns: of the tables that `score` returns.
        score: from the task and one contestant's answers the values of its row: by the key of a column, of its
            interval, or of a breakdown. What is not there is shown as a dash.
        prepare: what takes long or may fail for want of something, called with `Task.once` before any model is loaded.
        baseline: replies that no model gives, as a row to compare with.
        details: further keys of the row, for what is no number: examples, tables.
        is_quiet: whether nothing is said where it cannot be given and was not named: it is for few corpora, or needs
            what another suite needs, which says it.
        is_on_request: whether it is given only where it is named: it takes long.
        summarise: from the task and the first model tested, None where there is none, what goes into the report beside
            the rows. `basis`, in it, is what the suite's numbers rest on: `text`, and `short` for the head of a column;
            `notes`, in it, are sentences to add to the report's.
    """

    place: int = 1000
    needs: tuple[Need, ...] = ()
    columns: tuple[Column, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    details: tuple[str, ...] = ()
    is_quiet: bool = False
    is_on_request: bool = False
    score: Callable[[Task, Answers], Values] | None = None
    prepare: Callable[[Task], Any] | None = None
    baseline: Callable[[Task], Answers] | None = None
    summarise: Callable[[Task, "Contestant | None"], dict[str, Any]] | None = None

    @property
    def keys(self) -> dict[str, Any]:
        """Every key that a row may have of this suite, with what it is where nothing was measured."""
        values: dict[str, Any] = {column.key: None for column in self.columns}
        values |= {f"{column.key}_interval": None for column in self.columns if column.has_interval}
        values |= {breakdown.key: {} for breakdown in self.breakdowns}
        return values | dict.fromkeys(self.details)


SUITES: Registry[Suite] = Registry("suite", "epo.suites", lambda: modules_of("epo.evaluation.suites", "SUITE"))

__all__ = ["SUITES", "Answers", "Breakdown", "Column", "Kind", "Need", "Suite", "Task", "Values"]
