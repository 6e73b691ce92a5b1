"""No key without an effect: each key of a training stage is changed, and something else comes out.

A stage is run up to its trainer, which is then looked at: what it reads, what it trains, what its loss is. The table
must name every key. Those of transformers are its own business, but for what `compressor.fixed_settings`,
`launch.recipe` and `EpoArguments` refuse; each of these is tried here.
"""

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from transformers import TrainingArguments

from launch import compressor, epo, extractor, recipe, sft
from compressor.fixed_settings import FIXED_IN_TRAINING
from epo.prompts.text_prompts import TextPrompts
from epo.training.arguments import EpoArguments
from launch.keys.recipe_pieces import StageRecipe
from launch.recipe import RecipeError, read_recipe
from launch.training import plan_batches

ROOT = Path(__file__).parents[2]
STAGES = {"extractor": extractor, "compressor": compressor, "sft": sft, "epo": epo}
_TRAINING = {
    "max_steps": 4, "per_device_train_batch_size": 4, "global_batch_size": 4, "use_cpu": True, "disable_tqdm": True,
}  # fmt: skip


@dataclass(frozen=True)
class Changed:
    """Another value of a key, where it is seen, and what the recipe says beside both values, or beside the other."""

    value: Any
    seen: str
    beside: dict[str, Any] = field(default_factory=dict)
    only_then: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A value that is refused, and in which words."""

    value: Any
    message: str


@dataclass(frozen=True)
class Elsewhere:
    """A key whose effect another test sees: path and name."""

    test: str


_ALONE = {"extractor": None, "compressor": None, "lora_rank": None, "cache_dir": None}  # None: left out
TEXT = {"input": "text", **_ALONE}
WHOLE = {"model": "@model", "llm": None, "extractor": None, "compressor": None}
FACE = {"descriptions": "@descriptions", "llm": "@llm", "modalities": "video", "modality_dropout": 0.0}
COMMON = {
    "run": Elsewhere("tests/launch/test_run_names.py::test_a_flag_renames_the_run_and_what_is_named_after_it"),
    "pipeline": Changed("other", "run"),
    "experiment": Changed("other", "run"),
    "fresh": Elsewhere("tests/launch/test_stage_folder.py::test_changed_data_is_named_and_nothing_is_lost"),
    "global_batch_size": Changed(8, "accumulation"),
    "parts_root": Elsewhere("tests/launch/test_parts_root.py::test_all_that_a_stage_reads_of_a_part_comes_from_there"),
}
TABLE: dict[str, dict[str, Any]] = {
    "extractor": COMMON | {
        "data": Changed("@less", "batches"),
        "audio_encoder": Changed("@whisper2", "model"),
        "vision_tower": Changed("@siglip2", "model"),
        "hidden_size": Changed(32, "model"),
        "num_heads": Changed(4, "loss"),
        "patch_grid": Changed(1, "model"),
        "dropout": Changed(0.5, "training_loss", {"augmentation": 0.0}),
        "augmentation": Changed(0.0, "training_loss", {"dropout": 0.0}),
        "modality_dropout": Changed(1.0, "batches"),
        "max_audio_seconds": Changed(0.5, "batches"),
        "video_fps": Changed(2.0, "batches"),
        "max_frames": Changed(2, "batches"),
        "face_detector": Refused("gone.onnx", "gone.onnx"),
        "modalities": Changed("audio", "batches"),
        "extractor": Changed("@extractor2", "loss"),
        "trainable": Changed(["video_head"], "trainable"),
        "descriptions": Changed(
            "@descriptions", "batches", {"modalities": "video", "modality_dropout": 0.0}, {"llm": "@llm"}
        ),
        "llm": Changed("@llm2", "loss", FACE),
        "description_weight": Changed(2.0, "loss", FACE),
        "label_weight": Changed(0.0, "loss", FACE),
        "asr_weight": Changed(0.5, "loss", {"modalities": "audio", "modality_dropout": 0.0}),
        "asr_language": Refused("de", "would do nothing: set asr_weight above 0 too"),
        "vad_weight": Changed(0.5, "model", {"data": "@rated"}),
        "cache_dir": Changed("@fresh_cache", "cached"),
    },
    "compressor": COMMON | {
        "data": Changed("@less", "batches"),
        "llm": Changed("@llm2", "loss"),
        "backbone": Changed("@mamba22", "model"),
        "kind": Changed("mean_pool", "model"),
        "num_memory_tokens": Changed(3, "batches"),
        "backprop_tokens": Changed(8, "gradient", {"single_turns": 0.0, "short": 0.0, "medium": 0.0}),
        "next_reply_weight": Changed(2.0, "loss"),
        "reconstruction_weight": Changed(0.5, "loss"),
        "distillation_weight": Changed(0.5, "loss"),
        "single_turns": Changed(0.4, "batches"),
        "short": Changed(0.2, "batches", {"medium": 0.0}),
        "medium": Changed(0.8, "batches", {"single_turns": 0.0, "short": 0.1, "data": "@long"}),
        "replies": Changed("all", "batches"),
        "max_prompt_tokens": Changed(48, "batches", {"data": "@long"}),
        "system_prompt": Changed("Be kind.", "batches"),
        "history_emotions": Changed(True, "batches"),
        "dtype": Changed("bfloat16", "loss", {"bf16": True}),
        "quantize": Changed("8bit", "loss"),
    },
    "sft": COMMON | {
        "data": Changed("@less", "batches"),
        "descriptions": Changed("@descriptions", "batches", {"prompt_parts": ["clip", "description", "words"]}),
        "transcripts": Changed("@transcripts", "batches", only_then={"user_words": "asr"}),
        "think": Changed("label", "batches"),
        "user_words": Changed(False, "batches", {"require_clip": True, "clip_dropout": 0.0}),
        "llm": Changed("@llm2", "loss"),
        "extractor": Changed("@extractor2", "loss"),
        "compressor": Changed("@compressor2", "loss"),
        "model": Changed("@model2", "loss", WHOLE),
        "pairs": Changed("@pairs", "batches"),
        "input": Changed("text", "batches", only_then=_ALONE),
        "replies": Changed("all", "batches"),
        "require_clip": Changed(True, "batches"),
        "trainable": Changed(["lora_"], "trainable"),
        "lora_rank": Changed(2, "model"),
        "lora_alpha": Changed(8, "lora_scaling"),
        "lora_variant": Changed("dora", "model"),
        "lora_dropout": Changed(0.5, "training_loss", {"trainable": ["lora_"]}),
        "compressor_learning_rate": Changed(3e-4, "rates"),
        "emotion_weight": Changed(2.0, "loss"),
        "history_weight": Changed(0.5, "loss", TEXT),
        "curriculum": Changed(False, "batches", TEXT),
        "modality_dropout": Changed(1.0, "batches"),
        "clip_dropout": Changed(1.0, "batches"),
        "max_prompt_tokens": Changed(48, "batches", {"data": "@long"}),
        "system_prompt": Changed("Be kind.", "batches"),
        "history_emotions": Changed(True, "batches", TEXT),
        "prompt_parts": Changed(["system", "clip", "memory", "words"], "batches"),
        "dtype": Changed("bfloat16", "model", {"bf16": True}),
        "quantize": Changed("8bit", "model"),
        "min_fact_recall": Elsewhere("tests/launch/test_keys.py::test_a_language_model_that_repeats_too_little"),
        "cache_dir": Changed("@fresh_cache", "cached"),
    },
    "epo": COMMON | {
        "descriptions": Refused("@descriptions", "no part `description`"),
        "transcripts": Changed("@transcripts", "batches"),
        "data": Changed("@edited", "batches"),
        "pairs": Changed("@swapped", "batches"),
        "model": Changed("@model2", "loss"),
        "tune": Changed("all", "trainable", only_then={"lora_rank": None, "reference_cache": "@fresh_cache"}),
        "adapter": Elsewhere(
            "tests/launch/test_on_policy_rounds.py::test_two_rounds_end_alike_whether_interrupted_or_not"
        ),
        "lora_rank": Changed(2, "model"),
        "lora_alpha": Changed(8, "lora_scaling"),
        "dtype": Refused("bfloat16", "set bf16: true too"),
        "quantize": Refused("8bit", "8bit would round away what it learnt"),
        "lora_variant": Changed("rslora", "lora_scaling"),
        "cache_dir": Changed("@fresh_cache", "cached"),
        "reference_cache": Changed("@fresh_cache", "reference"),
        "encoder_cache": Changed("@fresh_cache", "encoded"),
        "flex_attention": Refused(True, "PyTorch has no backward pass of FlexAttention on CPUs; leave it out"),
        "tokens_per_row": Elsewhere("tests/training/test_packed_training.py::test_packed_is_unpacked"),
        "beta": Changed(0.4, "loss"),
        "alpha": Changed(0.4, "loss"),
        "preference_loss": Changed("ipo", "loss"),
        "label_smoothing": Changed(0.1, "loss", {"preference_loss": "robust"}),
        "discopop_tau": Changed(0.5, "loss", {"preference_loss": "discopop"}),
        "length_normalised": Changed(True, "loss"),
        "emotion_margin": Changed(0.5, "loss"),
        "conditional_weight": Changed(0.5, "loss"),
        "conditional_swap": Changed("audio", "batches", {"conditional_weight": 0.5}),
        "anchor_weight": Changed(0.5, "loss"),
        "anchor_margin": Changed(0.5, "loss", {"anchor_weight": 0.5}),
        "extra_terms": Elsewhere(
            "tests/training/test_epo_trainer.py::test_a_term_from_outside_is_added_with_its_weight"
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_the_table_names_every_key(stage):
    own, args = STAGES[stage].RECIPES
    assert issubclass(own, StageRecipe)
    keys = {f.name for f in dataclasses.fields(own)} | recipe._own_keys(args)
    assert TABLE[stage].keys() == keys - {"remove_unused_columns"}


# --- what is changed ---


def less(rows):
    return [row for row in rows if row["id"] not in ("d0", "d1")]


def long(rows):
    """Histories of fourteen turns and more."""
    return [row | {"turns": [*row["turns"][:2] * 6, *row["turns"]], "facts": {}} for row in rows]


def edited(rows):
    for row in rows:
        row["turns"][-2]["text"] = "Something else was said."
    return rows


def rated(rows):
    for number, row in enumerate(rows):
        row["turns"][-2]["vad"] = [number / 12, 0.5, -0.5]
    return rows


def swapped(rows):
    return [row | {"rejected": "Go away, will you."} for row in rows]


FILES = dict.fromkeys((less, long, edited, rated), "dialogues.jsonl") | {swapped: "pairs.jsonl"}
OTHER_PARTS = {
    "whisper2": ("encoder_ffn_dim", 48), "siglip2": ("intermediate_size", 48), "mamba22": ("state_size", 8),
}  # fmt: skip


@pytest.fixture
def save_part(make_llm, make_extractor, make_compressor, make_tokenizer, make_model, reader):
    """Save a part or the whole model, made from a seed, into a folder."""

    def save(kind, folder, seed):
        if kind == "model":
            for half in make_model(make_llm(seed)):
                half.save_pretrained(folder)
            return
        {"llm": make_llm, "extractor": make_extractor, "compressor": make_compressor}[kind](seed).save_pretrained(
            folder
        )
        if kind == "extractor":
            reader.save(folder)
        else:
            make_tokenizer().save_pretrained(folder)

    return save


@pytest.fixture
def write_lines(corpus, tmp_path):
    """Write a file of the corpus with its rows changed, beside copies of the media."""

    def write(change):
        rows = [json.loads(line) for line in (corpus / FILES[change]).read_text().splitlines()]
        path = shutil.copytree(corpus, tmp_path / "changed", dirs_exist_ok=True) / f"{change.__name__}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
        return path

    return write


def write_side_lines(corpus, folder, key):
    """Say something of every turn with a clip."""
    path = folder / f"{key}.jsonl"
    rows = [json.loads(line) for line in (corpus / "dialogues.jsonl").read_text().splitlines()]
    lines = [
        {"dialogue_id": row["id"], "turn": number, key: f"The chin drops, {row['id']}."}
        for row in rows for number, turn in enumerate(row["turns"]) if "clip" in turn
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def places(tmp_path, tmp_path_factory, corpus, part, save_part, write_lines):
    """Return the path behind a name such as `@llm2`, made when it is asked for."""
    known = {
        "data": corpus / "dialogues.jsonl", "pairs": corpus / "pairs.jsonl", "fresh_cache": tmp_path / "fresh_cache",
        "cache": tmp_path_factory.getbasetemp() / "keys-cache",
    }  # fmt: skip
    changes = {change.__name__: change for change in FILES}

    def place(name):
        if name == "descriptions":
            return write_side_lines(corpus, tmp_path, "description")
        if name == "transcripts":
            return write_side_lines(corpus, tmp_path, "text")
        if name in known:
            return str(known[name])
        if name in changes:
            return str(write_lines(changes[name]))
        if name in ("whisper", "siglip", "mamba2"):
            return part(name)
        if name in OTHER_PARTS:
            key, value = OTHER_PARTS[name]
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps(json.loads(Path(part(name[:-1])).read_text()) | {key: value}))
            return str(path)
        if not (tmp_path / name).exists():
            save_part(name.removesuffix("2"), tmp_path / name, 7 if name.endswith("2") else 0)
        return str(tmp_path / name)

    return place


BASES = {
    "extractor": {"data": "@data", "audio_encoder": "@whisper", "vision_tower": "@siglip", "hidden_size": 16,
                  "num_heads": 2, "max_frames": 4, "cache_dir": "@cache"},
    "compressor": {"data": "@data", "llm": "@llm", "backbone": "@mamba2"},
    "sft": {"data": "@data", "llm": "@llm", "extractor": "@extractor", "compressor": "@compressor", "lora_rank": 4,
            "cache_dir": "@cache"},
    "epo": {"data": "@data", "pairs": "@pairs", "model": "@model", "lora_rank": 4, "cache_dir": "@cache",
            "bf16": False, "gradient_checkpointing": False},
}  # fmt: skip


# --- what is looked at ---


class UpToHere(Exception):
    """Carries the trainer out of a stage that would now train it."""

    def __init__(self, trainer):
        self.trainer = trainer


def digest(value):
    if isinstance(value, torch.Tensor):
        value = (tuple(value.shape), str(value.dtype), value.detach().float().numpy().tobytes())
    if isinstance(value, dict):
        value = [(key, digest(value[key])) for key in sorted(value)]
    if isinstance(value, list):
        value = [item if isinstance(item, tuple | str) else digest(item) for item in value]
    return hashlib.sha256(repr(value).encode()).hexdigest()


@dataclass(frozen=True)
class Seen:
    """A stage's trainer, just before it trains."""

    trainer: Any
    tracked: tuple[Any, ...]
    cache: Path | None

    def look(self, what):
        return getattr(self, f"see_{what}")()

    def see_run(self):
        return self.tracked

    def see_accumulation(self):
        return self.trainer.args.gradient_accumulation_steps

    def rows(self, start=0):
        return [self.trainer.train_dataset[position] for position in range(start, start + 4)]

    def see_batches(self):
        return [digest(self.trainer.data_collator(self.rows(start))) for start in (0, 4, 8, 12)]

    def see_model(self):
        return digest({name: (tuple(p.shape), str(p.dtype)) for name, p in self.trainer.model.named_parameters()})

    def see_trainable(self):
        return [name for name, p in self.trainer.model.named_parameters() if p.requires_grad]

    def see_rates(self):
        return [(group["lr"], len(group["params"])) for group in self.trainer.create_optimizer().param_groups]

    def see_lora_scaling(self):
        return [module.scaling for module in self.trainer.model.modules() if hasattr(module, "lora_A")]

    def see_loss(self, training=False):
        torch.manual_seed(5)
        for name, parameter in self.trainer.model.named_parameters():
            if ".lora_B." in name:  # LoRA starts as zero, and policy and reference as one
                parameter.data.normal_(std=0.3)
        self.trainer.model.train(training)
        with torch.no_grad():
            batch = self.trainer.data_collator(self.rows())
            return round(self.trainer.compute_loss(self.trainer.model, batch).item(), 5)

    def see_gradient(self):
        self.trainer.model.train()
        batch = self.trainer.data_collator(self.rows())
        self.trainer.compute_loss(self.trainer.model, batch).backward()
        return digest({name: p.grad for name, p in self.trainer.model.named_parameters() if p.grad is not None})

    def see_reference(self):
        self.see_loss()
        return self.cache is not None and len(list(self.cache.glob("*/*.safetensors")))

    def see_encoded(self):
        self.trainer.get_batch_samples(iter([]), 1, torch.device("cpu"))
        return self.cache is not None and len(list(self.cache.glob("*/*.safetensors")))

    def see_training_loss(self):
        return self.see_loss(training=True)

    def see_cached(self):
        return self.cache is not None and self.cache.exists() and any(self.cache.iterdir())


