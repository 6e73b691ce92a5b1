"""What `benchmarks/epo_step.py` lets train: made-up pairs, models of two sizes, stock TRL and this project's trainer.

Stock is `trl.DPOTrainer` on the `...ForCausalLM` of transformers: its collation layout, two rows a pair, its loss
(`loss_type: [sigmoid, sft]`), its LoRA, the model with the adapter off as reference. Of it only what fetches rows is
replaced: pairs are token ids already. Where a prompt has memories or a clip, a hook at the model's entrance puts their
vectors in the place of their tokens, for each row, as a user would let a dialogue model do it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from torch.utils.data import Sampler, SequentialSampler
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PrinterCallback, set_seed
from trl import DPOConfig, DPOTrainer

from compressor.curriculum import ScheduledDataset
from epo.data.cache import ClipCache
from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.model.clip_reader import ClipReader
from epo.model.encoded_context import CONTEXT_KEYS, EncodedContext
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.parts import build_compressor, build_extractor, load_llm, load_tokenizer
from epo.model.processing import EpoProcessor
from epo.preferences.pair import PreferencePair
from epo.prompts.marks import add_placeholders
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.encoder_cache import EncoderCache
from epo.training.lora import lora_config
from epo.training.reference_cache import ReferenceCache
from epo.training.trainer import EpoTrainer

PARTS = Path(__file__).parents[1] / "recipes" / "quickstart" / "parts"
SMOLLM2 = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}, "tie_word_embeddings": True,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
"""The shape of SmolLM2-135M."""
MEMORIES_A_TURN, FIRST_WORD, MEL_FRAMES, VIDEO_FRAMES = 4, 600, 300, 8
BETA, ALPHA, RATE = 0.1, 1.0, 0.05


@dataclass(frozen=True)
class Shape:
    """Sizes of made-up pairs.

    Attributes:
        pairs: a step.
        words: of the prompt, memories and clip not counted.
        reply: tokens of either reply.
        turns: of the history.
        turn: tokens of a past turn, where it is read as text and by the compressor.
    """

    pairs: int
    words: int
    reply: int
    turns: int = 0
    turn: int = 27


def make_model(real: bool, weights: str | None) -> tuple[EpoForConditionalGeneration, EpoProcessor]:
    """Return a model, the same at each call: the quickstart's parts, or its encoders around a model of SmolLM2's shape.

    Args:
        real: the second.
        weights: folder of a pretrained language model for it; None draws them.
    """
    set_seed(0)
    if not real:
        llm = load_llm(str(PARTS / "llm.json"), "float32")
    elif weights is None:
        config = dict(SMOLLM2)
        llm = AutoModelForCausalLM.from_config(AutoConfig.for_model(config.pop("model_type"), **config))
    else:
        llm = load_llm(weights, "float32")
    tokenizer = load_tokenizer(str(PARTS / "llm.json"), ["a few words"])
    extractor, feature_extractor, image_processor = build_extractor(
        str(PARTS / "whisper.json"), str(PARTS / "siglip.json"), {"augmentation": 0.0, "dropout": 0.0}
    )
    compressor = build_compressor(str(PARTS / "mamba2.json"), MEMORIES_A_TURN, llm)
    model = EpoForConditionalGeneration.from_parts(llm, extractor, compressor, tokenizer, add_placeholders(tokenizer))
    model.config.use_cache = False
    reader = ClipReader(feature_extractor, image_processor, 4.0, 4.0, VIDEO_FRAMES)
    history_tokenizer = load_tokenizer(str(PARTS / "mamba2.json"), ["a few words"])
    processor = EpoProcessor(
        reader.feature_extractor, reader.image_processor, tokenizer, history_tokenizer,
        history_vocab_size=compressor.vocab_size, num_memory_tokens=MEMORIES_A_TURN,
    )  # fmt: skip
    return model.eval(), processor


class TokenPairs(PairCollator):
    """Made-up pairs as `PairCollator` gives pairs: B rows with the chosen, then B with the rejected replies."""

    def __init__(self, rows: Sequence[dict[str, Any]], processor: EpoProcessor) -> None:
        """Batch rows of `prompt`, `chosen`, `rejected` (ids), and the tensors of one context each."""
        reply = Reply("made up", 1, (), Turn("user", "words"), "words", None)
        super().__init__([PreferencePair(reply, "words", None)] * len(rows), PromptBuilder(processor, ClipCache(None)))
        self._rows = rows

    def encode_prompts(self, indices: list[int]) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Return the ids of prompts, and the tensors behind their placeholders."""
        picked = [self._rows[i] for i in indices]
        context = {key: torch.stack([row[key] for row in picked]) for key in picked[0] if key not in _IDS}
        return [row["prompt"] for row in picked], context

    def encode_replies(self, indices: list[int]) -> list[list[int]]:
        """Return the ids of chosen, then of rejected replies."""
        return [self._rows[i][name] for name in ("chosen", "rejected") for i in indices]


