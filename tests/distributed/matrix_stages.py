"""The training stages of the matrix of test_precision.py: their recipes, and a loss of what each of them made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from launch import compressor, epo, extractor, sft
from compressor.curriculum import Curriculum
from compressor.data import CompressionCollator
from compressor.evaluation import memory_report
from compressor.objectives import reply_nll
from epo.data.cache import ClipCache
from epo.data.dialogue import read_dialogues
from epo.data.replies import replies_of
from epo.data.selection import labelled_clips
from epo.evaluation.rewards import pair_logps
from epo.model.clip_reader import ClipReader
from epo.model.extractor import emotion_loss
from epo.model.loading import load_model
from epo.model.parts import DTYPES, load_llm, load_tokenizer
from epo.model.processing import EpoProcessor
from epo.preferences.pair import pairs_of_split, read_pairs
from epo.prompts.histories import history_of
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders
from epo.prompts.text_prompts import TextPrompts
from epo.training.collate import ClipCollator, PromptBuilder, SftCollator, TextCollator

STEPS = 3
PRECISIONS = ("float32", "bfloat16")
_ROWS = [{"index": i, "seed": 0, "progress": 1.0} for i in range(4)]


@dataclass(frozen=True)
class Stage:
    """One row of the matrix.

    Attributes:
        name: of its folder.
        script: the module of `launch/` that runs it.
        keys: of its recipe, given the folder of the parts and that of the stages before it.
        has_dtype: whether weights that stand still have a dtype to choose.
        keeps_reference: whether what the reference says is kept in a folder; each way of sharding fills its own.
        loss: of a model on held-out rows, given the stage's folder, the folders of `keys`, and the corpus; in nats.
        load: the model from its folder, in the dtype that the stage before would have had it in.
    """

    name: str
    script: ModuleType
    keys: Callable[[Path, Path], dict[str, Any]]
    has_dtype: bool
    loss: Callable[[Any, Path, Path, Path], torch.Tensor]
    load: Callable[[Path, Path, str], Any]
    keeps_reference: bool = False


def recipe(stage: Stage, precision: str, parts: Path, before: Path, corpus: Path, out: Path) -> dict[str, Any]:
    """Return the recipe of a stage; nothing in it is random but what depends on the position alone."""
    keys = {
        "data": str(corpus / "dialogues.jsonl"), "output_dir": str(out), "max_steps": STEPS, "logging_steps": 1,
        "global_batch_size": 4, "save_strategy": "no", "learning_rate": 0.01, "lr_scheduler_type": "constant",
        "warmup_steps": 0, "disable_tqdm": True, "bf16": precision == "bfloat16", "use_cpu": True,
        "per_device_train_batch_size": 2,
    }  # fmt: skip
    dtype = {"dtype": precision} if stage.has_dtype else {}
    kept = {"reference_cache": f"{out}-reference", "encoder_cache": f"{out}-encoded"} if stage.keeps_reference else {}
    return keys | dtype | kept | stage.keys(parts, before)


def _loss_of_extractor(model: Any, folder: Path, before: Path, corpus: Path) -> torch.Tensor:
    clips = labelled_clips(_held_out(corpus))
    batch = ClipCollator(clips, ClipReader.load(folder), ClipCache(None))(_ROWS)
    return emotion_loss(model(**batch), batch["emotions"])


def _loss_of_text(model: Any, folder: Path, before: Path, corpus: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = TextCollator(_examples(corpus), TextPrompts(tokenizer), Curriculum(), history_weight=0.15)(_ROWS)
    return reply_nll(model(input_ids=batch["input_ids"], use_cache=False).logits, batch["labels"])


def _loss_of_compressor(model: Any, folder: Path, before: Path, corpus: Path) -> torch.Tensor:
    llm, words = load_llm(str(before / "text"), "float32").to(model.dtype), load_tokenizer(str(before / "text"), ())
    memory_id = add_placeholders(words)["memory_token_id"]
    collator = CompressionCollator(AutoTokenizer.from_pretrained(folder), words, model.vocab_size, 2)
    histories = [history_of(example, Layout(), True) for example in _examples(corpus)]
    return torch.tensor(memory_report(model, llm.eval(), histories, collator, memory_id)["reply_nll"])


def _loss_of_sft(model: Any, folder: Path, before: Path, corpus: Path) -> torch.Tensor:
    batch = SftCollator(_examples(corpus), PromptBuilder(EpoProcessor.from_pretrained(folder), ClipCache(None)))(_ROWS)
    labels, _ = batch.pop("labels"), batch.pop("emotions")
    return reply_nll(model(**batch, use_cache=False).logits, labels)


def _loss_of_epo(model: Any, folder: Path, before: Path, corpus: Path) -> torch.Tensor:
    by_id = {dialogue.id: dialogue for dialogue in read_dialogues(corpus / "dialogues.jsonl")}
    pairs = pairs_of_split(read_pairs(corpus / "pairs.jsonl", by_id), "validation")
    build = PromptBuilder(EpoProcessor.from_pretrained(before / "sft"), ClipCache(None))
    chosen, rejected = pair_logps(model, pairs, build)
    return (rejected - chosen).float().mean()  # minus the margin, which is what falls


def _held_out(corpus: Path) -> list[Any]:
    return [dialogue for dialogue in read_dialogues(corpus / "dialogues.jsonl") if dialogue.split != "train"]


def _examples(corpus: Path) -> list[Any]:
    return replies_of(_held_out(corpus), "last")


def _load_adapter(folder: Path, before: Path, dtype: str) -> Any:
    return PeftModel.from_pretrained(load_model(str(before / "sft"), dtype)[0], folder)


_CLIPS = {"dropout": 0.0, "augmentation": 0.0, "modality_dropout": 0.3, "max_frames": 4, "max_audio_seconds": 4.0}
_LORA = {"lora_rank": 4, "lora_alpha": 8}

STAGES = (
    Stage(
        "extractor", extractor,
        lambda parts, before: _CLIPS | {
            "audio_encoder": f"{parts}/whisper.json", "vision_tower": f"{parts}/siglip.json", "hidden_size": 16,
            "num_heads": 2,
        },
        False, _loss_of_extractor,
        lambda folder, before, dtype: AutoModel.from_pretrained(folder, dtype=DTYPES[dtype]),
    ),
    Stage(
        "text", sft, lambda parts, before: {"input": "text", "llm": f"{parts}/llm.json"},
        False, _loss_of_text,
        lambda folder, before, dtype: AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[dtype]),
    ),
    Stage(
        "compressor", compressor,
        lambda parts, before: {"llm": f"{before}/text", "backbone": f"{parts}/mamba2.json", "distillation_weight": 1.0},
        True, _loss_of_compressor,
        lambda folder, before, dtype: AutoModel.from_pretrained(folder, dtype=DTYPES[dtype]),
    ),
    Stage(
        "sft", sft,
        lambda parts, before: _LORA | {
            "llm": f"{before}/text", "extractor": f"{before}/extractor", "compressor": f"{before}/compressor",
        },
        True, _loss_of_sft, lambda folder, before, dtype: load_model(str(folder), dtype)[0],
    ),
    Stage(
        "epo", epo, lambda parts, before: _LORA | {
            "model": f"{before}/sft", "pairs": f"{parts}/pairs.jsonl",
        },
        True, _loss_of_epo, _load_adapter,
    ),
    Stage(
        "epo_all", epo, lambda parts, before: {
            "model": f"{before}/sft", "pairs": f"{parts}/pairs.jsonl", "tune": "all", "learning_rate": 0.005,
        },
        True, _loss_of_epo, lambda folder, before, dtype: load_model(str(folder), dtype)[0], True,
    ),
)  # fmt: skip
"""In the order in which each finds what it needs in the folders of those before it."""
