"""What LoRA learnt becomes part of the model, and none of it is lost: neither in float32 nor in bfloat16."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Conv1D

from compressor.precision import cast_weights
from epo.evaluation.rewards import pair_logps
from epo.model.low_rank import LowRankLinear, add_low_rank
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.saving import save_weights
from epo.training.collate import PromptBuilder, SftCollator
from epo.training.lora import finish_lora, inject_lora, language_model_linears, lora_config

# 2 x ([1, 2] [3, 4]) with alpha / rank = 2; the second column of B, and row of A, is idle.
_DOWN = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
_UP = torch.tensor([[1.0, 0.0], [2.0, 0.0]])


def _state(weight, **more):
    adapter = {"a.lora_A.default.weight": _DOWN, "a.lora_B.default.weight": _UP}
    return (
        {"a.base_layer.weight": weight, "a.base_layer.bias": torch.ones(2), "b.weight": torch.zeros(1)} | adapter | more
    )


def test_float32_weights_take_it_in():
    """W + (alpha / rank) B A = [[1, 0], [0, 1]] + (4 / 2) [[1], [2]] [[3, 4]]."""
    finished, ranks = finish_lora(_state(torch.eye(2)), rank=2, alpha=4, in_float32=True)
    assert finished.keys() == {"a.weight", "a.bias", "b.weight"} and ranks is None
    assert finished["a.weight"].tolist() == [[7, 8], [12, 17]]


def test_computed_with_in_bfloat16_it_stays_beside_float32_weights_too():
    """Autocast rounds W + B A at each use, as it rounded W and B A apart while they were trained."""
    finished, ranks = finish_lora(_state(torch.eye(2)), rank=2, alpha=4, in_float32=False)
    assert ranks == {"a": 2} and finished["a.weight"].equal(torch.eye(2))


def test_beside_bfloat16_weights_it_stays_in_full():
    finished, ranks = finish_lora(_state(torch.eye(2).bfloat16()), rank=2, alpha=4, in_float32=False)
    assert ranks == {"a": 2} and finished["a.weight"].equal(torch.eye(2).bfloat16())
    assert (finished["a.up"] @ finished["a.down"]).tolist() == [[6, 8], [12, 16]]
    assert finished["a.down"].dtype == finished["a.up"].dtype == torch.float32


def test_a_second_one_is_added_to_the_first():
    """The first said [[5, 0], [0, 0]]: together [[11, 8], [12, 16]], whatever the weight is held in."""
    first = {"a.base_layer.down": torch.tensor([[5.0, 0.0]]), "a.base_layer.up": torch.tensor([[1.0], [0.0]])}
    for dtype in (torch.bfloat16, torch.float32):
        finished, ranks = finish_lora(
            _state(torch.eye(2, dtype=dtype), **first), 2, 4, in_float32=dtype is torch.float32
        )
        assert ranks == {"a": 3} and finished["a.weight"].equal(torch.eye(2, dtype=dtype))
        assert (finished["a.up"] @ finished["a.down"]).tolist() == [[11, 8], [12, 16]]


def test_one_that_did_not_train_leaves_nothing():
    idle = {"a.lora_B.default.weight": torch.zeros(2, 2)}
    finished, ranks = finish_lora(_state(torch.eye(2).bfloat16(), **idle), 2, 4, in_float32=False)
    assert ranks == {} and finished.keys() == {"a.weight", "a.bias", "b.weight"}


def test_in_float32_it_equals_pefts_own_merging(make_llm):
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    wrapped = get_peft_model(make_llm(), config)
    state = {name.removeprefix("base_model.model."): tensor for name, tensor in wrapped.state_dict().items()}
    ours, _ = finish_lora(state, rank=4, alpha=8, in_float32=True)
    theirs = wrapped.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-6, msg=name)


def test_a_low_rank_linear_by_hand():
    """y = [[1, 0], [0, 1]] x + b + [[1], [2]] [[3, 4]] x at x = [1, 10], b = [1, 1]: [2, 11] + 43 [1, 2]."""
    linear = nn.Linear(2, 2)
    linear.weight.data, linear.bias.data = torch.eye(2), torch.ones(2)
    model = nn.Sequential(linear)
    add_low_rank(model, {"0": 1})
    assert isinstance(model[0], LowRankLinear) and model(torch.tensor([1.0, 10.0])).tolist() == [2, 11]
    model[0].down.data, model[0].up.data = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [2.0]])
    assert model(torch.tensor([1.0, 10.0])).tolist() == [45, 97]


@pytest.fixture
def batch(model_and_processor, examples, clip_cache):
    build = PromptBuilder(model_and_processor[1], clip_cache)
    batch = SftCollator(examples, build)([{"index": i, "seed": 0} for i in range(3)])
    return {name: tensor for name, tensor in batch.items() if name not in ("labels", "emotions")}


def _tune(model, share):
    """Put a LoRA on a model whose changes are this share of the spread of the weights that they change."""
    torch.manual_seed(3)
    inject_lora(model, lora_config(model, 4, 8, 0.0))
    for module in model.modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            down, up = module.lora_A["default"].weight.data.float(), module.lora_B["default"].weight.data
            change = torch.randn(up.shape)
            up.copy_(change * (share * module.weight.float().std() / (2 * change @ down).std()))


def _answers(model, batch):
    """Logits in float32 arithmetic, so that the weights alone differ."""
    with torch.no_grad():
        return model.float()(**batch).logits


def test_a_transposed_layer_takes_it_in_or_has_it_beside():
    """GPT-2's weight is (in, out): W + (2 [1, 2]^T [3, 4])^T, and x = [1, 1] gives [1, 1] + 14 [1, 2] + bias."""
    layer = Conv1D(2, 2)
    nn.init.eye_(layer.weight)
    state = {name: tensor for name, tensor in _state(layer.weight.detach()).items() if name.startswith("a.")}
    taken_in, _ = finish_lora(state, rank=2, alpha=4, in_float32=True, transposed=["a"])
    assert taken_in["a.weight"].tolist() == [[7, 12], [8, 17]]
    beside, ranks = finish_lora(state, rank=2, alpha=4, in_float32=False, transposed=["a"])
    model = nn.ModuleDict({"a": layer})
    add_low_rank(model, ranks)
    assert isinstance(model["a"], Conv1D)
    model.load_state_dict(beside)
    assert model["a"](torch.ones(1, 2)).tolist() == [[16, 30]]