_IDS = ("prompt", "chosen", "rejected")


def text_pairs(shape: Shape, count: int, model: EpoForConditionalGeneration) -> list[dict[str, Any]]:
    """Return pairs whose history is a part of the prompt's words."""
    draw, last = torch.Generator().manual_seed(1), model.config.text_config.vocab_size

    def ids(length: int) -> list[int]:
        drawn: list[int] = torch.randint(FIRST_WORD, last, (length,), generator=draw).tolist()
        return drawn

    length = shape.words + shape.turns * shape.turn
    return [{"prompt": ids(length), "chosen": ids(shape.reply), "rejected": ids(shape.reply)} for _ in range(count)]


def remembered_pairs(
    shape: Shape, count: int, model: EpoForConditionalGeneration, with_clips: bool
) -> list[dict[str, Any]]:
    """Return pairs whose history is memories, and that may have a clip; `words` then counts the clip's tokens too."""
    rows = text_pairs(Shape(shape.pairs, shape.words, shape.reply), count, model)
    draw, config = torch.Generator().manual_seed(2), model.config
    size = model.compressor.vocab_size
    slots = torch.arange(size, size + MEMORIES_A_TURN)
    memories = [config.memory_token_id] * (shape.turns * MEMORIES_A_TURN)
    side, mels = config.extractor_config.vision_config.image_size, config.extractor_config.audio_config.num_mel_bins
    for row in rows:
        turns = torch.randint(5, size, (shape.turns, shape.turn), generator=draw)
        row["history_ids"] = torch.cat([torch.cat([turn, slots]) for turn in turns])
        tokens: list[int] = []
        if with_clips:
            row["input_features"] = torch.randn(mels, MEL_FRAMES, generator=draw)
            row["num_mel_frames"] = torch.tensor(MEL_FRAMES)
            row["pixel_values"] = torch.randn(VIDEO_FRAMES, 3, side, side, generator=draw)
            row["num_video_frames"] = torch.tensor(VIDEO_FRAMES)
            tokens = _clip_tokens(model, row)
        row["prompt"] = memories + tokens + row["prompt"][: shape.words - len(tokens)]
    return rows


@torch.no_grad()
def _clip_tokens(model: EpoForConditionalGeneration, row: dict[str, Any]) -> list[int]:
    """Return a placeholder for each vector that the extractor makes of a clip."""
    clip = {key: row[key].unsqueeze(0) for key in CONTEXT_KEYS if key in row and key != "history_ids"}
    found = model.encode_context(**clip).vectors or {}
    return [token_id for token_id, (_, mask) in found.items() for _ in range(int(mask.sum()))]


@torch.no_grad()
def with_vectors(rows: list[dict[str, Any]], model: EpoForConditionalGeneration) -> list[dict[str, Any]]:
    """Return pairs whose memories are vectors already, made by the compressor: what stock then has for nothing."""
    found = []
    for row in rows:
        vectors, _ = (model.encode_context(row["history_ids"].unsqueeze(0)).vectors or {})[model.config.memory_token_id]
        found.append({key: row[key] for key in _IDS} | {"memory": vectors[0]})
    return found


# --- trainers ---


def settings(folder: Path, shape: Shape, steps: int) -> dict[str, Any]:
    """Return what both trainers are told: float32 on the CPU, plain gradient descent, no checkpoints.

    Adam divides by the gradient's own size, and would blow rounding in a gradient near zero up to a whole step.
    """
    return {
        "output_dir": str(folder), "per_device_train_batch_size": shape.pairs, "max_steps": steps, "use_cpu": True,
        "learning_rate": RATE, "optim": "sgd", "lr_scheduler_type": "constant", "logging_steps": 1, "beta": BETA,
        "save_strategy": "no", "report_to": "none", "gradient_checkpointing": False, "bf16": False,
        "disable_tqdm": True, "remove_unused_columns": False,
    }  # fmt: skip


