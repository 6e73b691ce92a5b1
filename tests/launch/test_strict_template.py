"""All stages with a demanding language model: a strict template, no padding token, eos that is no end of turn."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig, AutoTokenizer

from launch import compressor, epo, evaluate, extractor, sft
from compressor.chat import ChatTemplateError, chat_format
from compressor.configuration import MambaCompressorConfig
from epo.data.dialogue import DataError, Turn
from epo.model.loading import load_model
from epo.part_names import PartError
from epo.prompts.layout import Layout
from launch.training import check_lengths

ROOT = Path(__file__).parents[2]
_TRAINING = {
    "max_steps": 1, "per_device_train_batch_size": 4, "global_batch_size": 4, "use_cpu": True, "save_steps": 2,
    "disable_tqdm": True, "pipeline": "tiny",
}  # fmt: skip
_STRICT = (
    "{%- for m in messages %}{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('roles must go user, assistant, user') }}{%- endif %}"
    "{{- '<|' + m.role + '|>\\n' + m.content | trim + '<|end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Write a recipe and run its stage in this process; returns the output folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def run(module, name, **keys):
        out, path = tmp_path / "out" / name, tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"output_dir": str(out)} | keys))
        monkeypatch.setattr(sys, "argv", [f"launch/{name}.py", "--config", str(path)])
        module.run()
        return out

    return run


@pytest.fixture
def strict_llm(make_llm, make_tokenizer, tmp_path):
    """A language model's folder."""
    folder, words = tmp_path / "strict", make_tokenizer()
    words.chat_template, words.pad_token, words.eos_token = _STRICT, None, "<|system|>"
    words.save_pretrained(folder)
    make_llm(pad_token_id=None, eos_token_id=2).save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    assert loaded.pad_token is None and loaded.eos_token == "<|system|>" and loaded.chat_template == _STRICT
    return str(folder)


@pytest.fixture
def unruly_corpus(corpus, tmp_path):
    """The corpus, in whose longer dialogues the user speaks twice and the assistant once before anyone else."""
    folder = shutil.copytree(corpus, tmp_path / "corpus")
    rows = [json.loads(line) for line in (folder / "dialogues.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        if len(row["turns"]) > 4:
            row["turns"][0 if number % 4 == 1 else 1]["speaker"] = "assistant" if number % 4 == 1 else "user"
    (folder / "dialogues.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
def test_every_stage_works_with_a_strict_template(run, part, strict_llm, unruly_corpus, tmp_path):
    common = {"data": str(unruly_corpus / "dialogues.jsonl"), "pipeline": "tiny"}
    training, cache = common | _TRAINING, {"cache_dir": str(tmp_path / "cache")}
    kind = {"system_prompt": "Be kind.", "max_prompt_tokens": 200}
    heard = run(
        extractor, "extractor", audio_encoder=part("whisper"), vision_tower=part("siglip"), hidden_size=16,
        num_heads=2, max_frames=4, **training, **cache,
    )  # fmt: skip
    lm = run(sft, "lm", input="text", llm=strict_llm, min_fact_recall=0.0, **kind, **training)
    memory = run(
        compressor, "compressor", llm=str(lm), backbone=part("mamba2"), distillation_weight=0.5, **kind, **training
    )
    assert AutoConfig.from_pretrained(memory).system_prompt == "Be kind."
    parts = {"llm": str(lm), "extractor": str(heard), "compressor": str(memory), "lora_rank": 4}
    with pytest.raises(PartError, match=r"^system_prompt: .*compressor was trained with 'Be kind.', this .* says ''"):
        run(sft, "unkind", **parts, **training, **cache)
    tuned = run(sft, "sft", **parts, **kind, **training, **cache)
    pairs = {"pairs": str(unruly_corpus / "pairs.jsonl")}
    preferred = run(epo, "epo", model=str(tuned), bf16=False, lora_rank=4, **pairs, **training, **cache)
    report = run(evaluate, "report", sft=str(tuned), epo=str(preferred), max_new_tokens=4, **pairs, **common, **cache)
    rows = {row["name"]: row for row in json.loads((report / "report.json").read_text())["rows"]}
    assert rows["sft+epo"]["reward_accuracy"] is not None
    _, processor = load_model(str(tuned), "float32")
    assert processor.chat.stop_ids == [1, 2] and processor.encode_reply("Fine.", "sad")[-1] == 1


def test_a_turn_too_long_for_any_prompt_is_named_before_training(make_tokenizer, examples):
    long = replace(examples[3], current=Turn("user", "lake " * 80))
    check_lengths("d.jsonl", [*examples, long], make_tokenizer(), Layout(), 200)
    check_lengths("d.jsonl", examples, make_tokenizer(), Layout(system_prompt="Be kind."), 60)
    with pytest.raises(DataError, match=r"^d.jsonl: dialogue 'd3', turn 4: a turn takes \d+ tokens, more than .* 60"):
        check_lengths("d.jsonl", [*examples, long], make_tokenizer(), Layout(), 60)


def test_a_template_whose_tokens_the_model_does_not_know_is_refused(make_tokenizer):
    words = make_tokenizer()
    chat_format(words).require_table(320)
    words.add_tokens(["<|done|>"], special_tokens=True)
    words.chat_template = words.chat_template.replace("<|end|>", "<|done|>")
    chat_format(words).require_table(321)
    with pytest.raises(
        ChatTemplateError, match=r"writes '<\|done\|>', id 320, but the language model has only 320 emb"
    ):
        chat_format(words).require_table(320)


@pytest.mark.parametrize(("module", "keys"), [(sft, {"input": "text"}), (compressor, {"backbone": "mamba2"})])
def test_stages_check_lengths_and_tokens_before_they_train(run, part, strict_llm, corpus, module, keys):
    keys = {key: part(value) if key == "backbone" else value for key, value in keys.items()}
    keys |= {"data": str(corpus / "dialogues.jsonl"), "llm": strict_llm}
    with pytest.raises(
        DataError, match=r"dialogue 'd0', turn 2: a turn takes \d+ tokens, more than max_prompt_tokens 5"
    ):
        run(module, "short", max_prompt_tokens=5, **keys, **_TRAINING)
    words = AutoTokenizer.from_pretrained(strict_llm)
    words.add_tokens(["<|done|>"], special_tokens=True)
    words.chat_template = _STRICT.replace("<|end|>", "<|done|>")
    words.save_pretrained(strict_llm)
    with pytest.raises(ChatTemplateError, match=r"writes '<\|done\|>', id 32\d, but the language model has only 320"):
        run(module, "unknown", **keys, **_TRAINING)


def test_a_compressor_of_unknown_system_prompt_is_taken_as_it_is(tmp_path):
    MambaCompressorConfig().save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).system_prompt is None


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in ROOT.glob("recipes/*/compressor.yaml")), ids=lambda path: path.name
)
def test_the_stages_of_a_pipeline_read_the_same_system_prompt(folder):
    """Language model warmed up, compressor and SFT; later stages take it from the model's folder."""
    recipes = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
    prompts = {
        name: recipe.get("system_prompt", "")
        for name, recipe in recipes.items()
        if name.split("_")[0] in ("lm", "compressor", "sft") and "model" not in recipe
    }
    assert "compressor" in prompts and any(name.startswith("sft") for name in prompts)
    assert len(set(prompts.values())) == 1
