"""Evaluation: contestants answer, suites score, and a report comes out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epo.data.replies import Reply
from epo.evaluation.comparison import compare_rows
from epo.evaluation.kept_rows import KeptRows, ScoredRow
from epo.evaluation.row_verdict import verdicts
from epo.evaluation.scoring import recorded
from epo.evaluation.suite import SUITES, Answers, Suite, Task
from epo.extras import MissingExtraError
from epo.ranks import rank

if TYPE_CHECKING:
    from epo.evaluation.chat_system import ChatSystem
    from epo.evaluation.contestants import Contestant, Generation
    from epo.evaluation.rollout import RollOut

_NUM_EXAMPLES = 20
_SHOWN_TURNS = 20  # of what was said before
_REPEATED = re.compile(r"(<[^<>\s]+>)(?:\s*\1)+")


class SuiteError(ValueError):
    """A suite that cannot be given, or that returns what it did not announce; the message names it."""


@dataclass(frozen=True)
class Chosen:
    """The suites of an evaluation.

    Attributes:
        suites: by name, in the order of their columns.
        notes: one sentence each about those that were left out.
    """

    suites: Mapping[str, Suite]
    notes: list[str] = field(default_factory=list)


def choose_suites(names: Sequence[str] | None, task: Task) -> Chosen:
    """Return the suites to score with.

    Args:
        names: of suites; None takes all that can be given but those on request, and notes why others cannot.
        task: what there is to score with.

    Raises:
        UnknownNameError: no suite has that name.
        SuiteError: a suite that was named lacks something; or two have a column of the same key.
        MissingExtraError: a suite that was named needs a package that is not installed.
    """
    found: dict[str, Suite] = {}
    notes = []
    for name in SUITES.names() if names is None else dict.fromkeys(names):
        try:
            suite, is_quiet = SUITES.get(name), SUITES.get(name).is_quiet
            if names is None and suite.is_on_request:
                continue
            reason = next((reason for need in suite.needs if (reason := task.lacks(need)) is not None), None)
        except MissingExtraError as error:
            if names is not None:
                raise
            reason, is_quiet = str(error), False
        if reason is None:
            found[name] = suite
        elif names is None and not is_quiet:
            notes.append(f"Suite {name} is left out: {reason}.")
        elif names is not None:
            raise SuiteError(f"suite {name!r} cannot be given: {reason}")
    if not found:
        raise SuiteError(f"suites: none was named, want some of {', '.join(SUITES.names())}")
    ordered = dict(sorted(found.items(), key=lambda item: (item[1].place, item[0])))
    _refuse_shared_keys(ordered)
    return Chosen(ordered, notes)


def prepare(chosen: Chosen, task: Task) -> None:
    """Let the suites fit and load what they score with, on the rank that scores, before any model is loaded."""
    if rank() == 0:
        for suite in chosen.suites.values():
            if suite.prepare is not None:
                task.once(suite.prepare)


def compare(
    entrants: Iterable["Contestant | ChatSystem | RollOut | Answers"],
    task: Task,
    chosen: Chosen,
    generation: "Generation",
    kept: KeptRows | None = None,
) -> dict[str, Any]:
    """Let contestants answer one after the other, and score what they say. Every rank must call it.

    Args:
        entrants: models, and replies that are there already; taken one by one, so that a generator which loads each
            model when its turn comes need not hold them all.
        task: what is answered.
        chosen: what is scored.
        generation: how replies are generated.
        kept: where each row's replies and numbers are kept as soon as they are there, and taken up from.

    Returns:
        What `write_report` takes: rows, columns, breakdowns, examples, notes, and what suites add beside the rows. On
        ranks other than the first only the rows' numbers that need a model are there.
    """
    from epo.evaluation import variants
    from epo.evaluation.contestants import Contestant
    from epo.evaluation.kept_memories import KeptMemories

    prepare(chosen, task)
    scored = [_scored_row(answers, task, chosen.suites) for answers in _baselines(chosen, task)]
    notes, replies, first, memories = list(chosen.notes), {}, None, KeptMemories()
    for entrant in entrants:
        variant = getattr(entrant, "variant", variants.unchanged)
        if not variants.can_vary(variant, task.gold):
            continue
        same = entrant.repeats(task) if isinstance(entrant, Contestant) else None
        if same is not None:
            notes.append(f"Left out: {entrant.name}, which would be {same} once more.")
            continue
        if entrant.name in {row.values["name"] for row in scored}:
            raise SuiteError(f"two rows would be called {entrant.name!r}; give one another name")
        numbers = None if kept is None else kept.numbers(entrant.name)
        with memories.of(getattr(entrant, "base", None)):
            answers = _answers(entrant, task, generation, kept, numbers is not None)
            scores = _scored_row(answers, task, chosen.suites) if numbers is None else numbers
        first = answers.contestant if first is None else first
        replies[answers.name] = answers
        if numbers is None and kept is not None:
            kept.keep_numbers(answers.name, scores)
        scored.append(scores)
        notes += _gaps(answers, scores.values, chosen.suites)
    rows = [row.values for row in scored]
    if not variants.can_vary(variants.clips_shuffled, task.gold) and task.has_model:
        notes.append("One dialogue: no other to take clips or memories from.")
    columns = [asdict(c) | {"suite": name} for name, suite in chosen.suites.items() for c in suite.columns]
    breakdowns = [asdict(b) | {"suite": name} for name, suite in chosen.suites.items() for b in suite.breakdowns]
    report = {"rows": rows, "columns": columns, "breakdowns": breakdowns, "notes": notes, "seed": task.seed}
    if rank() > 0:
        return report
    comparisons = compare_rows(scored, columns)
    report |= {
        "comparisons": comparisons,
        "verdict": [asdict(v) | {"text": v.text} for v in verdicts(comparisons, columns)],
    }
    beside = _summaries(task, chosen, first)
    return report | {"examples": _examples(task, replies, first), "notes": [*notes, *beside.pop("notes")]} | beside


def evaluate(
    answerer: Any,
    gold: Sequence[Any],
    suites: Sequence[str] | None = None,
    *,
    processor: Any = None,
    name: str = "model",
    reference: Any = None,
    with_variants: bool = False,
    cache_dir: str | Path | None = None,
    generation: "Generation | None" = None,
    **material: Any,
) -> dict[str, Any]:
    """Score a model, or replies that are there already, on gold replies.

    Args:
        answerer: a whole model or a PEFT model around one; or one reply, as a string, for each gold reply.
        gold: the replies to give, of `epo.data.replies.replies_of`.
        suites: names of what to score; None takes all that can be given, and `notes` say why others cannot.
        processor: the model's; replies need none.
        name: of the row.
        reference: a model to compare rewards with; a PEFT model is compared with itself without its LoRA.
        with_variants: whether the model is also tested with clips and memories changed, one row each.
        cache_dir: folder for decoded clips; None decodes anew.
        generation: how replies are generated.
        material: further fields of `Task`: `training`, `pairs`, `clips`, `seed`, `bert_score_model`, ...

    Returns:
        The report as a dict, for `write_report` and `format_table`; `rows` holds one dict a row, by key of column.

    Raises:
        SuiteError: a suite that was named lacks something, or the number of replies is another than that of `gold`.
        UnknownNameError: no suite has that name.
    """
    is_model = hasattr(answerer, "generate")
    if not gold:
        raise SuiteError("evaluate: gold holds no reply; want at least one")
    if not is_model and (isinstance(answerer, str) or len(answerer) != len(gold)):
        said = "one string" if isinstance(answerer, str) else f"{len(answerer)} replies"
        raise SuiteError(f"evaluate: {said} for {len(gold)} gold replies; want a list with one reply each")
    if is_model and processor is None:
        raise SuiteError("evaluate: a model answers through its processor; give processor=...")
    has_reference = is_model and (reference is not None or hasattr(answerer, "disable_adapter"))
    thinks = is_model and getattr(processor, "think", "none") == "label"
    task = Task(gold, has_model=is_model, has_reference=has_reference, has_thoughts=thinks, **material)
    chosen = choose_suites(suites, task)
    from epo.data.cache import ClipCache
    from epo.evaluation.contestants import Contestant, Generation
    from epo.model.heard_emotions import heard_emotions_of
    from epo.training.collate import PromptBuilder

    if not is_model:
        return compare([Answers(name, list(answerer))], task, chosen, Generation())
    cache = ClipCache(None if cache_dir is None else Path(cache_dir))
    build = PromptBuilder(processor, cache, heard_emotions_of(answerer, processor, cache))
    contestant = Contestant(name=name, model=answerer, build=build, reference=reference)
    entrants = [contestant, *(contestant.changed() if with_variants else ())]
    return compare(entrants, task, chosen, Generation() if generation is None else generation)


def _baselines(chosen: Chosen, task: Task) -> list[Answers]:
    if rank() > 0:
        return []
    return [suite.baseline(task) for suite in chosen.suites.values() if suite.baseline is not None]


def _answers(
    entrant: "Contestant | ChatSystem | RollOut | Answers",
    task: Task,
    generation: "Generation",
    kept: KeptRows | None,
    is_scored: bool,
) -> Answers:
    """Return what an entrant replies: as it lies in a file, as it was kept, or asked for now and kept."""
    if isinstance(entrant, Answers):
        if kept is not None and not is_scored:
            kept.keep_replies(entrant)
        return entrant
    from epo.evaluation.contestants import Contestant

    found = None if kept is None else kept.replies(entrant.name)
    if found is not None:
        contestant = entrant if isinstance(entrant, Contestant) else None
        prompts = () if is_scored or contestant is None else contestant.prompts(task)
        thoughts = None if kept is None else kept.thoughts(entrant.name)
        return Answers(entrant.name, *found, contestant, entrant.kind, prompts, thoughts=thoughts)
    answers = entrant.answer(task, generation)
    if kept is not None:
        kept.keep_replies(answers)
    return answers


def _scored_row(answers: Answers, task: Task, suites: Mapping[str, Suite]) -> ScoredRow:
    """Score what was replied, and keep what each mean is of."""
    with recorded() as per_reply:
        values = _row(answers, task, suites)
    return ScoredRow(values, per_reply)


def _row(answers: Answers, task: Task, suites: Mapping[str, Suite]) -> dict[str, Any]:
    """Return a row: every key of every suite, with what was measured."""
    row: dict[str, Any] = {"name": answers.name, "kind": answers.kind}
    for name, suite in suites.items():
        row |= suite.keys
        is_collective = "model" in suite.needs
        if suite.score is None or (answers.contestant is None if is_collective else rank() > 0):
            continue
        values = suite.score(task, answers)
        strange = sorted(values.keys() - suite.keys.keys())
        if strange:
            raise SuiteError(f"suite {name!r} returned {strange[0]!r}, which is none of its columns")
        row |= values
    return row


def _gaps(answers: Answers, row: Mapping[str, Any], suites: Mapping[str, Suite]) -> list[str]:
    """Return a note for each suite that asked a model and yet has no number for it."""
    if answers.contestant is None:
        return []
    why = "its pairs are of one dialogue" if answers.contestant.has_reference else "it has no reference"
    return [
        f"Suite {name} has no number for {answers.name}: {why}."
        for name, suite in suites.items()
        if "reference" in suite.needs and all(row[column.key] is None for column in suite.columns)
    ]


def _summaries(task: Task, chosen: Chosen, first: "Contestant | None") -> dict[str, Any]:
    """Return what the suites add beside the rows, what each one's numbers rest on, and their notes."""
    found: dict[str, Any] = {}
    bases, notes = {}, []
    for name, suite in chosen.suites.items():
        if suite.summarise is not None:
            summary = suite.summarise(task, first)
            if "basis" in summary:
                bases[name] = summary.pop("basis")
            notes += [note for note in summary.pop("notes", []) if note not in notes]
            found |= summary
    return found | {"basis": bases, "notes": notes}


