"""Supervised tuning: a language model on text, or the whole model on gold replies: `launch/sft.py --config FILE`."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from transformers import TrainingArguments, set_seed

from launch import stage
from compressor.chat import chat_format
from compressor.curriculum import Curriculum, ScheduledDataset
from compressor.fixed_settings import default_of
from compressor.seams import gathered_state, load_models_whole, whole_model
from epo.data.cache import ClipCache
from epo.data.descriptions import repeated_descriptions
from epo.data.dialogue import Dialogue
from epo.data.replies import Reply, replies_of
from epo.data.selection import replies_of_split
from epo.evaluation.text_recall import text_recall
from epo.model.loading import join_parts, load_model
from epo.model.parts import load_llm, load_tokenizer
from epo.model.quantized import quantized_line
from epo.model.saving import save_weights
from epo.preferences.pair import pairs_to_learn
from epo.prompts.emotion_label import reply_text
from epo.prompts.layout import LAYOUT, Layout
from epo.prompts.text_prompts import TextPrompts
from epo.prompts.thought import Think, require_thoughts
from epo.training.collate import PromptBuilder, SftCollator, TextCollator
from epo.training.face_captions import QUESTION
from epo.training.lora import TUNED, num_trainable, prepare_for_tuning, say_left_out
from epo.training.schedule import schedule_of
from epo.training.sft import SftTrainer, TextTrainer
from launch.clip_check import read_clips_first
from launch.folder.stage_folder import open_folder
from launch.keys.recipe_pieces import (
    BatchKeys,
    ClipRepliesKeys,
    ClipsKeys,
    DescribedDataKeys,
    HistoryKeys,
    LoraKeys,
    PartsKeys,
    PromptKeys,
    StageRecipe,
    WeightsKeys,
)
from launch.planning.pipeline_files import require_parts_named
from launch.precision_check import require_precision
from launch.recipe import RecipeError, read_recipe
from launch.tracked_run import TrackedRun
from launch.tracking import open_run
from launch.training import (
    check_lengths,
    check_words,
    fit,
    named,
    open_corpus,
    open_pairs,
    placed_texts,
    plan_batches,
    require_told,
)


@dataclass(kw_only=True)
class SftRecipe(
    DescribedDataKeys,
    ClipRepliesKeys,
    PromptKeys,
    HistoryKeys,
    LoraKeys,
    WeightsKeys,
    BatchKeys,
    ClipsKeys,
    PartsKeys,
    StageRecipe,
):
    """Tune on gold replies: `input: text` a language model alone, `input: audio_visual` the whole model."""

    llm: str | None = field(default=None, metadata={"help": "hub name, folder, or config .json to start from nothing"})
    extractor: str | None = field(default=None, metadata={"help": "folder written by launch/extractor.py"})
    compressor: str | None = field(default=None, metadata={"help": "folder written by launch/compressor.py"})
    model: str | None = field(default=None, metadata={"help": "whole model to go on with, instead of the three parts"})
    pairs: str | None = field(default=None, metadata={"help": "pairs.jsonl: learn its chosen replies only"})
    input: Literal["text", "audio_visual"] = field(default="audio_visual", metadata={"help": "what the model reads"})
    trainable: list[str] = field(
        default_factory=lambda: list(TUNED),
        metadata={"help": "parts of parameter names that train"},
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout before LoRA"})
    compressor_learning_rate: float | None = field(
        default=None, metadata={"help": "its own rate; none: the common one"}
    )
    emotion_weight: float = field(default=0.5, metadata={"help": "weight of recognising the clip's emotion"})
    history_weight: float = field(default=0.15, metadata={"help": "text input: weight of tokens before the reply"})
    curriculum: bool = field(default=True, metadata={"help": "text input: short histories first"})
    modality_dropout: float | None = field(
        default=None, metadata={"help": "share of clips losing audio or video; none: 0.12, with pairs 0"}
    )
    clip_dropout: float | None = field(
        default=None, metadata={"help": "share of prompts without clip; none: 0.08, with pairs 0"}
    )
    prompt_parts: list[str] = field(
        default_factory=lambda: list(LAYOUT), metadata={"help": "what a prompt consists of, in order"}
    )
    think: Think = field(
        default="none",
        metadata={"help": "said first: the user's emotion, a sentence"},
    )
    user_words: Literal["true", "false", "asr"] = field(
        default="true",
        metadata={"help": "current turn's words, or transcript, in prompts"},
    )
    min_fact_recall: float | None = field(
        default=None, metadata={"help": "text input: stop if the validation split's fact recall is lower"}
    )
    global_batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse keys that would do nothing beside others.

        Raises:
            RecipeError: names the key, the other one, and the remedy.
        """
        if isinstance(self.user_words, bool):  # as YAML reads true and false
            self.user_words = "true" if self.user_words else "false"
        is_text = self.input == "text"
        for is_so, keys, why in (
            (is_text, _ONLY_WITH_CLIPS, "input: text trains a language model alone; leave it out"),
            (
                not is_text,
                ("history_emotions",),
                "the compressor, or the model, was made with it or without; leave it out",
            ),
            (not is_text, _ONLY_WITH_TEXT, "it belongs to input: text; leave it out"),
            (self.model is not None, _OF_A_WHOLE, "model is a whole one that has its own; leave one of them out"),
            (self.pairs is not None and not is_text, _REPLIES, "pairs says which replies are learnt; leave it out"),
        ):
            changed = [key for key in keys if getattr(self, key) != _default(key)] if is_so else []
            if changed:
                raise RecipeError(f"{changed[0]} would do nothing: {why}")
        self._settle_words()
        if self.model is None:
            require_told(self.descriptions, self.prompt_parts, self.think)
        if self.think == "words" and "description" in self.prompt_parts:
            raise RecipeError(
                "think: words would say what the part `description` of prompt_parts tells already; take one out"
            )

    def _settle_words(self) -> None:
        """Take the words out of prompts where the clip alone is to be answered, which a turn without one cannot be.

        Raises:
            RecipeError: names the keys that do not go together, and the remedy.
        """
        if (self.user_words == "asr") != (self.transcripts is not None):
            raise RecipeError("user_words: asr needs transcripts, and transcripts need user_words: asr; set both")
        if self.user_words != "false":
            return
        if self.input == "text" or self.model is not None:
            raise RecipeError("user_words: false is settled where a model is joined from its parts; leave it out here")
        if not self.require_clip or self.dropouts[1] > 0:
            raise RecipeError(
                "user_words: false leaves the clip alone to answer: set require_clip: true, clip_dropout: 0"
            )
        self.prompt_parts = [part for part in self.prompt_parts if part != "words"]

    @property
    def reads_clips(self) -> bool:
        """Text alone is read where the input is text."""
        return self.input == "audio_visual"

    @property
    def dropouts(self) -> tuple[float, float]:
        """Shares of clips that lose a half, and of prompts that lose their clip; EPO's control sees what EPO sees."""
        usual = (0.12, 0.08) if self.pairs is None else (0.0, 0.0)
        return (
            usual[0] if self.modality_dropout is None else self.modality_dropout,
            usual[1] if self.clip_dropout is None else self.clip_dropout,
        )


