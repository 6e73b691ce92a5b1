"""Pretrain a MambaCompressor through a frozen language model: `launch/compressor.py --config FILE`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transformers import TrainingArguments, set_seed

from launch import stage
from compressor.chat import chat_format
from compressor.curriculum import Curriculum
from compressor.data import CompressionCollator
from compressor.evaluation import describe_memory, memory_report
from compressor.kinds import learns, reads_llm_tokens
from compressor.seams import gathered_state, load_models_whole, whole_model
from compressor.trainer import CompressorTrainer, CurriculumCollator, ObjectiveWeights
from epo.data.dialogue import Dialogue
from epo.data.replies import Reply, replies_of
from epo.data.selection import replies_of_split, with_history
from epo.model.parts import build_compressor, load_llm, load_tokenizer
from epo.model.saving import save_weights
from epo.prompts.histories import history_of
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders
from epo.prompts.past_turns import utterance_of
from epo.training.schedule import schedule_of
from launch.folder.stage_folder import StageFolder, open_folder
from launch.keys.recipe_pieces import (
    BatchKeys,
    DataKeys,
    HistoryKeys,
    PartsKeys,
    PromptKeys,
    RepliesKeys,
    StageRecipe,
    WeightsKeys,
)
from launch.precision_check import require_precision
from launch.recipe import read_recipe
from launch.tracking import open_run
from launch.training import (
    check_lengths,
    check_words,
    fit,
    named,
    open_corpus,
    placed_texts,
    plan_batches,
)


@dataclass(kw_only=True)
class CompressorRecipe(DataKeys, RepliesKeys, PromptKeys, HistoryKeys, WeightsKeys, BatchKeys, PartsKeys, StageRecipe):
    """Train a Mamba compressor so that a frozen language model answers from its memory tokens alone."""

    llm: str = field(metadata={"help": "the language model that will read the memories: folder or hub name"})
    backbone: str = field(metadata={"help": "Mamba-2 (or Mamba): hub name, folder, or config .json"})
    kind: Literal["mamba", "gist", "mean_pool", "transformer", "truncate"] = field(
        default="mamba", metadata={"help": "what makes the memories; all but mamba are baselines"}
    )
    num_memory_tokens: int = field(default=2, metadata={"help": "k, memory tokens a turn"})
    next_reply_weight: float = field(default=1.0, metadata={"help": "weight of the gold reply's loss"})
    reconstruction_weight: float = field(default=0.1, metadata={"help": "weight of rebuilding a turn from its memory"})
    distillation_weight: float = field(
        default=0.0, metadata={"help": "weight of agreeing with the same model reading the whole history as text"}
    )
    backprop_tokens: int | None = field(
        default=None, metadata={"help": "cut back-propagation through a history after so many tokens; none: never"}
    )
    single_turns: float = field(default=0.05, metadata={"help": "share of training on single turns (phase one)"})
    short: float = field(default=0.55, metadata={"help": "share of training on 2-turn histories"})
    medium: float = field(default=0.2, metadata={"help": "share of training on 6-turn histories"})

    @property
    def reads_clips(self) -> bool:
        """Only words are compressed."""
        return False


RECIPES = [CompressorRecipe, TrainingArguments]


def run() -> None:
    """Build the compressor, train it, report what its memories keep, save it with its tokenizer."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    out = Path(args.output_dir)
    plan_batches(args, recipe.global_batch_size)
    dialogues = open_corpus(recipe.data)
    replies = replies_of_split(dialogues, "train", recipe.data, recipe.replies)
    examples = with_history(replies, "train", recipe.data)
    if stage.rank() == 0 and len(examples) < len(replies):
        print(f"{len(replies) - len(examples)} of {len(replies)} training replies have no past turn: left out")
    with open_folder(out, [recipe, args]) as folder:
        if not folder.is_done:
            _train(recipe, args, dialogues, examples, folder)


def _train(
    recipe: CompressorRecipe,
    args: TrainingArguments,
    dialogues: list[Dialogue],
    examples: list[Reply],
    folder: StageFolder,
) -> None:
    out = folder.path
    set_seed(args.seed)
    load_models_whole()
    llm_tokenizer = load_tokenizer(recipe.llm, ())
    memory_id = add_placeholders(llm_tokenizer)["memory_token_id"]
    check_words(llm_tokenizer, placed_texts(recipe.data, dialogues))
    layout = Layout(system_prompt=recipe.system_prompt, history_emotions=recipe.history_emotions)
    check_lengths(recipe.data, examples, llm_tokenizer, layout, recipe.max_prompt_tokens)
    llm = load_llm(recipe.llm, recipe.dtype, recipe.quantize)
    chat_format(llm_tokenizer).require_table(llm.get_input_embeddings().num_embeddings)
    compressor = build_compressor(recipe.backbone, recipe.num_memory_tokens, llm, recipe.system_prompt, recipe.kind)
    compressor.config.history_emotions = recipe.history_emotions
    compressor.cut_gradients(recipe.backprop_tokens)
    lines = _lines(dialogues, recipe.history_emotions)
    tokenizer = load_tokenizer(recipe.llm if reads_llm_tokens(recipe.kind) else recipe.backbone, lines)
    collator = CompressionCollator(
        tokenizer,
        llm_tokenizer,
        compressor.vocab_size,
        recipe.num_memory_tokens,
        recipe.max_prompt_tokens,
        has_text=recipe.distillation_weight > 0,
    )
    histories = [history_of(example, layout, i % 2 == 0) for i, example in enumerate(examples)]
    curriculum = Curriculum(recipe.single_turns, recipe.short, recipe.medium)
    weights = ObjectiveWeights(recipe.next_reply_weight, recipe.reconstruction_weight, recipe.distillation_weight)
    with open_run("compressor", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        trainer = CompressorTrainer(
            model=compressor,
            args=args,
            train_dataset=schedule_of(examples, args),
            data_collator=CurriculumCollator(histories, curriculum, collator),
            callbacks=[tracked.callback()],
            llm=llm,
            memory_id=memory_id,
            weights=weights,
        )
        results = named("train", fit(trainer)) if learns(recipe.kind) else {}
        state = gathered_state(trainer)
        with whole_model(trainer):
            if stage.rank() == 0:
                save_weights(compressor.config, state, out)
                tokenizer.save_pretrained(out)
                held_out = replies_of((d for d in dialogues if d.split == "validation"), recipe.replies)
                unseen = [history_of(example, layout, True) for example in held_out if example.history]
                report = memory_report(compressor, llm, unseen, collator, memory_id)
                print(f"{out.name}: {describe_memory(report)}", flush=True)
                results |= named("validation", report)
                tracked.log_metrics(results)
                folder.finish(results)


def _lines(dialogues: Iterable[Dialogue], with_emotions: bool) -> Iterator[str]:
    """Yield the lines of all training turns, what a tokenizer of our own is made from."""
    for dialogue in dialogues:
        if dialogue.split == "train":
            yield from (utterance_of(turn, with_emotions).line for turn in dialogue.turns)


if __name__ == "__main__":
    stage.main(run)