@pytest.fixture
def start(places, tmp_path, monkeypatch):
    """Run a stage up to its trainer; names such as `@llm` among the values are paths."""

    def start(stage, **changes):
        module, tracked = STAGES[stage], []

        def stop(trainer):
            raise UpToHere(trainer)

        @contextlib.contextmanager
        def record(*args):
            tracked.append(args[1:3])
            yield SimpleNamespace(callback=_Silent)

        monkeypatch.setattr(module, "fit", stop)
        monkeypatch.setattr(module, "open_run", record)
        keys = {key: value for key, value in (BASES[stage] | _TRAINING | changes).items() if value is not None}
        keys = {k: places(v[1:]) if isinstance(v, str) and v.startswith("@") else v for k, v in keys.items()}
        path = tmp_path / f"{stage}.yaml"
        path.write_text(yaml.safe_dump({"output_dir": str(tmp_path / "out")} | keys))
        monkeypatch.setattr(sys, "argv", [f"launch/{stage}.py", "--config", str(path)])
        with pytest.raises(UpToHere) as caught:
            module.run()
        caches = [keys.get(key) for key in ("cache_dir", "reference_cache", "encoder_cache")]
        fresh = next((Path(cache) for cache in caches if cache is not None and cache.endswith("fresh_cache")), None)
        return Seen(caught.value.trainer, tuple(tracked), fresh)

    return start


