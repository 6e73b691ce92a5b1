"""Emotional Preference Optimization with LoRA; without it the model is the reference: `launch/epo.py --config FILE`."""

from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftModel

from launch import stage
from compressor.seams import load_models_whole, whole_model
from epo.data.cache import ClipCache
from epo.data.dialogue import Dialogue
from epo.evaluation.rewards import adapter_logps, reward_report
from epo.model.family import load_of_family
from epo.model.loading import continue_adapter
from epo.model.quantized import has_rounded, quantized_line
from epo.preferences.pair import PreferencePair, pairs_of_split, pairs_to_learn
from epo.prompts.thought import Think, require_thoughts
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.reference_cache import ReferenceCache
from epo.training.schedule import schedule_of
from epo.training.term_needs import require_for_terms
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
from launch.recipe import read_recipe
from launch.tracking import open_run
from launch.training import check_words, fit, named, open_corpus, open_pairs, placed_texts, plan_batches, require_told


@dataclass(kw_only=True)
class EpoRecipe(DescribedDataKeys, LoraKeys, WeightsKeys, BatchKeys, ClipsKeys, PartsKeys, StageRecipe):
    """Prefer the gold reply over the counter-emotional one: sigmoid DPO loss plus weighted NLL of the gold reply."""

    pairs: str = field(metadata={"help": "pairs.jsonl written by launch/preferences.py"})
    model: str = field(metadata={"help": "folder written by launch/sft.py; also the reference"})
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


RECIPES = [EpoRecipe, EpoArguments]


def run() -> None:
    """Read pairs and model, train the LoRA, report rewards on the validation pairs, save the adapter."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    out = Path(args.output_dir)
    plan_batches(args, recipe.global_batch_size)
    by_id = {dialogue.id: dialogue for dialogue in open_corpus(recipe.data, recipe.descriptions, recipe.transcripts)}
    pairs = open_pairs(recipe.pairs, by_id)
    require_for_terms(pairs_to_learn(pairs, recipe.pairs, recipe.data), args, recipe.pairs)
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
            peft_config=lora_config(model, recipe.lora_rank, recipe.lora_alpha, 0.0, recipe.lora_variant),
            reference_cache=None if recipe.reference_cache is None else ReferenceCache(recipe.reference_cache),
        )
        if recipe.adapter is not None:
            continue_adapter(trainer.model, recipe.adapter)
        results = named("train", fit(trainer))
        trainer.save_model(str(out))
        with whole_model(trainer):
            if stage.rank() == 0:
                (out / "training_args.bin").unlink()  # a pickle; recipe.yaml says the same
                policy = trainer.accelerator.unwrap_model(trainer.model)
                results |= named("validation", _validate(policy, validation, build, args.beta))
                tracked.log_metrics(results)
                folder.finish(results)


def _validate(policy: PeftModel, pairs: list[PreferencePair], build: PromptBuilder, beta: float) -> dict[str, float]:
    """Score the validation pairs against the model without its LoRA."""
    return reward_report(*adapter_logps(policy, pairs, build, label="validation"), pairs, beta)


if __name__ == "__main__":
    stage.main(run)