class StockTrainer(DPOTrainer):
    """TRL's trainer, given rows that are token ids already, in their order."""

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)


class StockBatches:
    """Batches in TRL's layout: whatever belongs to a prompt comes once a row."""

    def __init__(self, collate: TokenPairs) -> None:
        self._collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Build a batch from `{"index": i}` rows."""
        batch = self._collate(rows)
        del batch["prompt_lengths"]
        whole = ("input_ids", "attention_mask", "completion_mask")
        return {key: value if key in whole else torch.cat([value] * 2) for key, value in batch.items()}


def let_read_vectors(model: EpoForConditionalGeneration) -> PreTrainedModel:
    """Return the stock language model of a model, at whose entrance memories and clips take their tokens' places."""
    llm: Any = model.language_model

    def enter(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ids = kwargs.pop("input_ids")
        encoded = {key: kwargs.pop(key) for key in CONTEXT_KEYS if key in kwargs}
        context = model.encode_context(**encoded)
        if (memory := kwargs.pop("memory", None)) is not None:
            mask = torch.ones(memory.shape[:2], dtype=torch.bool)
            context = EncodedContext(vectors={model.config.memory_token_id: (memory, mask)})
        return args, kwargs | {"inputs_embeds": model.embed_prompts(ids, context)}

    llm.base_model.register_forward_pre_hook(enter, with_kwargs=True)
    return llm  # type: ignore[no-any-return]


def stock_trainer(
    rows: list[dict[str, Any]], model: EpoForConditionalGeneration, processor: EpoProcessor, args: dict[str, Any]
) -> DPOTrainer:
    """Return `trl.DPOTrainer` on the language model of a model."""
    targets = [name.removeprefix("language_model.") for name in lora_config(model, 16, 32, 0.0).target_modules]
    model.requires_grad_(False)
    trainer = StockTrainer(
        let_read_vectors(model),
        args=DPOConfig(loss_type=["sigmoid", "sft"], loss_weights=[1.0, ALPHA], **args),
        train_dataset=Dataset.from_dict({"index": list(range(len(rows)))}),
        data_collator=StockBatches(TokenPairs(rows, processor)),
        processing_class=processor.tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=targets),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class InOrder(ScheduledDataset):
    """The order of the rows, which is stock's too."""

    def __init__(self, count: int) -> None:
        super().__init__(count, count, seed=0)

    def __getitem__(self, position: int) -> dict[str, Any]:
        """Return the row of a position."""
        return super().__getitem__(position) | {"index": position}


def our_trainer(
    rows: list[dict[str, Any]],
    model: EpoForConditionalGeneration,
    processor: EpoProcessor,
    args: dict[str, Any],
    scores: Path | None = None,
    encoded: Path | None = None,
) -> EpoTrainer:
    """Return this project's trainer on a model; the reference's scores, and encoded prompts, may be kept in folders."""
    trainer = EpoTrainer(
        model,
        args=EpoArguments(alpha=ALPHA, **args),
        train_dataset=InOrder(len(rows)),
        data_collator=TokenPairs(rows, processor),
        processing_class=processor,
        peft_config=lora_config(model, 16, 32, 0.0),
        reference_cache=None if scores is None else ReferenceCache(scores),
        encoder_cache=None if encoded is None else EncoderCache(encoded),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def lora_weights(trainer: Any) -> dict[str, Tensor]:
    """Return the weights that train, by their names inside the language model."""
    named = trainer.model.named_parameters()
    return {name[name.index("layers.") :]: p for name, p in named if p.requires_grad}


def start_alike(trainers: Sequence[Any]) -> None:
    """Give all trainers the LoRA of the first."""
    first = lora_weights(trainers[0])
    for trainer in trainers[1:]:
        for name, parameter in lora_weights(trainer).items():
            parameter.data.copy_(first[name].data)


__all__ = [
    "SMOLLM2",
    "Shape",
    "lora_weights",
    "make_model",
    "our_trainer",
    "remembered_pairs",
    "settings",
    "start_alike",
    "stock_trainer",
    "text_pairs",
    "with_vectors",
]