_PARTS = ("extractor", "compressor")
_OF_A_WHOLE = ("llm", *_PARTS, "max_prompt_tokens", "system_prompt", "prompt_parts", "think")
_REPLIES = ("replies", "require_clip")
_LORA = ("lora_variant", "lora_rank", "lora_alpha", "lora_dropout")
_ONLY_WITH_TEXT = ("history_weight", "curriculum", "min_fact_recall")
_ONLY_WITH_CLIPS = (
    *_PARTS, *_LORA, "model", "trainable", "compressor_learning_rate", "emotion_weight", "modality_dropout",
    "clip_dropout", "cache_dir", "think",
)  # fmt: skip


def _default(key: str) -> Any:
    return next(default_of(field) for field in fields(SftRecipe) if field.name == key)


RECIPES = [SftRecipe, TrainingArguments]


def run() -> None:
    """Read the recipe and tune what it names, unless that very run was finished before."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    require_parts_named(recipe)
    out = Path(args.output_dir)
    plan_batches(args, recipe.global_batch_size)
    dialogues = open_corpus(recipe.data, recipe.descriptions, recipe.transcripts)
    examples = _examples(recipe, dialogues)
    with open_folder(out, [recipe, args]) as folder:
        if folder.is_done:
            return
        set_seed(args.seed)
        load_models_whole()
        with open_run(out.name, recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
            tune = _tune_text if recipe.input == "text" else _tune_model
            dataset = schedule_of(examples, args)
            results = tune(recipe, args, examples, dataset, dialogues, tracked)
            if stage.rank() == 0:
                tracked.log_metrics(results)
                folder.finish(results)


def _examples(recipe: SftRecipe, dialogues: list[Dialogue]) -> list[Reply]:
    if recipe.pairs is None:
        replies = replies_of_split(dialogues, "train", recipe.data, recipe.replies, recipe.require_clip)
        if recipe.input == "text" and recipe.descriptions is not None:  # what a face is taught through must say them
            replies += repeated_descriptions((d for d in dialogues if d.split == "train"), QUESTION)
        return replies
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    pairs = open_pairs(recipe.pairs, by_id)
    return [pair.reply for pair in pairs_to_learn(pairs, recipe.pairs, recipe.data)]


def _tune_text(
    recipe: SftRecipe,
    args: TrainingArguments,
    examples: list[Reply],
    dataset: ScheduledDataset,
    dialogues: list[Dialogue],
    tracked: TrackedRun,
) -> dict[str, Any]:
    """Train all weights of a language model on whole dialogues and check that it can repeat facts."""
    assert recipe.llm is not None
    held_out = _held_out_facts(recipe, dialogues)
    # With their labels, so that emotion words become tokens too.
    turns = [turn for d in dialogues if d.split == "train" for turn in d.turns]
    texts = [reply_text(turn.text, turn.emotion) for turn in turns]
    texts += [turn.description for turn in turns if recipe.descriptions is not None and turn.description is not None]
    tokenizer = load_tokenizer(recipe.llm, texts)
    check_words(tokenizer, placed_texts(recipe.data, dialogues))
    layout = Layout(recipe.prompt_parts, recipe.system_prompt, recipe.history_emotions)
    prompts = TextPrompts(tokenizer, layout, recipe.max_prompt_tokens)
    check_lengths(recipe.data, examples, tokenizer, prompts.layout, recipe.max_prompt_tokens)
    llm = load_llm(recipe.llm, recipe.dtype)
    chat_format(tokenizer).require_table(llm.get_input_embeddings().num_embeddings)
    curriculum = Curriculum() if recipe.curriculum else Curriculum(short=0, medium=0)
    trainer = TextTrainer(
        model=llm,
        args=args,
        train_dataset=dataset,
        data_collator=TextCollator(examples, prompts, curriculum, recipe.history_weight),
        callbacks=[tracked.callback()],
    )
    results: dict[str, Any] = named("train", fit(trainer))
    state = gathered_state(trainer)
    with whole_model(trainer):
        if stage.rank() == 0:
            save_weights(llm.config, state, Path(args.output_dir))
            tokenizer.save_pretrained(args.output_dir)
            results |= named("validation", _fact_recall(recipe, llm, prompts, held_out))
    return results


def _held_out_facts(recipe: SftRecipe, dialogues: list[Dialogue]) -> list[Reply]:
    """Return the validation split's replies that must repeat facts.

    Raises:
        RecipeError: there are none, and `min_fact_recall` asks for them.
    """
    held_out = replies_of((d for d in dialogues if d.split == "validation"), recipe.replies)
    found = [reply for reply in held_out if reply.facts]
    if recipe.min_fact_recall is not None and not found:
        raise RecipeError(f"min_fact_recall: no validation reply of {recipe.data} has facts; leave the key out")
    return found


def _fact_recall(recipe: SftRecipe, llm: Any, prompts: TextPrompts, held_out: list[Reply]) -> dict[str, float]:
    """Return the share of facts repeated, nothing where there are none.

    Raises:
        RecipeError: it is below `min_fact_recall`.
    """
    if not held_out:
        return {}
    recall = text_recall(llm, prompts, held_out, [reply.facts for reply in held_out])
    if recipe.min_fact_recall is not None and recall < recipe.min_fact_recall:
        raise RecipeError(
            f"the language model repeats only {recall:.2f} of the facts it reads, want {recipe.min_fact_recall}; a "
            "compressor cannot teach it that: raise max_steps"
        )
    return {"fact_recall": recall}


def _tune_model(
    recipe: SftRecipe,
    args: TrainingArguments,
    examples: list[Reply],
    dataset: ScheduledDataset,
    dialogues: list[Dialogue],
    tracked: TrackedRun,
) -> dict[str, Any]:
    """Train LoRA, extractor, projections and compressor together, and save the model with the LoRA part of it."""
    if recipe.model is not None:
        model, processor = load_model(recipe.model, recipe.dtype, args.bf16, recipe.quantize)
        require_told(recipe.descriptions, processor.prompt_parts, processor.think)
    else:
        assert recipe.llm is not None and recipe.extractor is not None and recipe.compressor is not None
        model, processor = join_parts(
            recipe.llm,
            recipe.extractor,
            recipe.compressor,
            dtype=recipe.dtype,
            quantize=recipe.quantize,
            max_prompt_tokens=recipe.max_prompt_tokens,
            system_prompt=recipe.system_prompt,
            prompt_parts=recipe.prompt_parts,
            think=recipe.think,
        )
    require_thoughts(examples, processor.think, recipe.data)
    check_words(processor.tokenizer, placed_texts(recipe.data, dialogues))
    check_lengths(recipe.data, examples, processor.tokenizer, processor.layout, processor.max_prompt_tokens)
    cache = ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir))
    read_clips_first((example.current.clip for example in examples), processor.clips, cache)
    prepare_for_tuning(
        model, recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout, recipe.trainable, recipe.lora_variant
    )
    trains_lora = any(p.requires_grad for name, p in model.named_parameters() if ".lora_" in name)
    if not trains_lora and any(getattr(recipe, key) != _default(key) for key in _LORA):
        raise RecipeError(f"{', '.join(_LORA)} would do nothing: add lora_ to trainable, or leave them out")
    if stage.rank() == 0:
        print("trainable parameters: {:,} of {:,}".format(*num_trainable(model)))
        say_left_out(model)
        if recipe.quantize != "none":
            print(quantized_line(model))
    rate = recipe.compressor_learning_rate
    trainer = SftTrainer(
        model=model,
        args=args,
        train_dataset=dataset,
        data_collator=SftCollator(
            examples,
            PromptBuilder(processor, cache),
            *recipe.dropouts,
        ),
        callbacks=[tracked.callback()],
        emotion_weight=recipe.emotion_weight,
        learning_rates={} if rate is None else {"compressor": rate},
    )
    results: dict[str, Any] = named("train", fit(trainer))
    trainer.save_tuned(args.output_dir, processor)
    return results


if __name__ == "__main__":
    stage.main(run)
