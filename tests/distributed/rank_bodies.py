"""What one rank does: meet the others at a file, check the reductions, and train the tiny model twice over."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_rank
import pytest
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import Trainer, TrainingArguments

from compressor.checkpoints import checkpoint_commit
from compressor.curriculum import ScheduledDataset
from compressor.scheduled_trainer import LossTerms, NonFiniteError, require_finite
from compressor.seams import gathered_state
from epo import ranks
from epo.data.cache import ClipCache
from epo.data.dialogue import read_dialogues
from epo.data.replies import replies_of
from epo.data.selection import TaughtClip
from epo.model.extractor import EmotionExtractor
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.processing import EpoProcessor
from epo.preferences.pair import pairs_of_split, read_pairs
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder, SftCollator
from epo.training.encoder_cache import EncoderCache
from epo.training.lora import lora_config
from epo.training.reference_cache import ReferenceCache
from epo.training.sft import SftTrainer
from epo.training.trainer import EpoTrainer
from epo.training.vad import VadCollator, VadTrainer

STEPS = 3


def start(rank: int, body: Callable[..., None], store: str, world: int, arguments: tuple[Any, ...]) -> None:
    """Join the other ranks as `accelerate launch` would have it, and run a body."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "OMP_NUM_THREADS": 1}
    os.environ |= {name: str(value) for name, value in names.items()}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        body(rank, *arguments)
    finally:
        dist.destroy_process_group()
    # Once in some hundred runs, all done, torn down threads aborted a rank ("terminate called without an active
    # exception"): what was to be shown has been shown, so nothing is torn down.
    sys.stdout.flush()
    os._exit(0)


def check_and_train(rank: int, model: str, corpus: str, out: str) -> None:
    """All that needs two ranks, in one go: starting them costs seconds."""
    check_terms(rank)
    check_finite(rank)
    check_shares(rank)
    check_saves(rank, Path(out) / "saves")
    train_sft(model, corpus, out, accumulation=1)
    train_epo(model, corpus, out, accumulation=1)
    train_epo(model, corpus, out, accumulation=1, cache=f"{out}/reference")
    train_epo(model, corpus, out, accumulation=1, tokens_per_row=400)
    train_vad(model, corpus, out, accumulation=1)
    enter_fsdp()
    train_epo(model, corpus, out, accumulation=1, cache=f"{out}/reference2", tokens_per_row=400, kind="sharded")


def enter_fsdp() -> None:
    """Let the next trainer of this process find what accelerate's launcher says for FSDP2."""
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
    AcceleratorState._reset_state()


def stop_and_go_on_sharded(rank: int, folder: str) -> None:
    """Train under FSDP2 undisturbed, and again with a stop after which the newest checkpoint loses a file."""
    for run, stop in (("undisturbed", 0), ("stopped", 4), ("stopped", 0)):
        enter_fsdp()
        checkpoint_rank.main(f"{folder}/{run}", f"{folder}/{run}-{stop}.json", stop)
        dist.barrier()
        if rank == 0 and stop:
            newest = Path(folder) / run / f"checkpoint-{stop}"
            names = sorted(path.name for path in newest.iterdir())
            (Path(folder) / "found.json").write_text(json.dumps([names, (newest / "manifest.json").read_text()]))
            (newest / "weights_1.safetensors").unlink()
        dist.barrier()