def _Silent():
    from transformers import TrainerCallback

    return TrainerCallback()


@pytest.fixture(scope="module")
def before():
    """What was seen with each recipe before a key was changed."""
    return {}


def entries(kind):
    return [(stage, key, row) for stage, rows in TABLE.items() for key, row in rows.items() if isinstance(row, kind)]


def names(found):
    return {"argvalues": found, "ids": [f"{stage}-{key}" for stage, key, _ in found]}


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "key", "change"), **names(entries(Changed)))
def test_another_value_is_another_result(start, before, stage, key, change):
    plain = (stage, change.seen, repr(change.beside))
    if plain not in before:
        before[plain] = start(stage, **change.beside).look(change.seen)
        assert start(stage, **change.beside).look(change.seen) == before[plain], "the look itself must not vary"
    changed = change.beside | change.only_then | {key: change.value}
    assert start(stage, **changed).look(change.seen) != before[plain]


@pytest.mark.parametrize(("stage", "key", "refusal"), **names(entries(Refused)))
def test_what_cannot_be_is_refused(start, stage, key, refusal):
    with pytest.raises(ValueError, match=refusal.message):
        start(stage, **{key: refusal.value})


@pytest.mark.parametrize(("stage", "key", "row"), **names(entries(Elsewhere)))
def test_the_test_that_sees_it_exists(stage, key, row):
    path, name = row.test.split("::")
    assert re.search(rf"def test_\w*{name.removeprefix('test_')}\w*\(", (ROOT / path).read_text())


