"""Memory: what a model's memories keep of the history, beside the same model that reads all of it as text."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from epo.data.dialogue import Dialogue
from epo.data.replies import Reply
from epo.evaluation.ages import AGES, age_label
from epo.evaluation.scoring import Cell, scored, scored_cell
from epo.evaluation.suite import Answers, Breakdown, Column, Suite, Task, Values

if TYPE_CHECKING:
    from epo.evaluation.contestants import Contestant
    from epo.evaluation.memory_quality import HistoryReader

_MOST_REPLIES, _MOST_TRAINING = 64, 200


def score(task: Task, answers: Answers) -> Values:
    """Measure the memories of a model that has some; rows of changed clips or memories are left out."""
    contestant = answers.contestant
    if contestant is None or contestant.kind == "variant":
        return {}
    base: Any = contestant.base
    processor: Any = contestant.build.processor
    if getattr(base, "compressor", None) is None or not processor.layout.has_memory:
        return {}
    from epo.evaluation.memory_quality import HistoryReader, QualityTest
    from epo.evaluation.reconstruction import rouge_of

    contestant.model.eval()
    reader = HistoryReader(base.language_model, processor.tokenizer, base.config.memory_token_id, processor.layout)
    replies = _replies(task, contestant, reader)
    if len({reply.dialogue_id for reply in replies}) < 2:
        return {}
    test, words = QualityTest(reader, replies), processor.history_tokenizer
    own, swapped = test.memory_scores(base.compressor, words), test.swapped_scores(base.compressor, words)
    built, hits = test.rebuilt(base.compressor, words), test.hits(own)
    recalled = [float(hit.is_recalled) for hit in hits]
    of_hits, ages = [hit.dialogue_id for hit in hits], [hit.age for hit in hits]
    return (
        scored("memory_gap", _excess(own, test.full), test.dialogue_ids)
        | scored("memory_swap_cost", _excess(swapped, own), test.dialogue_ids)
        | scored("memory_rouge_l", rouge_of(built), [turn.dialogue_id for turn in built])
        | (scored("memory_recall", recalled, of_hits) if hits else {})
        | {"memory_recall_by_age": _by_age(ages, recalled, of_hits)}
        | _feelings(task, contestant)
    )


def _replies(task: Task, contestant: "Contestant", reader: "HistoryReader") -> list[Reply]:
    """Return replies spread evenly over those whose whole history fits a prompt as text, past emotions as told."""
    hear = contestant.build.hear
    told = [
        reply if hear is None else replace(reply, history=tuple(hear(reply.history)))
        for reply in _spread([reply for reply in task.gold if reply.history], _MOST_REPLIES)
    ]
    processor: Any = contestant.build.processor
    limit = processor.max_prompt_tokens
    return [reply for reply in told if len(reader.as_text(reply)) <= limit]


def _feelings(task: Task, contestant: "Contestant") -> Values:
    """Return how often a probe reads the emotion of a past turn from its memory; nothing where none is labelled."""
    from epo.evaluation.feeling_recall import TooFewTurnsError, probe_feelings

    processor: Any = contestant.build.processor
    compressor, words = contestant.base.compressor, processor.history_tokenizer
    train, test = _dialogues(task.training, _MOST_TRAINING), _dialogues(task.gold, _MOST_REPLIES)
    try:
        turns, _ = probe_feelings(compressor, words, train, test, contestant.build.hear)
    except TooFewTurnsError:
        return {}
    right, ids = [float(turn.is_right) for turn in turns], [turn.dialogue_id for turn in turns]
    ages = [turn.age for turn in turns]
    return scored("memory_feelings", right, ids) | {"memory_feelings_by_age": _by_age(ages, right, ids)}


def _dialogues(replies: Sequence[Reply], count: int) -> list[Dialogue]:
    """Return dialogues up to the user's turn before their last reply."""
    longest: dict[str, Reply] = {}
    for reply in replies:
        if reply.dialogue_id not in longest or len(longest[reply.dialogue_id].history) < len(reply.history):
            longest[reply.dialogue_id] = reply
    chosen = _spread(list(longest.values()), count)
    return [Dialogue(reply.dialogue_id, (*reply.history, reply.current)) for reply in chosen]


def _excess(scores: Sequence[Any], others: Sequence[Any]) -> list[float]:
    """Return by how many nats a token one way makes each gold reply less likely than another."""
    return [float(a.nll.mean() - b.nll.mean()) for a, b in zip(scores, others, strict=True)]


def _by_age(ages: Sequence[int], values: Sequence[float], dialogues: Sequence[str]) -> dict[str, Cell]:
    """Return one cell for each age that occurs."""
    groups: dict[str, list[int]] = {}
    for place, age in enumerate(ages):
        groups.setdefault(age_label(age), []).append(place)
    return {
        label: scored_cell([values[i] for i in groups[label]], [dialogues[i] for i in groups[label]])
        for label in AGES
        if label in groups
    }


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    return list(items) if len(items) <= count else [items[i * len(items) // count] for i in range(count)]


_WORDS_ALONE = "The model reads words alone, no clip; up to 64 replies, spread evenly."

SUITE = Suite(
    place=72,
    needs=("model",),
    is_on_request=True,
    columns=(
        Column(
            "memory_gap",
            "Memory gap",
            f"How much less likely the gold reply is after memories than after the whole history as text, in nats a "
            f"token. {_WORDS_ALONE}",
            better="lower",
            has_interval=True,
            in_console=False,
        ),
        Column(
            "memory_swap_cost",
            "Swapped memory",
            "How much less likely it is after memories of another dialogue than after its own, in nats a token: what "
            "its own tell.",
            has_interval=True,
            in_console=False,
        ),
        Column(
            "memory_rouge_l",
            "Rebuilt ROUGE-L",
            "ROUGE-L F1 of a past turn's words and of what the model writes, greedily, given that turn's memory alone.",
            has_interval=True,
            in_console=False,
        ),
        Column(
            "memory_recall",
            "Recall from memory",
            "Share of names, numbers and facts of the gold reply, said in a past turn and not in the current one, each "
            "of whose tokens is the likeliest after memories.",
            has_interval=True,
            in_console=False,
        ),
        Column(
            "memory_feelings",
            "Past feelings",
            "Share of past user turns whose emotion a linear probe, fitted on training dialogues, reads from their "
            "memories.",
            has_interval=True,
            in_console=False,
        ),
    ),
    breakdowns=(
        Breakdown(
            "memory_recall_by_age",
            "Recall from memory by age",
            "As the column, by how many turns before the one to answer it was last said.",
            AGES,
        ),
        Breakdown(
            "memory_feelings_by_age",
            "Past feelings by age",
            "As the column, by how many turns before the user's last one it was felt.",
            AGES,
        ),
    ),
    score=score,
)
