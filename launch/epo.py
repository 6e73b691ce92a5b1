"""Emotional Preference Optimization by a LoRA, without which the model is the reference, or of all weights.

`launch/epo.py --config FILE`
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel

from launch import stage
from compressor.fixed_settings import default_of
from compressor.seams import load_models_whole, whole_model
from epo.data.cache import ClipCache
from epo.data.dialogue import Dialogue
from epo.evaluation.rewards import Logps, adapter_logps, pair_logps, reward_report
from epo.model.attention_masks import require_flex
from epo.model.family import load_of_family
from epo.model.loading import continue_adapter
from epo.model.quantized import has_rounded, quantized_line
from epo.preferences.pair import PreferencePair, pairs_of_split, pairs_to_learn
from epo.prompts.thought import Think, require_thoughts
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.encoder_cache import EncoderCache
from epo.training.lora import lora_config, num_trainable
from epo.training.reference_cache import ReferenceCache
from epo.training.schedule import schedule_of
from epo.training.term_needs import require_for_terms, require_kept_reference
from epo.training.trainer import EpoTrainer
from launch.adapter_check import require_trained_on
from launch.clip_check import read_clips_first
from launch.descriptions_check import require_same_descriptions
from launch.folder.stage_folder import StageFolder, open_folder
from launch.keys.recipe_pieces import (
    BatchKeys,
    ClipsKeys,
    DescribedDataKeys,
    LoraKeys,
    PartsKeys,
    StageRecipe,
    WeightsKeys,
)
from launch.precision_check import require_precision
from launch.recipe import RecipeError, read_recipe
from launch.tracking import open_run
from launch.training import check_words, fit, named, open_corpus, open_pairs, placed_texts, plan_batches, require_told


@dataclass(kw_only=True)
class EpoRecipe(DescribedDataKeys, LoraKeys, WeightsKeys, BatchKeys, ClipsKeys, PartsKeys, StageRecipe):
    """Prefer the gold reply over the counter-emotional one: sigmoid DPO loss plus weighted NLL of the gold reply."""

    pairs: str = field(metadata={"help": "pairs.jsonl written by launch/preferences.py"})
    model: str = field(metadata={"help": "folder written by launch/sft.py; also the reference"})
    tune: Literal["lora", "all"] = field(
        default="lora", metadata={"help": "of the language model: a LoRA, or all weights"}
    )
    adapter: str | None = field(
        default=None,
        metadata={
            "help": "folder of an earlier round of EPO on that model, to go on from; none: afresh",
            "role": "part",
        },
    )
    reference_cache: str | None = field(
        default=None,
        metadata={
            "help": "folder where the reference's scores of pairs are kept between runs; none: score at each step"
        },
    )
    encoder_cache: str | None = field(
        default=None,
        metadata={"help": "folder where encoded clips and histories are kept between steps and runs; none: run anew"},
    )

    def __post_init__(self) -> None:
        """Refuse keys that would do nothing where all weights train, and to train them with the reference not kept.

        Raises:
            RecipeError: names the key and the remedy.
        """
        if self.tune != "all":
            return
        changed = [key for key in _OF_LORA if getattr(self, key) != _default(key)]
        if changed:
            remedy = "name that round's folder as model" if changed[0] == "adapter" else "leave it out"
            raise RecipeError(
                f"{changed[0]} would do nothing: tune: all trains the language model's own weights, without a LoRA; "
                f"{remedy}, or set tune: lora"
            )
        if self.reference_cache is None:
            raise RecipeError(
                "reference_cache: with tune: all the reference scores the pairs before the first step, and is gone "
                "with it; name a folder where its scores are kept"
            )


_OF_LORA = ("lora_variant", "lora_rank", "lora_alpha", "adapter")


def _default(key: str) -> Any:
    return next(default_of(field) for field in fields(EpoRecipe) if field.name == key)


RECIPES = [EpoRecipe, EpoArguments]


def run() -> None:
    """Read pairs and model, train, report rewards on the validation pairs, save the adapter or the whole model."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    if args.flex_attention:
        require_flex(args.device)
    out = Path(args.output_dir)
    plan_batches(args, recipe.global_batch_size)
    by_id = {dialogue.id: dialogue for dialogue in open_corpus(recipe.data, recipe.descriptions, recipe.transcripts)}
    pairs = open_pairs(recipe.pairs, by_id)
    require_for_terms(pairs_to_learn(pairs, recipe.pairs, recipe.data), args, recipe.pairs)
    if recipe.tune == "all":
        require_kept_reference(args)
    if recipe.adapter is not None:
        require_trained_on(recipe.adapter, recipe.model, recipe.parts_root)
    require_same_descriptions(recipe.model, recipe.data, recipe.descriptions)
    with open_folder(out, [recipe, args]) as folder:
        if not folder.is_done:
            _train(recipe, args, pairs, by_id, folder)