def _examples(task: Task, replies: Mapping[str, Answers], first: "Contestant | None") -> list[dict[str, Any]]:
    """Return some replies side by side, taken evenly from all, with what leads to them."""
    count = min(_NUM_EXAMPLES, len(task.gold))
    chosen = [index * len(task.gold) // count for index in range(count)]
    return [
        {
            "dialogue_id": reply.dialogue_id,
            "turn": reply.turn,
            "user_emotion": reply.current.emotion,
            "transcript": reply.current.text,
            "history": [
                {"speaker": turn.speaker, "emotion": turn.emotion, "text": turn.text}
                for turn in reply.history[-_SHOWN_TURNS:]
            ],
            "num_earlier_turns": max(0, len(reply.history) - _SHOWN_TURNS),
            "prompt": None if first is None else _prompt_text(first, reply),
            "gold": reply.text,
            "gold_emotion": reply.emotion,
            "replies": {name: answers.words[index] for name, answers in replies.items()},
        }
        for index, reply in ((index, task.gold[index]) for index in chosen)
    ]


def _prompt_text(contestant: "Contestant", reply: Reply) -> str:
    """Return the prompt that a model reads, a run of the same placeholder as one and how many there are."""
    build = contestant.build
    text: str = build.processor.tokenizer.decode(build(reply).input_ids)
    return _REPEATED.sub(lambda run: f"{run[1]} × {run[0].count(run[1])}", text)


def _refuse_shared_keys(suites: Mapping[str, Suite]) -> None:
    owners: dict[str, str] = {"name": "every row", "kind": "every row"}
    for name, suite in suites.items():
        for key in suite.keys:
            if key in owners:
                raise SuiteError(f"suite {name!r}: key {key!r} is {owners[key]}'s already; give its column another one")
            owners[key] = f"suite {name!r}"


__all__ = ["Chosen", "SuiteError", "choose_suites", "compare", "evaluate", "prepare"]
