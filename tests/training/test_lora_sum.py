"""LoRA added in place gives what PEFT's own sum gives: outputs, gradients, merged weights."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Conv1D

from epo.training.lora_sum import add_in_place


def tuned(scale=2.0, dtype=torch.float32, **settings):
    """Return PEFT's model of two layers, its LoRA of rank 4 with something to say."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 5, bias=False)).to(dtype)
    config = LoraConfig(r=4, lora_alpha=4 * scale, target_modules=["0", "2"], **settings)
    model = get_peft_model(layers, config)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_()
    return model


def outputs_and_gradients(model, x):
    """Return what a model gives, and the gradients of its LoRA and of its input."""
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    y.float().pow(2).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


def by_hand(layer, x):
    """W x + b + s B A x, the scale where the paper has it."""
    change = x @ layer.lora_A["default"].weight.T @ layer.lora_B["default"].weight.T
    return layer.base_layer(x) + layer.scaling["default"] * change


def test_it_is_the_papers_sum():
    model, x = tuned(scale=1.7), torch.randn(3, 7, 6)
    first = model.get_base_model()[0]
    wanted = by_hand(first, x)
    assert add_in_place(model) == 2
    assert torch.allclose(first(x), wanted, atol=1e-5)


@pytest.mark.parametrize("scale", [0.25, 1.0, 2.0])
def test_with_a_power_of_two_it_is_pefts_sum_bit_by_bit(scale):
    model, x = tuned(scale), torch.randn(3, 7, 6)
    plain = outputs_and_gradients(copy.deepcopy(model), x)
    assert add_in_place(model) == 2
    for found, wanted in zip(outputs_and_gradients(model, x), plain, strict=True):
        assert found.equal(wanted)


@pytest.mark.parametrize("autocast", [False, True])
def test_other_scales_differ_by_rounding_alone(autocast):
    model, x = tuned(scale=1.7), torch.randn(3, 7, 6)
    other = copy.deepcopy(model)
    add_in_place(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, wanted = outputs_and_gradients(model, x), outputs_and_gradients(other, x)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        assert (a - b).norm() <= (0.02 if autocast else 1e-6) * b.norm()


def test_float32_lora_on_bfloat16_weights_is_summed_in_float32():
    """Without autocast PEFT computes A and B in float32, adds so, and rounds once; in place it would round twice."""
    model = tuned(dtype=torch.bfloat16, use_rslora=True)
    x = torch.randn(3, 7, 6, dtype=torch.bfloat16)
    plain = outputs_and_gradients(copy.deepcopy(model), x)
    add_in_place(model)
    assert next(p for p in model.parameters() if p.requires_grad).dtype == torch.float32
    for found, wanted in zip(outputs_and_gradients(model, x), plain, strict=True):
        assert found.equal(wanted)


@pytest.mark.parametrize("safe_merge", [False, True])
def test_merges_as_peft_merges(safe_merge):
    model = tuned(scale=1.7)
    plain, merged = copy.deepcopy(model), copy.deepcopy(model)
    add_in_place(merged)
    for one in (plain, merged):
        one.merge_adapter(safe_merge=safe_merge)
    weights = [one.get_base_model()[2].base_layer.weight for one in (merged, plain, model)]
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])
    merged.unmerge_adapter()
    assert torch.allclose(weights[0], weights[2], atol=1e-6)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_bias": True}])
def test_what_it_would_not_sum_rightly_is_left_as_it_is(settings):
    model, x = tuned(scale=1.7, **settings), torch.randn(2, 6)
    for layer in model.get_base_model():
        if settings.get("lora_bias") and hasattr(layer, "lora_B"):
            layer.lora_B["default"].bias.data.normal_()
    wanted = model(x)
    assert add_in_place(model) == 0
    assert model(x).equal(wanted)


class Viewed(torch.autograd.Function):
    """A product that comes out as a view, to whose place autograd lets nobody add."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return (x.flatten(0, -2) @ weight.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient @ ctx.saved_tensors[0], None


class ViewedLinear(nn.Linear):
    def forward(self, x):
        return Viewed.apply(x, self.weight)


@pytest.mark.parametrize(
    "make", [lambda: Conv1D(8, 6), lambda: nn.Linear(6, 8), lambda: ViewedLinear(6, 8, bias=False)]
)
def test_a_view_is_not_added_to_in_its_place(make):
    """GPT-2's layers, a bias on three dimensions, and functions of our own give views."""
    layers = nn.Sequential(make())
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], fan_in_fan_out=isinstance(layers[0], Conv1D))
    model, x = get_peft_model(layers, config), torch.randn(3, 7, 6)
    model.get_base_model()[0].lora_B["default"].weight.data.normal_()
    plain = outputs_and_gradients(copy.deepcopy(model), x)
    assert add_in_place(model) == 1
    for found, wanted in zip(outputs_and_gradients(model, x), plain, strict=True):
        assert found.equal(wanted)


def test_asked_again_it_adds_nothing():
    model = tuned()
    assert (add_in_place(model), add_in_place(model)) == (2, 0)
