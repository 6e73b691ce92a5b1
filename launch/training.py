"""What the training stages share: exact batches, resuming, and how a finished part is saved."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.integrations import unset_hf_deepspeed_config
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from trl.models.utils import unwrap_model_for_generation

from launch import stage
from compressor.curriculum import ScheduledDataset
from epo.data.dialogue import DataError, Dialogue, Split, read_dialogues
from epo.model.extractor import EmotionExtractor
from epo.model.processing import refuse_tokens, special_tokens
from epo.training.examples import Example
from launch.progress import show_own_progress
from launch.recipe import RecipeError, accumulation_steps


def plan_batches(args: TrainingArguments, global_batch_size: int) -> int:
    """Set accumulation so that the global batch is exact, and return the samples of the whole run.

    Raises:
        RecipeError: the batch does not divide, or `max_steps` is not set.
    """
    if args.max_steps <= 0:
        raise RecipeError("max_steps: set the number of optimizer steps; the schedule and the curriculum depend on it")
    args.gradient_accumulation_steps = accumulation_steps(
        global_batch_size, args.per_device_train_batch_size, stage.num_ranks()
    )
    return args.max_steps * global_batch_size


def schedule(examples: Sequence[Example], num_samples: int, seed: int, global_batch_size: int) -> ScheduledDataset:
    """Return the order of training on replies, those with histories of like length together."""
    lengths = [sum(len(turn.text) for turn in example.history) for example in examples]
    return ScheduledDataset(len(examples), num_samples, seed, lengths, global_batch_size)


def load_models_whole() -> None:
    """Let no model be sharded before it is trained: parts are measured and joined first.

    Under ZeRO-3 `TrainingArguments` makes transformers shard each model as it is loaded; the trainer shards what it
    trains all the same, later.
    """
    unset_hf_deepspeed_config()


def fit(trainer: Trainer) -> dict[str, float]:
    """Train, from the last complete checkpoint in the output folder if there is one, and return final metrics."""
    _gather_together(trainer.model)
    output_dir = Path(trainer.args.output_dir)
    show_own_progress(trainer, output_dir.name)
    checkpoint = last_checkpoint(output_dir)
    if checkpoint is not None and stage.rank() == 0:
        print(f"resuming from {checkpoint}")
    result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return dict(result.metrics)


def _gather_together(model: nn.Module) -> None:
    """Let ZeRO-3 gather a Mamba mixer and the extractor whole: both read weights of modules that they do not call."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") != "true":
        return
    from deepspeed.utils import set_z3_leaf_module

    for module in model.modules():
        if isinstance(module, MambaMixer | Mamba2Mixer | EmotionExtractor):
            set_z3_leaf_module(module, True)


def last_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end; `trainer_state.json` comes last."""
    complete = [path.parent for path in output_dir.glob("checkpoint-*/trainer_state.json")]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def gathered_state(trainer: Trainer) -> dict[str, Any]:
    """Return the full state dict on rank 0, gathered where ZeRO-3 spread it, and anything elsewhere.

    Every rank must call it.
    """
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if state is None:  # ZeRO-3 gives it to rank 0 alone
        return {}
    # ZeRO-3 also hands out pieces of one large buffer, which safetensors would take for tied weights.
    return {name: tensor if _owns_storage(tensor) else tensor.clone() for name, tensor in state.items()}


def _owns_storage(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


@contextlib.contextmanager
def whole_model(trainer: Trainer) -> Iterator[None]:
    """Let one rank alone use the trained model, gathered where ZeRO-3 spread it. Every rank must enter."""
    offload = getattr(getattr(trainer.model_wrapped, "optimizer", None), "parameter_offload", None)
    if offload is not None:  # ZeRO-3: TRL leaves one hook, by which ranks compare notes at each forward
        offload.fwd_pre_hook.remove()
    unset_hf_deepspeed_config()  # the trainer set it again; `generate` would wait for the other ranks at each token
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator):
        yield


def save_weights(config: PreTrainedConfig, state: dict[str, Any], folder: Path) -> None:
    """Write a config and safetensors that `from_pretrained` reads back; a tied head is not written twice."""
    config.save_pretrained(folder)
    if getattr(config, "tie_word_embeddings", False):
        state = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    save_torch_state_dict(state, folder)


def split_of(dialogues: list[Dialogue], split: Split, path: str) -> list[Dialogue]:
    """Return the dialogues of a split.

    Raises:
        DataError: there are none.
    """
    found = [dialogue for dialogue in dialogues if dialogue.split == split]
    if not found:
        raise DataError(f"{path}: no dialogue has split {split!r}; `python launch/data.py import` assigns splits")
    return found


def check_words(tokenizer: PreTrainedTokenizerBase, texts: Iterable[tuple[str, str]]) -> None:
    """Refuse texts with special tokens in them, before training starts.

    Args:
        tokenizer: the language model's.
        texts: where each stands, such as "dialogues.jsonl: dialogue 'd1', turn 3", and the text.

    Raises:
        DataError: names the place and the token.
    """
    special = special_tokens(tokenizer)
    for place, text in texts:
        try:
            refuse_tokens(text, special)
        except DataError as error:
            raise DataError(f"{place}: {error}") from None


def placed_texts(path: str, dialogues: Iterable[Dialogue]) -> Iterator[tuple[str, str]]:
    """Yield where each turn stands, and its text."""
    for dialogue in dialogues:
        for number, turn in enumerate(dialogue.turns):
            yield f"{path}: dialogue {dialogue.id!r}, turn {number}", turn.text


def open_corpus(path: str) -> list[Dialogue]:
    """Read and validate a dialogues file."""
    return list(read_dialogues(path))
