"""The scan and the convolution of Mamba-2 against a recurrence written out position by position, and transformers'."""

import importlib.util

import pytest
import torch
from torch.nn import functional

from compressor.scan import causal_convolution, chunk_scan


def slow_scan(x, dt, A, B, C, D, dt_bias, state):
    """One position after the other: h = exp(dt A) h + dt x B, y = C h + D x."""
    outputs = []
    per_group = x.size(2) // B.size(2)
    for t in range(x.size(1)):
        step = functional.softplus(dt[:, t] + dt_bias)  # (b, H)
        takes, reads = (m[:, t].repeat_interleave(per_group, dim=1) for m in (B, C))  # (b, H, N)
        new = step[..., None, None] * x[:, t].unsqueeze(-1) * takes.unsqueeze(2)
        state = (step * A).exp()[..., None, None] * state + new
        outputs.append((state * reads.unsqueeze(2)).sum(-1) + D[:, None] * x[:, t])
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("length", [1, 7, 32, 75])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("begins", [False, True])
def test_the_scan_is_the_recurrence_forward_and_backward(length, groups, begins):
    torch.manual_seed(0)
    b, heads, width, size = 2, 4, 8, 16
    x, dt = torch.randn(b, length, heads, width), torch.randn(b, length, heads)
    B, C = torch.randn(2, b, length, groups, size)
    A, D, bias = -torch.rand(heads), torch.randn(heads), torch.randn(heads)
    state = torch.randn(b, heads, width, size) if begins else torch.zeros(b, heads, width, size)
    inputs = [tensor.requires_grad_() for tensor in (x, dt, B, C, A)]
    x, dt, B, C, A = inputs
    slow = slow_scan(x, dt, A, B, C, D, bias, state)
    fast = chunk_scan(
        x, dt, A, B, C, 32, D, bias, initial_states=state if begins else None, dt_softplus=True,
        return_final_states=True,
    )  # fmt: skip
    for ours, wanted in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
    grads = [torch.autograd.grad((y.square().sum() + s.square().sum()), inputs) for y, s in (fast, slow)]
    for ours, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())


def test_the_size_of_a_chunk_changes_nothing():
    torch.manual_seed(0)
    x, dt, A = torch.randn(2, 50, 4, 8), torch.randn(2, 50, 4), -torch.rand(4)
    B, C = torch.randn(2, 2, 50, 1, 16)
    one, other = (chunk_scan(x, dt, A, B, C, size, dt_softplus=True) for size in (8, 64))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", [None, "silu"])
def test_the_convolution_is_torchs(activation):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 6, 9), torch.randn(6, 4), torch.randn(6)
    wanted = functional.conv1d(functional.pad(x, (3, 0)), weight.unsqueeze(1), bias, groups=6)
    wanted = functional.silu(wanted) if activation == "silu" else wanted
    torch.testing.assert_close(causal_convolution(x, weight, bias, activation), wanted)


def test_a_model_computes_with_it_what_it_computed_before(make_compressor):
    """The whole backbone, with transformers' own functions and with ours."""
    from transformers.models.mamba2 import modeling_mamba2

    model = make_compressor().eval()
    ids = torch.randint(0, 100, (2, 30))
    if not hasattr(modeling_mamba2, "mamba2_chunk_scan"):
        pytest.skip("this version of transformers keeps the scan inside the layer, where ours does not reach")
    assert modeling_mamba2.mamba2_chunk_scan is chunk_scan
    ours = model.backbone(input_ids=ids).last_hidden_state
    fresh = importlib.util.module_from_spec(modeling_mamba2.__spec__)
    modeling_mamba2.__spec__.loader.exec_module(fresh)
    backbone = fresh.Mamba2Model(model.backbone.config).eval()
    backbone.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(ours, backbone(input_ids=ids).last_hidden_state, rtol=1e-4, atol=1e-5)