@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_saved_model_is_the_one_that_trained(model_and_processor, batch, tmp_path, share, dtype):
    """In bfloat16 too, and down to changes a thousandth of the weights' spread, most of which a sum would lose."""
    model = cast_weights(model_and_processor[0], dtype)
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _tune(model, share)
    state, model.config.low_rank = finish_lora(model.state_dict(), 4, 8, in_float32=dtype is torch.float32)
    save_weights(model.config, state, tmp_path)
    wanted = _answers(model, batch)
    saved, found = EpoForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert {p.dtype for p in saved.parameters()} == {dtype}
    if dtype is torch.bfloat16:
        assert all(saved.state_dict()[name].equal(tensor) for name, tensor in plain.items())
    untuned = EpoForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    for name, parameter in untuned.named_parameters():
        if name.endswith(".up"):
            parameter.data.zero_()
    change = (wanted - _answers(untuned, batch)).norm() if dtype is torch.bfloat16 else wanted.norm()
    # The factors themselves are rounded to bfloat16: 1/512 of the change each, and not of the weight.
    assert (_answers(saved, batch) - wanted).norm() < (0.02 if dtype is torch.bfloat16 else 1e-5) * change


def test_a_sum_in_bfloat16_would_lose_most_of_it(model_and_processor):
    """What the rule is for: of changes a thousandth of the spread, less than half survive being added and rounded."""
    model = cast_weights(model_and_processor[0], torch.bfloat16)
    _tune(model, 1e-3)
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    change = layer.get_delta_weight("default").float()
    kept = (layer.weight.float() + change).bfloat16().float() - layer.weight.float()
    assert (kept != 0).float().mean() < 0.5


def test_preference_training_goes_on_from_it(model_and_processor, pairs, clip_cache, tmp_path):
    """A fresh LoRA sits on the changed layers, and with it off they are the reference, change and all."""
    model, processor = model_and_processor
    build = PromptBuilder(processor, clip_cache)
    plain = pair_logps(model, pairs, build)[0]
    cast_weights(model, torch.bfloat16)
    _tune(model, 0.3)
    state, model.config.low_rank = finish_lora(model.state_dict(), 4, 8, in_float32=False)
    save_weights(model.config, state, tmp_path)
    saved = EpoForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert len(language_model_linears(saved)) == 2 * 7
    reference = pair_logps(saved, pairs, build)[0]
    assert (reference - plain).abs().min() > 0.1
    policy = get_peft_model(saved, lora_config(saved, 4, 8, 0.0))
    assert all(".lora_" in name for name, p in policy.named_parameters() if p.requires_grad)
    for name, parameter in policy.named_parameters():
        if ".lora_B." in name:
            parameter.data.normal_(std=0.3)
    assert (pair_logps(policy, pairs, build)[0] - reference).abs().min() > 0.1
    with policy.disable_adapter():
        assert pair_logps(policy, pairs, build)[0].equal(reference)
