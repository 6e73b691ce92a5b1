"""On a CUDA device: training and generation give what a CPU gives, and every stage runs there by its real command."""

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compressor.curriculum import ScheduledDataset
from epo.asking.questions import Question
from epo.evaluation.generate import generate_replies
from epo.model.token_scores import sequence_logps
from epo.preferences.local_chat import LocalChat
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.trainer import EpoTrainer

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def exact_products():
    """Float32 products in float32, so that both devices can be compared."""
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = kept


def train(model_and_processor, pairs, clip_cache, tmp_path, **changes):
    model, processor = copy.deepcopy(model_and_processor[0]), model_and_processor[1]
    args = EpoArguments(
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=1,
        save_strategy="no", report_to="none", beta=0.3, alpha=0.7, disable_tqdm=True,
        **({"bf16": False, "gradient_checkpointing": False} | changes),
    )  # fmt: skip
    trainer = EpoTrainer(
        model=model, args=args, train_dataset=ScheduledDataset(len(pairs), 64, seed=0),
        data_collator=PairCollator(pairs, PromptBuilder(processor, clip_cache)), processing_class=processor,
        peft_config=lora_config(model, 4, 8, 0.0),
    )  # fmt: skip
    trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    return trainer, [row["loss"] for row in log], [row["grad_norm"] for row in log]


def test_epo_trains_as_on_a_cpu(model_and_processor, pairs, clip_cache, tmp_path):
    here = train(model_and_processor, pairs, clip_cache, tmp_path, use_cpu=True)
    there = train(model_and_processor, pairs, clip_cache, tmp_path)
    assert there[0].model.device.type == "cuda"
    assert there[1] == pytest.approx(here[1], rel=1e-4) and there[2] == pytest.approx(here[2], rel=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_epo_trains_in_bfloat16(model_and_processor, pairs, clip_cache, tmp_path, checkpointing):
    exact = train(model_and_processor, pairs, clip_cache, tmp_path)
    rounded = train(model_and_processor, pairs, clip_cache, tmp_path, bf16=True, gradient_checkpointing=checkpointing)
    assert rounded[1] == pytest.approx(exact[1], rel=0.05)


@pytest.mark.parametrize("changes", [{}, {"tokens_per_row": 512}, {"bf16": True}])
def test_flex_attention_trains_as_sdpa_does(model_and_processor, pairs, clip_cache, tmp_path, changes, capsys):
    plain = train(model_and_processor, pairs, clip_cache, tmp_path, **changes)
    blocks = train(model_and_processor, pairs, clip_cache, tmp_path, flex_attention=True, **changes)
    assert "does nothing" not in capsys.readouterr().out
    assert blocks[0].model.get_base_model().language_model.config._attn_implementation == "flex_attention"
    rel = 0.05 if "bf16" in changes else 1e-4
    assert blocks[1] == pytest.approx(plain[1], rel=rel) and blocks[2] == pytest.approx(plain[2], rel=10 * rel)


def test_a_shared_prompt_scores_as_two_rows(model_and_processor, pairs, clip_cache):
    model, processor = model_and_processor
    model = copy.deepcopy(model).cuda()
    batch = PairCollator(pairs, PromptBuilder(processor, clip_cache))([{"index": i} for i in range(4)])
    batch = {key: value.cuda() if torch.is_tensor(value) else value for key, value in batch.items()}
    with torch.no_grad():
        shared = sequence_logps(model(**batch))
        model.shares_prompts = False
        apart = sequence_logps(model(**batch))
    assert torch.allclose(shared, apart, atol=1e-4)


def test_replies_are_those_of_a_cpu(model_and_processor, examples, clip_cache):
    model, processor = model_and_processor
    prompts = [PromptBuilder(processor, clip_cache)(example) for example in examples]
    here = generate_replies(model, processor, prompts, max_new_tokens=8)
    assert generate_replies(copy.deepcopy(model).cuda(), processor, prompts, max_new_tokens=8) == here


def test_rewritings_are_those_of_a_cpu(make_llm, make_tokenizer):
    asked = [Question([{"role": "user", "content": text}], seed) for text in ("Hello", "Poor Tom.") for seed in (0, 1)]
    here, there = (
        dict(LocalChat("tiny", make_llm().to(device), make_tokenizer(), 1.0, 8).answers(asked))
        for device in ("cpu", "cuda")
    )
    assert here == there


@pytest.mark.slow
def test_every_stage_of_the_smoke_run_runs_on_one_device(tmp_path):
    one = (ROOT / "launch/accelerate/zero2.yaml").read_text().replace("num_processes: 8", "num_processes: 1")
    (tmp_path / "zero2.yaml").write_text(one)
    recipe = (ROOT / "recipes/smoke/pipeline.yaml").read_text()
    recipe = re.sub(r"launch/accelerate/[\w-]+.yaml", str(tmp_path / "zero2.yaml"), recipe)
    (tmp_path / "pipeline.yaml").write_text(recipe)
    (tmp_path / "run.yaml").write_text(f"run: {tmp_path}/run\n")
    command = [sys.executable, "launch/pipeline.py", "--config", str(tmp_path / "pipeline.yaml")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert (tmp_path / "run" / "report.json").is_file()