def _train(
    recipe: EpoRecipe,
    args: EpoArguments,
    pairs: list[PreferencePair],
    by_id: dict[str, Dialogue],
    folder: StageFolder,
) -> None:
    train, validation = (pairs_of_split(pairs, split) for split in ("train", "validation"))
    out = folder.path
    load_models_whole()
    model, processor = load_of_family(recipe.model, recipe.dtype, args.bf16, recipe.quantize)
    think: Think = getattr(processor, "think", "none")
    require_told(recipe.descriptions, getattr(processor, "prompt_parts", ()), think)
    require_thoughts([pair.reply for pair in (*train, *validation)], think, recipe.pairs)
    if stage.rank() == 0 and recipe.quantize != "none":
        print(quantized_line(model))
        if has_rounded(model):
            print(f"the adapter is for this model held in {recipe.quantize}: evaluate it with quantize, too")
    build = PromptBuilder(processor, ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir)))
    check_words(processor.tokenizer, placed_texts(recipe.data, by_id.values()))
    check_words(
        processor.tokenizer,
        ((f"{recipe.pairs}: rejected reply of dialogue {p.dialogue_id!r}", p.rejected) for p in pairs),
    )
    read_clips_first((pair.reply.current.clip for pair in (*train, *validation)), processor.clips, build.cache)
    with open_run("epo", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        trainer = EpoTrainer(
            model=model,
            args=args,
            train_dataset=schedule_of([pair.reply for pair in train], args),
            data_collator=PairCollator(train, build),
            processing_class=processor,
            callbacks=[tracked.callback()],
            reference_cache=None if recipe.reference_cache is None else ReferenceCache(recipe.reference_cache),
            encoder_cache=None if recipe.encoder_cache is None else EncoderCache(recipe.encoder_cache),
            **_tuning(recipe, model, validation),
        )
        if recipe.adapter is not None:
            continue_adapter(trainer.model, recipe.adapter)
        if stage.rank() == 0 and recipe.tune == "all":
            print("trainable parameters: {:,} of {:,}".format(*num_trainable(trainer.model)))
        results = named("train", fit(trainer))
        _save(trainer, recipe, processor)
        reference = trainer.reference_of_held_out()
        with whole_model(trainer):
            if stage.rank() == 0:
                results |= named("validation", _validate(trainer, validation, build, reference))
                tracked.log_metrics(results)
                folder.finish(results)


def _tuning(recipe: EpoRecipe, model: Any, validation: list[PreferencePair]) -> dict[str, Any]:
    """Return what a trainer is told of what trains: a LoRA, or all weights and what else their reference must score."""
    if recipe.tune == "all":
        return {"tune": "all", "held_out": validation}
    variant = recipe.lora_variant
    return {"peft_config": lora_config(model, recipe.lora_rank, recipe.lora_alpha, 0.0, variant)}


def _save(trainer: EpoTrainer, recipe: EpoRecipe, processor: Any) -> None:
    """Write the adapter, or the whole model. All ranks take part."""
    out = Path(trainer.args.output_dir)
    if recipe.tune == "all":
        trainer.save_tuned(out, processor)
        return
    trainer.save_model(str(out))
    if stage.rank() == 0:
        (out / "training_args.bin").unlink()  # a pickle; recipe.yaml says the same


def _validate(
    trainer: EpoTrainer, pairs: list[PreferencePair], build: PromptBuilder, reference: Logps
) -> dict[str, float]:
    """Score the validation pairs against the model without its LoRA, or against what was scored before the first step.

    Args:
        trainer: its model is whole.
        pairs: of the validation split.
        build: makes their prompts.
        reference: of the pairs, where all weights trained.
    """
    policy, beta = trainer.accelerator.unwrap_model(trainer.model), trainer.args.beta
    if isinstance(policy, PeftModel):
        return reward_report(*adapter_logps(policy, pairs, build, label="validation"), pairs, beta)
    with trainer.compute_loss_context_manager():  # in the precision that the reference was read in
        return reward_report(pair_logps(policy, pairs, build, label="validation"), reference, pairs, beta)


if __name__ == "__main__":
    stage.main(run)