def check_terms(rank: int) -> None:
    """Rank 0 saw 1 and 3, rank 1 saw 8: the mean is 12 / 3, not the mean of the means 2 and 8."""
    terms = LossTerms()
    for value in ((1.0, 3.0), (8.0,))[rank]:
        terms.add({"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert terms.pop() == {"a": 4.0, "b": -4.0}


def check_finite(rank: int) -> None:
    """A loss that is broken on rank 1 stops both."""
    require_finite(torch.tensor(1.0), step=5)
    try:
        require_finite(torch.tensor(float("nan") if rank == 1 else 1.0), step=6)
    except NonFiniteError as error:
        assert "step 6" in str(error)
    else:
        raise AssertionError(f"rank {rank} went on")


def check_shares(rank: int) -> None:
    """Five items, parted and put together again in order."""
    mine = ranks.share(range(5))
    assert mine == ([0, 2, 4], [1, 3])[rank]
    assert ranks.gather_shares(mine) == [0, 1, 2, 3, 4]


def check_saves(rank: int, folder: Path) -> None:
    """A checkpoint counts when both ranks' disks have it; what one refuses, both are told, and it never counts."""
    may_end, sync = threading.Event(), checkpoint_commit._sync

    def slow(path: Path) -> None:
        assert may_end.wait(20)
        if "checkpoint-2" in str(path):
            raise OSError(28, "No space left on device")
        sync(path)

    for step, refusal in ((1, ""), (2, "No space left")):
        may_end.clear()
        checkpoint_commit._sync = slow if rank == 1 else sync
        with checkpoint_commit.written_aside(folder) as aside:
            (aside / f"checkpoint-{step}").mkdir(exist_ok=True, parents=True)
            for name in (str(rank), checkpoint_commit.STATE):
                (aside / f"checkpoint-{step}" / name).write_text("{}")
        commit = checkpoint_commit.Commit(folder, step, {"ranks": 2})
        assert not commit.is_ready() and not (folder / f"checkpoint-{step}").exists()
        may_end.set()
        with contextlib.nullcontext() if not refusal else pytest.raises(OSError, match=refusal):
            commit.finish()
        assert commit.is_ready()
        assert checkpoint_commit.newest_whole(folder) == checkpoint_commit.Found(folder / "checkpoint-1", ())
    checkpoint_commit._sync = sync


def settings(out: str, accumulation: int) -> dict[str, Any]:
    # Plain gradient descent: Adam would blow rounding in a vanishing gradient up to a whole step.
    return {
        "output_dir": out, "max_steps": STEPS, "per_device_train_batch_size": 2, "learning_rate": 0.05,
        "gradient_accumulation_steps": accumulation, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "remove_unused_columns": False, "disable_tqdm": True, "optim": "sgd",
        "lr_scheduler_type": "constant", "ddp_backend": "gloo" if dist.is_initialized() else None,
    }  # fmt: skip


def train_sft(folder: str, corpus: str, out: str, accumulation: int) -> None:
    """Train all weights on replies, some of whose turns have half a clip or none."""
    model, build = load(folder)
    examples = replies_of(read_dialogues(f"{corpus}/dialogues.jsonl"), "last")
    args = TrainingArguments(**settings(out, accumulation))
    trainer = SftTrainer(
        model=model, args=args, train_dataset=ScheduledDataset(8, 4 * STEPS, seed=0),
        data_collator=SftCollator(examples, build, modality_dropout=0.3, clip_dropout=0.3),
        optimizers=(torch.optim.SGD(model.parameters(), lr=args.learning_rate), None),
        emotion_weight=0.5, learning_rates={},
    )  # fmt: skip
    trainer.train()
    keep(trainer, Path(out) / f"sft-{dist.is_initialized()}")


def train_epo(
    folder: str,
    corpus: str,
    out: str,
    accumulation: int,
    cache: str | None = None,
    tokens_per_row: int | None = None,
    kind: str | None = None,
) -> None:
    """Train a LoRA on pairs; what is encoded and scored may be kept in a folder, or several pairs lie in a row."""
    model, build = load(folder)
    by_id = {dialogue.id: dialogue for dialogue in read_dialogues(f"{corpus}/dialogues.jsonl")}
    pairs = pairs_of_split(read_pairs(f"{corpus}/pairs.jsonl", by_id), "train")
    own: dict[str, Any] = {"alpha": 0.5, "bf16": False, "gradient_checkpointing": False}
    own |= {"emotion_margin": 0.4, "conditional_weight": 0.6, "anchor_weight": 0.3, "tokens_per_row": tokens_per_row}
    lora: LoraConfig = lora_config(model, 4, 8, 0.0)
    trainer = EpoTrainer(
        model=model, args=EpoArguments(**settings(out, accumulation), **own),
        train_dataset=ScheduledDataset(len(pairs), 4 * STEPS, seed=0), data_collator=PairCollator(pairs, build),
        processing_class=build.processor, peft_config=lora,
        reference_cache=None if cache is None else ReferenceCache(cache),
        encoder_cache=None if cache is None else EncoderCache(f"{cache}-encoded"),
    )  # fmt: skip
    trainer.train()
    if kind is None:
        kind = "packed" if tokens_per_row is not None else "epo" if cache is None else "cached"
    keep(trainer, Path(out) / f"{kind}-{dist.is_initialized()}")


def train_vad(folder: str, corpus: str, out: str, accumulation: int) -> None:
    """Train a head for valence, arousal and dominance; some batches of a rank hold fewer than two ratings."""
    whole, build = load(folder)
    config = whole.config.extractor_config
    config.has_vad = True
    torch.manual_seed(0)
    model = EmotionExtractor(config)
    turns = [reply.current for reply in replies_of(read_dialogues(f"{corpus}/dialogues.jsonl"), "last")]
    clips = [
        TaughtClip(turn.clip, turn.emotion, None if i % 3 == 0 else (i / 12, 1 - i / 12, (i % 5) / 5))
        for i, turn in enumerate(turns) if turn.clip is not None
    ]  # fmt: skip
    args = TrainingArguments(**settings(out, accumulation))
    trainer = VadTrainer(
        model=model, args=args, train_dataset=ScheduledDataset(8, 4 * STEPS, seed=0),
        data_collator=VadCollator(clips, build.processor.clips, ClipCache(None), modality_dropout=0.3),
        optimizers=(torch.optim.SGD(model.parameters(), lr=args.learning_rate), None), vad_weight=0.7,
    )  # fmt: skip
    trainer.train()
    keep(trainer, Path(out) / f"vad-{dist.is_initialized()}")


def load(folder: str) -> tuple[EpoForConditionalGeneration, PromptBuilder]:
    model = EpoForConditionalGeneration.from_pretrained(folder)
    return model, PromptBuilder(EpoProcessor.from_pretrained(folder), ClipCache(None))


def keep(trainer: Trainer, path: Path) -> None:
    """Write losses, gradient norms and weights of rank 0."""
    state = gathered_state(trainer)
    if trainer.is_world_process_zero():
        logs = [[log["loss"], log["grad_norm"]] for log in trainer.state.log_history if "loss" in log]
        path.with_suffix(".json").write_text(json.dumps(logs))
        save_file({name: t.clone().contiguous() for name, t in state.items()}, path.with_suffix(".safetensors"))
