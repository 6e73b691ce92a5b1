"""The scan and the convolution against transformers' reference, forwards and backwards."""

import importlib.util

import pytest
import torch
from transformers.models.mamba2 import modeling_mamba2

from compressor.scan import causal_convolution, chunk_scan


@pytest.fixture(scope="module")
def reference():
    """A fresh copy of transformers' module, with its own functions."""
    spec = importlib.util.find_spec(modeling_mamba2.__name__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scan_inputs(length, heads, groups, width=8, size=6):
    torch.manual_seed(length + heads)
    shapes = {
        "hidden_states": (2, length, heads, width), "dt": (2, length, heads), "A": (heads,),
        "B": (2, length, groups, size), "C": (2, length, groups, size), "D": (heads,), "dt_bias": (heads,),
    }  # fmt: skip
    inputs = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    inputs["A"] = (-torch.rand(heads) * 8 - 1).requires_grad_()
    return inputs, torch.randn(2, heads, width, size)


def outputs_and_gradients(scan, inputs, **settings):
    output, state = scan(**inputs, chunk_size=8, dt_softplus=True, return_final_states=True, **settings)
    loss = (output * torch.sin(torch.arange(output.numel()).view(output.shape))).sum() + state.sum()
    return [output, state, *torch.autograd.grad(loss, list(inputs.values()))]


@pytest.mark.parametrize(("length", "heads", "groups"), [(1, 4, 1), (8, 4, 1), (21, 4, 2), (40, 3, 3)])
@pytest.mark.parametrize("goes_on", [False, True])
def test_scan_agrees_with_the_reference(reference, length, heads, groups, goes_on):
    inputs, state = scan_inputs(length, heads, groups)
    settings = {"initial_states": state if goes_on else None, "dt_limit": (0.01, 2.0)}
    ours = outputs_and_gradients(chunk_scan, inputs, **settings)
    slow = outputs_and_gradients(reference.mamba2_chunk_scan, inputs, **settings)
    for mine, theirs in zip(ours, slow, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_scan_does_not_depend_on_the_chunk():
    inputs, _ = scan_inputs(21, 4, 1)
    small, large = (chunk_scan(**inputs, chunk_size=size, dt_softplus=True) for size in (4, 64))
    torch.testing.assert_close(small, large, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("has_bias", [False, True])
def test_convolution_agrees_with_the_reference(reference, has_bias):
    torch.manual_seed(0)
    hidden, weight = torch.randn(2, 5, 9, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    bias = torch.randn(5, requires_grad=True) if has_bias else None
    wanted = [tensor for tensor in (hidden, weight, bias) if tensor is not None]

    def run(convolve):
        output = convolve(hidden, weight, bias, activation="silu")
        return [output, *torch.autograd.grad((output * torch.linspace(-1, 1, 9)).sum(), wanted)]

    for mine, theirs in zip(run(causal_convolution), run(reference.causal_conv1d_fn), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_layers_call_them():
    assert modeling_mamba2.mamba2_chunk_scan is chunk_scan
    assert modeling_mamba2.causal_conv1d_fn is causal_convolution
