"""Compare SFT, its control and EPO on held-out dialogues and write the report: `launch/evaluate.py --config FILE`."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor
from transformers import set_seed

from launch import stage
from epo.data.cache import ClipCache
from epo.data.chance import chance_levels
from epo.data.dialogue import Dialogue
from epo.data.replies import Reply
from epo.data.selection import dialogues_of_split, labelled_clips, labelled_replies, replies_of_split
from epo.emotions import Emotion
from epo.evaluation import variants
from epo.evaluation.bert_score import BertEncoder
from epo.evaluation.degenerate import is_degenerate
from epo.evaluation.generate import generate_replies
from epo.evaluation.judge import WordJudge
from epo.evaluation.recognition import recognise
from epo.evaluation.report import Row, describe_hardware, format_table, write_report
from epo.evaluation.rewards import adapter_logps, pair_logps, reward_margins, wins
from epo.evaluation.scoring import ReplyScorer, scored
from epo.model.loading import load_adapter, load_model
from epo.preferences.pair import PreferencePair, pairs_of_split
from epo.prompts.emotion_label import split_reply
from epo.training.collate import PromptBuilder
from launch.ranks import gather_shares, join_ranks, share
from launch.recipe import read_recipe
from launch.recipe_pieces import (
    ClipsKeys,
    DataKeys,
    OutputKeys,
    PairsKeys,
    RepliesKeys,
    SeedKeys,
    StageRecipe,
    WeightsKeys,
)
from launch.stage_folder import StageFolder, open_folder
from launch.tracking import open_run
from launch.training import open_corpus, open_pairs

Labelled = list[tuple[str, Emotion]]
"""Gold replies and the emotions they are written in."""


@dataclass(kw_only=True)
class EvaluateRecipe(DataKeys, PairsKeys, RepliesKeys, WeightsKeys, ClipsKeys, SeedKeys, OutputKeys, StageRecipe):
    """Score replies of SFT, of SFT continued on the chosen replies, and of EPO, with the clip or memory changed."""

    sft: str = field(metadata={"help": "folder written by launch/sft.py; the reference"})
    epo: str = field(metadata={"help": "adapter folder written by launch/epo.py"})
    control: str | None = field(default=None, metadata={"help": "folder of SFT continued on the chosen replies"})
    split: Literal["validation", "test"] = field(default="test", metadata={"help": "which dialogues to answer"})
    max_dialogues: int | None = field(default=None, metadata={"help": "answer only the first so many"})
    max_new_tokens: int = field(default=48, metadata={"help": "longest reply"})
    batch_size: int = field(default=50, metadata={"help": "prompts at a time on each rank"})
    bert_score_model: str | None = field(default=None, metadata={"help": "encoder for BERTScore; none leaves it out"})
    bert_score_layer: int | None = field(default=None, metadata={"help": "its layer; none: the package's choice"})


@dataclass(frozen=True)
class Contestant:
    """One row to be: a model under a name, tested with changed examples."""

    name: str
    model: Any
    variant: variants.Variant
    is_sampled: bool = False
    num_draws: int = 1  # of a random variant, over which reward accuracy is averaged


@dataclass(frozen=True)
class Task:
    """What is answered and compared.

    Attributes:
        dialogues: held out.
        examples: their replies to give.
        pairs: their preference pairs.
        training: labelled replies that the judge of emotions learns from.
        gold: labelled replies of `examples`.
    """

    dialogues: list[Dialogue]
    examples: list[Reply]
    pairs: list[PreferencePair]
    training: Labelled
    gold: Labelled


RECIPES = [EvaluateRecipe]


def run() -> None:
    """Load the models, answer the held-out dialogues, score, and write the report."""
    (recipe,) = read_recipe(RECIPES)
    out = Path(recipe.output_dir)
    dialogues = open_corpus(recipe.data)
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    held_out = dialogues_of_split(dialogues, recipe.split, recipe.data)[: recipe.max_dialogues]
    examples = replies_of_split(held_out, recipe.split, recipe.data, recipe.replies)
    learnt = replies_of_split(dialogues, "train", recipe.data, recipe.replies)
    kept = {example.dialogue_id for example in examples}
    pairs = [
        pair for pair in pairs_of_split(open_pairs(recipe.pairs, by_id), recipe.split) if pair.reply.dialogue_id in kept
    ]
    task = Task(
        held_out,
        examples,
        pairs,
        training=labelled_replies(learnt, "train", recipe.data, min_emotions=2),
        gold=labelled_replies(examples, recipe.split, recipe.data, min_emotions=1),
    )
    device = join_ranks()
    with open_folder(out, [recipe], rewritten=[]) as folder:
        if not folder.is_done:
            _evaluate(recipe, task, device, folder)


def _evaluate(recipe: EvaluateRecipe, task: Task, device: torch.device, folder: StageFolder) -> None:
    out = folder.path
    judge = _judge(task.training)
    scorer = ReplyScorer(task.examples, judge, _encoder(recipe))
    sft, processor = load_model(recipe.sft, recipe.dtype)
    build = PromptBuilder(processor, ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir)))
    contestants = [
        contestant
        for contestant in _contestants(recipe, sft.to(device), device)
        if variants.can_vary(contestant.variant, task.examples)
    ]
    rows, replies = [_majority_row(task.training, judge, scorer, len(task.examples))], {}
    with open_run("evaluate", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        for contestant in contestants:
            row, replies[contestant.name] = _row(contestant, sft, task.examples, task.pairs, scorer, build, recipe)
            rows.append(row)
        if stage.rank() == 0:
            recognition = _recognition(sft, task.dialogues, build)
            report = _report(recipe, rows, replies, task, recognition, judge, build)
            write_report(out, report)
            tracked.log_metrics(_metrics(report))
            tracked.log_artifact(out / "report.json")
            tracked.log_artifact(out / "report.html")
            print(format_table(report))
            folder.finish({row.name: row.emotion_score for row in rows})


def _contestants(recipe: EvaluateRecipe, sft: Any, device: torch.device) -> list[Contestant]:
    found = [Contestant("sft", sft, variants.unchanged, is_sampled=True)]
    if recipe.control is not None:
        control, _ = load_model(recipe.control, recipe.dtype)
        found.append(Contestant("sft+chosen", control.to(device), variants.unchanged, is_sampled=True))
    base, _ = load_model(recipe.sft, recipe.dtype)
    epo = load_adapter(base, recipe.epo).to(device)
    found.append(Contestant("sft+epo", epo, variants.unchanged, is_sampled=True))
    changes: dict[str, variants.Variant] = {
        "clips shuffled": variants.clips_shuffled,
        "audio only": variants.audio_only,
        "video only": variants.video_only,
        "no clip": variants.no_clip,
        "memory shuffled": variants.memory_shuffled,
    }
    # One shuffle of 200 clips leaves a standard error of 0.035 around chance; five leave less.
    draws = {"clips shuffled": 5}
    return found + [
        Contestant(f"sft+epo, {name}", epo, change, num_draws=draws.get(name, 1)) for name, change in changes.items()
    ]


def _row(
    contestant: Contestant,
    reference: Any,
    examples: list[Reply],
    pairs: list[PreferencePair],
    scorer: ReplyScorer,
    build: PromptBuilder,
    recipe: EvaluateRecipe,
) -> tuple[Row, list[str]]:
    """Answer, score and compare rewards for one contestant; every rank does its share of the examples."""
    prompts = [build(example) for example in share(contestant.variant(examples, recipe.seed))]

    def answer(temperature: float) -> list[str]:
        set_seed((recipe.seed + stage.rank()) % 2**32)
        mine = generate_replies(
            contestant.model,
            build.processor,
            prompts,
            recipe.batch_size,
            recipe.max_new_tokens,
            temperature,
            label=contestant.name,
        )
        return gather_shares(mine)

    replies = answer(0.0)
    values: dict[str, Any] = scorer.sampled(answer(1.0)) if contestant.is_sampled else {}
    values["prompt_tokens"] = _mean(gather_shares([len(prompt.input_ids) for prompt in prompts]))
    values["history_tokens"] = _mean(gather_shares([prompt.num_history_tokens for prompt in prompts]))
    values |= _rewards(contestant, reference, pairs, build, recipe)
    return scorer.row(contestant.name, replies, **values), replies


def _rewards(
    contestant: Contestant, reference: Any, pairs: list[PreferencePair], build: PromptBuilder, recipe: EvaluateRecipe
) -> dict[str, Any]:
    """Return accuracy and margin of the held-out rewards, each pair's mean over the draws of the variant."""
    examples = [pair.reply for pair in pairs]
    if not pairs or not variants.can_vary(contestant.variant, examples):
        return {}
    draws = []
    for seed in range(recipe.seed, recipe.seed + contestant.num_draws):
        changed = contestant.variant(examples, seed)
        drawn = [replace(pair, reply=reply) for reply, pair in zip(changed, pairs, strict=True)]
        draws.append(reward_margins(*_gathered_logps(contestant.model, reference, drawn, build)))
    margins_DN = torch.stack(draws)
    won_N = torch.tensor([wins(margins_N) for margins_N in margins_DN]).mean(dim=0)
    dialogues = [example.dialogue_id for example in examples]
    return scored("reward_accuracy", won_N.tolist(), dialogues) | scored(
        "reward_margin", margins_DN.mean(dim=0).tolist(), dialogues
    )


