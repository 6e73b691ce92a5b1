"""Emotional Preference Optimization with LoRA; without it the model is the reference: `launch/epo.py --config FILE`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from peft import PeftModel
from trl import DPOConfig

from launch import stage
from compressor.seams import load_models_whole, whole_model
from epo.data.cache import ClipCache
from epo.data.dialogue import Dialogue
from epo.evaluation.rewards import adapter_logps, reward_report
from epo.preferences.pair import PreferencePair, read_pairs
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.examples import PairExample, pair_examples, pairs_to_learn
from epo.training.lora import lora_config
from epo.training.trainer import EpoTrainer, pair_rows
from launch.clip_check import read_clips_first
from launch.model import load_model
from launch.precision import require_precision
from launch.recipe import RecipeError, StageRecipe, read_recipe
from launch.stage_folder import StageFolder, open_folder
from launch.tracking import open_run
from launch.training import check_words, fit, open_corpus, placed_texts, plan_batches


@dataclass(kw_only=True)
class EpoRecipe(StageRecipe):
    """Prefer the gold reply over the counter-emotional one: sigmoid DPO loss plus weighted NLL of the gold reply."""

    data: str = field(metadata={"help": "dialogues.jsonl"})
    pairs: str = field(metadata={"help": "pairs.jsonl written by launch/preferences.py"})
    model: str = field(metadata={"help": "folder written by launch/sft.py; also the reference"})
    alpha: float = field(default=1.0, metadata={"help": "weight of the gold reply's NLL, in nats a token"})
    share_prompts: bool = field(
        default=True,
        metadata={"help": "read each prompt once a pair; switch off for attention kernels without 4-D masks"},
    )
    lora_rank: int = field(default=16, metadata={"help": "rank of the LoRA on the language model"})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA's alpha (not the loss's)"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout before LoRA"})
    dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "of the weights"})
    global_batch_size: int = field(default=8, metadata={"help": "pairs an optimizer step, over all ranks"})
    cache_dir: str | None = field(default=None, metadata={"help": "folder for decoded features; none decodes anew"})


RECIPES = [EpoRecipe, DPOConfig]


def run() -> None:
    """Read pairs and model, train the LoRA, report rewards on the validation pairs, save the adapter."""
    recipe, args = read_recipe(RECIPES)
    require_precision(recipe, args)
    _set_loss(recipe, args)
    out = Path(args.output_dir)
    plan_batches(args, recipe.global_batch_size)
    by_id = {dialogue.id: dialogue for dialogue in open_corpus(recipe.data)}
    pairs = read_pairs(recipe.pairs, by_id)
    pairs_to_learn(pairs, by_id, recipe.pairs, recipe.data)
    with open_folder(out, [recipe, args]) as folder:
        if not folder.is_done:
            _train(recipe, args, pairs, by_id, folder)


def _train(
    recipe: EpoRecipe,
    args: DPOConfig,
    pairs: list[PreferencePair],
    by_id: dict[str, Dialogue],
    folder: StageFolder,
) -> None:
    train, validation = (pair_examples(pairs, by_id, split) for split in ("train", "validation"))
    out = folder.path
    load_models_whole()
    model, processor = load_model(recipe.model, recipe.dtype, args.bf16)
    # Policy and reference must see the very same clip: no random changes to it here.
    model.model.extractor.config.augmentation = 0.0
    build = PromptBuilder(processor, ClipCache(None if recipe.cache_dir is None else Path(recipe.cache_dir)))
    check_words(processor.tokenizer, placed_texts(recipe.data, by_id.values()))
    check_words(
        processor.tokenizer,
        ((f"{recipe.pairs}: rejected reply of dialogue {p.dialogue_id!r}", p.rejected) for p in pairs),
    )
    read_clips_first((pair.example.current.clip for pair in (*train, *validation)), processor.clips, build.cache)
    with open_run("epo", recipe.pipeline, recipe.experiment, out, folder.resolved) as tracked:
        trainer = EpoTrainer(
            model=model,
            args=args,
            train_dataset=pair_rows(len(train)),
            data_collator=PairCollator(train, build, recipe.share_prompts),
            processing_class=processor,
            callbacks=[tracked.callback()],
            peft_config=lora_config(model, recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout),
        )
        results = fit(trainer)
        trainer.save_model(str(out))
        with whole_model(trainer):
            if stage.rank() == 0:
                (out / "training_args.bin").unlink()  # a pickle; recipe.yaml says the same
                policy = trainer.accelerator.unwrap_model(trainer.model)
                results |= _validate(policy, validation, build, args.beta)
                tracked.log_metrics({f"validation/{name}": value for name, value in results.items()})
                folder.finish(results)


def _set_loss(recipe: EpoRecipe, args: DPOConfig) -> None:
    """Write the EPO objective as TRL's loss types.

    Raises:
        RecipeError: the recipe also sets TRL's own keys for it.
    """
    if args.loss_type not in (["sigmoid"], "sigmoid") or args.loss_weights is not None:
        raise RecipeError("loss_type, loss_weights: EPO fixes both; set beta and alpha instead")
    args.loss_type, args.loss_weights = ["sigmoid", "sft"], [1.0, recipe.alpha]
    args.max_length = None  # the processor drops old turns; TRL's cut would take placeholders or the reply


def _validate(policy: PeftModel, pairs: list[PairExample], build: PromptBuilder, beta: float) -> dict[str, float]:
    """Score the validation pairs against the model without its LoRA."""
    return reward_report(*adapter_logps(policy, pairs, build), pairs, beta)


if __name__ == "__main__":
    stage.main(run)