def test_a_language_model_that_repeats_too_little_ends_the_stage(make_llm, tokenizer, examples):
    """`min_fact_recall`: an untrained one repeats none."""
    held_out = [dataclasses.replace(example, facts=("Mira",)) for example in examples[:2]]
    prompts = TextPrompts(tokenizer)
    for wanted, is_refused in ((None, False), (0.0, False), (0.5, True)):
        asked = sft.SftRecipe(data="d", llm="x", input="text", min_fact_recall=wanted)
        with pytest.raises(RecipeError, match="repeats only 0.00 of the") if is_refused else contextlib.nullcontext():
            assert sft._fact_recall(asked, make_llm(), prompts, held_out) == {"fact_recall": 0.0}


# --- keys that would do nothing beside others, or anywhere ---


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"input": "text", "lora_rank": 4}, "lora_rank would do nothing: input: text trains a language model alone"),
        ({"input": "text", "compressor": "x"}, "compressor would do nothing: input: text"),
        ({"history_weight": 0.5}, "history_weight would do nothing: it belongs to input: text; leave it out"),
        ({"min_fact_recall": 0.5}, "min_fact_recall would do nothing: it belongs to input: text"),
        ({"model": "m", "llm": "x"}, "llm would do nothing: model is a whole one that has its own; leave one of"),
        ({"model": "m", "max_prompt_tokens": 9}, "max_prompt_tokens would do nothing: model is a whole one"),
        ({"model": "m", "pairs": "p", "replies": "all"}, "replies would do nothing: pairs says which replies are"),
    ],
)
def test_a_key_without_an_effect_beside_others_is_refused(tmp_path, keys, message):
    argv = ["--config", str(tmp_path / "sft.yaml")]
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump({"output_dir": str(tmp_path), "data": "d"} | keys))
    for read in (read_recipe, recipe.declared):
        with pytest.raises(RecipeError, match=f"sft.yaml: {message}"):
            read(sft.RECIPES, [*argv, "--use_cpu"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora_rank": 4}, "lora_rank would do nothing: tune: all trains the language model's own weights, without a"),
        ({"lora_variant": "dora"}, "lora_variant would do nothing: tune: all .*; leave it out, or set tune: lora"),
        ({"adapter": "x"}, "adapter would do nothing: tune: all .*; name that round's folder as model, or set tune"),
        ({}, "reference_cache: with tune: all the reference scores the pairs before the first step, .*; name a folder"),
    ],
)
def test_what_does_not_go_with_all_weights_is_refused(tmp_path, keys, message):
    needed = {"output_dir": str(tmp_path), "data": "d", "pairs": "p", "model": "m", "bf16": False, "tune": "all"}
    path = tmp_path / "epo.yaml"
    path.write_text(yaml.safe_dump(needed | keys))
    for read in (read_recipe, recipe.declared):
        with pytest.raises(RecipeError, match=f"epo.yaml: {message}"):
            read(epo.RECIPES, ["--config", str(path), "--use_cpu"])