def _gathered_logps(
    model: Any, reference: Any, pairs: list[PreferencePair], build: PromptBuilder
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return what policy and reference make of chosen and rejected replies, each rank having done its share."""
    mine = share(pairs)
    if isinstance(model, PeftModel):
        policy, base = adapter_logps(model, mine, build)
    else:
        policy = pair_logps(model, mine, build)
        base = policy if model is reference else pair_logps(reference, mine, build)
    policy_chosen, policy_rejected, base_chosen, base_rejected = torch.tensor(
        gather_shares(torch.stack([*policy, *base]).T.tolist())
    ).T
    return (policy_chosen, policy_rejected), (base_chosen, base_rejected)


def _judge(training: Labelled) -> WordJudge:
    return WordJudge.fit([reply for reply, _ in training], [emotion for _, emotion in training])


def _encoder(recipe: EvaluateRecipe) -> BertEncoder | None:
    """Load what BERTScore is computed with, on the rank that writes the report."""
    if recipe.bert_score_model is None or stage.rank() != 0:
        return None
    return BertEncoder(recipe.bert_score_model, recipe.bert_score_layer)


def _majority_row(training: Labelled, judge: WordJudge, scorer: ReplyScorer, count: int) -> Row:
    """Score one and the same reply to everybody: the first training reply whose words carry the commonest emotion."""
    commonest = Counter(emotion for _, emotion in training).most_common(1)[0][0]
    written = [reply for reply, emotion in training if emotion == commonest and not is_degenerate(reply)]
    judged = judge.predict(written)
    read = [reply for reply, emotion in zip(written, judged, strict=True) if emotion == commonest]
    return scorer.row("majority", [(read or written or [""])[0]] * count)


def _recognition(model: Any, dialogues: Sequence[Dialogue], build: PromptBuilder) -> dict[str, Any]:
    labelled = labelled_clips(dialogues)
    clips, emotions = [clip for clip, _ in labelled], [emotion for _, emotion in labelled]
    return recognise(model.extractor, clips, emotions, build.processor.clips, build.cache)


def _report(
    recipe: EvaluateRecipe,
    rows: list[Row],
    replies: dict[str, list[str]],
    task: Task,
    recognition: dict[str, Any],
    judge: WordJudge,
    build: PromptBuilder,
) -> dict[str, Any]:
    examples, gold, wanted = task.examples, [reply for reply, _ in task.gold], [emotion for _, emotion in task.gold]
    majority, sum_p2 = chance_levels(wanted)
    prompts = [build(example) for example in examples]
    as_text = [
        build.processor.encode_prompt(e.history, e.current, p.clip, use_memory=False)
        for e, p in zip(examples, prompts, strict=True)
    ]
    return {
        "rows": [asdict(row) for row in rows],
        "emotion_recognition": recognition,
        "chance": {"majority": majority, "sum_p2": sum_p2},
        "judge_accuracy": judge.accuracy(gold, wanted),
        "judge_majority": majority,
        "gold_degenerate": sum(map(is_degenerate, gold)) / len(gold),
        "history_tokens_as_text": _mean([prompt.num_history_tokens for prompt in as_text]),
        "prompt_tokens_as_text": _mean([len(prompt.input_ids) for prompt in as_text]),
        "history_reduction": _reduction(prompts, as_text, lambda prompt: prompt.num_history_tokens),
        "prompt_reduction": _reduction(prompts, as_text, lambda prompt: len(prompt.input_ids)),
        "examples": [_example(examples[i], replies, i) for i in range(min(8, len(examples)))],
        "notes": []
        if variants.can_vary(variants.clips_shuffled, examples)
        else ["One dialogue: no other to take clips or memories from."],
        "seed": recipe.seed,
        "settings": {
            "split": recipe.split,
            "num_dialogues": len(task.dialogues),
            "num_replies": len(examples),
            "data": recipe.data,
            "bert_score_model": recipe.bert_score_model,
            "bert_score_layer": recipe.bert_score_layer,
        },
        "hardware": describe_hardware(),
    }


def _example(example: Reply, replies: dict[str, list[str]], index: int) -> dict[str, Any]:
    return {
        "dialogue_id": example.dialogue_id,
        "user_emotion": example.current.emotion,
        "transcript": example.current.text,
        "gold": example.text,
        "replies": {name: split_reply(texts[index])[1] for name, texts in replies.items()},
    }


def _reduction(short: Sequence[Any], long: Sequence[Any], size: Callable[[Any], int]) -> float | None:
    total = sum(size(prompt) for prompt in long)
    return None if total == 0 else 1 - sum(size(prompt) for prompt in short) / total


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    names = ("emotion_score", "degenerate", "fact_recall", "token_f1", "distinct_1", "reward_accuracy", "reward_margin")
    found = {f"{row['name']}/{name}": row[name] for row in report["rows"] for name in names}
    for name in ("accuracy", "majority"):
        found[f"emotion_recognition/{name}"] = report["emotion_recognition"].get(name)
    found |= {name: report[name] for name in ("judge_accuracy", "judge_majority")}
    found["history_reduction"] = report["history_reduction"]
    return {name.replace("+", "_").replace(", ", "_"): value for name, value in found.items() if value is not None}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


if __name__ == "__main__":
    stage.main(run)
