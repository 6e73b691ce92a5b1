"""Layers in few bits: what they stand for, that rounding twice is rounding once, and that nothing else is touched."""

import importlib.util

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from compressor.precision import cast_weights
from epo.evaluation.generate import generate_replies
from epo.evaluation.rewards import pair_logps
from epo.extras import MissingExtraError
from epo.model.family import load_of_family
from epo.model.linears import linears_below
from epo.model.loading import load_model
from epo.model.low_rank import add_low_rank
from epo.model.parts import load_llm
from epo.model.quantized import (
    QuantizationError,
    QuantizedLinear,
    has_rounded,
    plain_state,
    quantize_linears,
    quantized_line,
    require_quantizer,
    require_still,
    weight_sizes,
)
from epo.model.shared_prompt import prove_sharing
from epo.part_names import PartError
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import inject_lora, lora_config, num_trainable

has_kernels = importlib.util.find_spec("bitsandbytes") is not None
four_bits = pytest.param(
    "4bit",
    marks=pytest.mark.skipif(not has_kernels, reason="four bits are an extra: pip install 'epo-trainer[quantized]'"),
)
either = pytest.mark.parametrize("quantize", [four_bits, "8bit"])

# QLoRA, arXiv 2305.14314, appendix E.
_NF4 = torch.tensor(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
)  # fmt: skip


def rounded(weight, quantize):
    linear = nn.Linear(weight.size(1), weight.size(0), bias=False)
    linear.weight.data = weight
    return QuantizedLinear(linear, quantize).plain_weight()


def nf4_by_table(weight):
    """The nearest of the 16 values, times the largest of each 64 weights."""
    flat = functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    largest = flat.abs().amax(dim=1, keepdim=True)
    nearest = _NF4[(flat / largest.clamp(min=1e-30)).unsqueeze(-1).sub(_NF4).abs().argmin(dim=-1)]
    return (nearest * largest).flatten()[: weight.numel()].view(weight.shape)