def test_a_lora_that_does_not_train_is_refused(start):
    with pytest.raises(
        RecipeError, match="lora_rank, lora_alpha, lora_dropout would do nothing: add lora_ to trainable"
    ):
        start("sft", trainable=["compressor"])


def test_a_term_that_needs_what_pairs_do_not_have_ends_the_stage_before_it_begins(start, corpus, tmp_path):
    rows = [json.loads(line) for line in (corpus / "pairs.jsonl").read_text().splitlines()]
    del rows[3]["rejected_emotion"]
    (tmp_path / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for keys, message in (
        ({"emotion_margin": 0.5}, "ranked.jsonl: emotion_margin is 0.5, but 1 of 8 pairs do not say .* dialogue 'd3'"),
        (
            {"preference_loss": "aot", "per_device_train_batch_size": 2},
            "preference_loss aot sorts .* cut into 2 pieces",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            start("epo", pairs=str(tmp_path / "ranked.jsonl"), **keys)
    assert not (tmp_path / "out").exists()


OF_TRANSFORMERS = {
    "num_train_epochs": 1.0, "gradient_accumulation_steps": 2, "average_tokens_across_devices": False,
    "resume_from_checkpoint": "x", "do_train": True, "eval_strategy": "steps", "eval_steps": 10, "eval_delay": 1,
    "eval_on_start": True, "eval_accumulation_steps": 2, "eval_do_concat_batches": False,
    "eval_use_gather_object": True, "per_device_eval_batch_size": 4, "prediction_loss_only": True,
    "include_for_metrics": ["loss"], "batch_eval_metrics": True, "bf16_full_eval": True, "fp16_full_eval": True,
    "do_eval": True, "do_predict": True, "load_best_model_at_end": True, "metric_for_best_model": "loss",
    "greater_is_better": True,
    "train_sampling_strategy": "group_by_length", "length_column_name": "size", "dataloader_drop_last": True,
    "data_seed": 1, "label_smoothing_factor": 0.1, "label_names": ["labels"], "neftune_noise_alpha": 5.0,
    "remove_unused_columns": True, "use_cache": True, "use_liger_kernel": True, "liger_kernel_config": {"rope": True},
    "logging_nan_inf_filter": False, "auto_find_batch_size": True,
}  # fmt: skip
"""Another value of each of transformers' keys that a stage refuses."""


def test_the_refusals_are_all_tried():
    assert OF_TRANSFORMERS.keys() == FIXED_IN_TRAINING.keys() | recipe._FIXED_IN_STAGES.keys()


@pytest.mark.parametrize("key", OF_TRANSFORMERS)
@pytest.mark.parametrize("beside", [TrainingArguments, EpoArguments])
def test_a_key_of_transformers_without_an_effect_is_refused(tmp_path, beside, key):
    """At reading, and already where a pipeline is checked."""
    if key not in {f.name for f in dataclasses.fields(beside)}:
        pytest.skip("this version of transformers does not know the key")
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(tmp_path), "bf16": False, key: OF_TRANSFORMERS[key]}))
    for read in (recipe.declared, read_recipe):
        with pytest.raises(RecipeError, match=f"stage.yaml: {key} is .*, but .*; .*") as caught:
            read([beside], ["--config", str(path), "--use_cpu"])
        assert "\n" not in str(caught.value)