def test_eight_bits_by_hand():
    """Steps of 2 / 127 in the first row: 1 is 63.5 of them, rounded to the even 64; a row of zeros stays."""
    found = rounded(torch.tensor([[2.0, 1.0, -0.004], [0.0, 0.0, 0.0]]), "8bit")
    torch.testing.assert_close(found, torch.tensor([[2.0, 128 / 127, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.skipif(not has_kernels, reason="four bits are an extra: pip install 'epo-trainer[quantized]'")
@pytest.mark.parametrize("shape", [(64, 64), (32, 48), (7, 5), (3, 65), (1, 1), (33, 127), (2, 2)])
def test_four_bits_are_the_published_ones(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    torch.testing.assert_close(rounded(weight, "4bit"), nf4_by_table(weight))


@either
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 140), spread=st.floats(1e-6, 1e3), seed=st.integers(0, 2**31 - 1))
def test_rounding_twice_is_rounding_once(quantize, dtype, rows, columns, spread, seed):
    """So what a quantized run saves is what it computed with, and read again it is quantized as it was."""
    weight = spread * torch.randn((rows, columns), generator=torch.Generator().manual_seed(seed))
    weight[0, ::3] = 0
    once = rounded(weight.to(dtype), quantize)
    assert once.dtype == dtype and once.isfinite().all()
    assert rounded(once, quantize).equal(once)
    # The largest gap between two values of NF4 is 0.304 of a block's largest weight; of int8 1 / 127.
    worst = {"4bit": 0.153, "8bit": 0.0041}[quantize] + (0.008 if dtype is torch.bfloat16 else 1e-5)
    assert (once.float() - weight).abs().max() <= worst * weight.abs().max()


@either
@pytest.mark.parametrize("is_autocast", [False, True])
def test_it_computes_as_the_plain_layer_that_it_stands_for(quantize, is_autocast):
    """Forward and backward, to the bit, with bias and with a low-rank change beside."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 10))
    add_low_rank(model, {"0": 3})
    for factor in (model[0].down, model[0].up):
        nn.init.normal_(factor)
    quantized = QuantizedLinear(model[0], quantize)
    plain = model[0]
    plain.weight.data = quantized.plain_weight()
    assert quantized.weight.equal(plain.weight) and quantized.down is plain.down
    found = []
    for layer in (quantized, plain):
        x = torch.randn(5, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
            y = layer(1 * x)  # of a leaf autocast would keep one cast for both products
        y.float().square().sum().backward()
        found.append((y.detach(), x.grad, layer.up.grad.clone()))
        layer.up.grad = None
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype and ours.equal(theirs)


@pytest.fixture
def quantized(model_and_processor):
    """A model whose language model is held in 8 bits, and what it was before."""
    model, processor = model_and_processor
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize_linears(model, linears_below(model, "language_model."), "8bit")
    return model, processor, before


def test_only_the_linear_layers_of_the_language_model_change(quantized):
    model, _, before = quantized
    names = [name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    assert len(names) == 14 and all(".layers." in name for name in names)
    state = plain_state(model, model.state_dict())
    assert state.keys() == before.keys()
    changed = {name for name in before if not state[name].equal(before[name])}
    assert changed == {f"{name}.weight" for name in names} and has_rounded(model)


def test_the_line_on_it_says_what_it_takes(make_llm):
    """A byte a weight and four a row, instead of four a weight: 14 matrices of 256 x 256 and 256 x 512."""
    llm = make_llm(hidden_size=256, intermediate_size=512, head_dim=128)
    assert quantized_line(llm) is None
    quantize_linears(llm, linears_below(llm, ""), "8bit")
    weights, rows = 2 * (4 * 256 * 256 + 3 * 256 * 512), 2 * (5 * 256 + 2 * 512)
    now, before = (weights + 4 * rows) / 2**20, 4 * weights / 2**20
    line = f"language model: 14 linear layers held in 8bit, {now:.1f} MiB instead of {before:.1f} MiB"
    assert quantized_line(llm) == line and before == 5.0


def test_no_cast_rounds_the_scales_and_counts_are_of_weights(quantized, make_model):
    model = quantized[0]
    before = plain_state(model, model.state_dict())
    cast_weights(model, torch.bfloat16)
    model.to(torch.bfloat16)
    after = plain_state(model, model.state_dict())
    assert all(
        after[name].equal(before[name])
        for name in before
        if ".layers." in name and name.startswith("lang") and "proj" in name
    )
    assert num_trainable(model)[1] == num_trainable(make_model()[0])[1]
    assert sum(size for name, _, size in weight_sizes(model) if name.endswith(".scales")) == 0


def test_it_scores_and_answers_as_the_plain_model_that_it_stands_for(quantized, make_model, pairs, clip_cache):
    model, processor, *_ = quantized
    build = PromptBuilder(processor, clip_cache)
    plain = make_model()[0]
    plain.load_state_dict(plain_state(model, model.state_dict()))
    for ours, theirs in zip(pair_logps(model, pairs, build), pair_logps(plain, pairs, build), strict=True):
        assert ours.equal(theirs)
    prompts = [build(pair.reply) for pair in pairs[:3]]
    assert generate_replies(model, processor, prompts, 3, 6) == generate_replies(plain, processor, prompts, 3, 6)
    assert prove_sharing(model, PairCollator(pairs, build)([{"index": i} for i in range(2)])) is None


def test_a_lora_beside_it_is_switched_off_for_the_reference_and_not_merged(quantized, pairs, clip_cache):
    model, processor, *_ = quantized
    build = PromptBuilder(processor, clip_cache)
    reference = pair_logps(model, pairs, build)[0]
    policy = get_peft_model(model, lora_config(model, 4, 8, 0.0))
    assert all(p.dtype == torch.float32 for name, p in policy.named_parameters() if ".lora_" in name)
    for name, parameter in policy.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.3)
    assert (pair_logps(policy, pairs, build)[0] - reference).abs().min() > 0.1
    with policy.disable_adapter():
        assert pair_logps(policy, pairs, build)[0].equal(reference)
    for is_safe in (False, True):
        with pytest.raises(QuantizationError, match="merge the adapter into the model loaded without quantize"):
            policy.merge_and_unload(safe_merge=is_safe)


def test_what_is_held_in_few_bits_cannot_train(quantized):
    model = quantized[0]
    inject_lora(model, lora_config(model, 4, 8, 0.0))
    require_still(model, ["lora_", "extractor", "clip_head", "compressor"])
    for part in ("language_model", "q_proj"):
        with pytest.raises(QuantizationError, match=f"trainable: '{part}' names weights .* held in 8bit"):
            require_still(model, ["lora_", part])


def test_models_that_cannot_be_held_in_few_bits_are_refused_in_one_line(make_llm, tmp_path):
    gpt2 = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", n_embd=16, n_layer=1, n_head=2, vocab_size=32))
    with pytest.raises(QuantizationError, match="gpt: its language model has no linear layers of the kind .*8bit"):
        quantize_linears(gpt2, linears_below(gpt2, ""), "8bit", "gpt")
    broken = make_llm()
    broken.model.layers[1].mlp.up_proj.weight.data[3, 3] = float("nan")
    with pytest.raises(QuantizationError, match="layers.1.mlp.up_proj holds weights that are not finite"):
        quantize_linears(broken, linears_below(broken, ""), "8bit")


def test_kernels_that_are_missing_are_told_before_anything_is_loaded(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    for load in (lambda: load_llm("gone", "float32", "4bit"), lambda: load_model("gone", "float32", quantize="4bit")):
        with pytest.raises(MissingExtraError, match=r"quantize: 4bit needs bitsandbytes.*epo-trainer\[quantized\]"):
            load()
    with pytest.raises(MissingExtraError, match="pip install"):
        load_of_family("gone", quantize="4bit")
    require_quantizer("8bit")  # needs none


def test_a_part_is_loaded_quantized(make_llm, make_tokenizer, tmp_path):
    make_llm().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    llm, plain = load_llm(str(tmp_path), "bfloat16", "8bit"), load_llm(str(tmp_path), "bfloat16")
    assert sum(isinstance(module, QuantizedLinear) for module in llm.modules()) == 14
    ids = torch.arange(2, 30).unsqueeze(0)
    with torch.no_grad():
        gap = (llm(ids).logits - plain(ids).logits).float().norm() / plain(ids).logits.float().norm()
    assert llm.dtype == torch.bfloat16 and 0 < gap < 0.1


def test_a_lora_that_float32_weights_took_in_is_not_rounded(model_and_processor, tmp_path):
    model, processor = model_and_processor
    for half in (model, processor):
        half.save_pretrained(tmp_path)
    for load in (load_model, load_of_family):
        with pytest.raises((PartError, QuantizationError), match="8bit would round away what it learnt; leave quant"):
            load(str(tmp_path), "float32", quantize="8bit")