HONOURED = """
output_dir per_device_train_batch_size max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim
optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon optim_target_modules max_grad_norm bf16 fp16 tf32
activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs
torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps logging_strategy logging_steps
logging_first_step log_on_each_node include_num_input_tokens_seen log_level log_level_replica disable_tqdm report_to
run_name project trackio_space_id trackio_bucket_id trackio_static_space_id save_only_model save_strategy save_steps
save_on_each_node save_total_limit enable_jit_checkpoint push_to_hub hub_token hub_private_repo hub_model_id
hub_strategy hub_always_push hub_revision ignore_data_skip restore_callback_states_from_checkpoint full_determinism
seed use_cpu accelerator_config parallelism_config dataloader_num_workers dataloader_pin_memory
dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp
fsdp_config deepspeed debug skip_memory_metrics local_rank warmup_ratio logging_dir tpu_num_cores tpu_metrics_debug
past_index jit_mode_eval
""".split()
"""Keys of transformers that its Trainer acts on by itself, in ours as in any other; some are of older versions."""


def test_every_key_of_transformers_is_left_to_it_or_refused():
    theirs = {f.name for f in dataclasses.fields(TrainingArguments) if f.init}
    assert theirs - set(HONOURED) - OF_TRANSFORMERS.keys() == set()
    assert not set(HONOURED) & OF_TRANSFORMERS.keys()


def test_batches_that_accelerate_would_split_are_refused(tmp_path):
    """`split_batches` would make the micro-batch that of all ranks together, and the global batch a smaller one."""
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=1, accelerator_config={"split_batches": True}
    )
    with pytest.raises(RecipeError, match="accelerator_config: split_batches .* leave it out"):
        plan_batches(args, 8)
