"""ZeRO-3 gathers a module's weights when it is called: nothing reads those of a module that it does not call."""

import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig

from compressor.seams import gather_together
from epo.model.extractor import EmotionExtractor
from epo.model.modeling import EpoForConditionalGeneration
from epo.prompts.marks import add_placeholders
from epo.training.collate import PromptBuilder, SftCollator
from epo.training.lora import inject_lora, lora_config

_TOWERS = {
    "siglip_vision_model": {"vision_use_head": True},
    "clip_vision_model": {"projection_dim": 16},
}


@pytest.fixture
def leaves(monkeypatch):
    """What `gather_together` marks, without DeepSpeed."""
    found = []
    utils = SimpleNamespace(set_z3_leaf_module=lambda module, flag: found.append(module))
    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(utils=utils))
    monkeypatch.setitem(sys.modules, "deepspeed.utils", utils)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    return found


@pytest.fixture(params=_TOWERS)
def model(request, make_llm, make_extractor, make_compressor, make_tokenizer):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"model_type": request.param, "image_size": 16, "patch_size": 8} | sizes | _TOWERS[request.param]
    config = make_extractor().config
    config.vision_config = AutoConfig.for_model(vision.pop("model_type"), **vision)
    extractor = EmotionExtractor(config)
    words = make_tokenizer()
    ids = add_placeholders(words)
    return EpoForConditionalGeneration.from_parts(make_llm(), extractor, make_compressor(), words, ids)


@pytest.fixture
def batch(model_and_processor, examples, clip_cache):
    build = PromptBuilder(model_and_processor[1], clip_cache)
    batch = SftCollator(examples, build)([{"index": i, "seed": 0} for i in range(2)])
    return {name: tensor for name, tensor in batch.items() if name not in ("labels", "emotions")}


@pytest.mark.parametrize("is_training", [True, False])
def test_each_module_with_weights_is_called_or_inside_a_leaf_that_returns_tensors(model, batch, leaves, is_training):
    inject_lora(model, lora_config(model, 4, 8, 0.0))
    gather_together(model)
    inside = {id(module) for leaf in leaves for module in leaf.modules()}
    assert len(leaves) >= 4  # two Mamba layers, the transformers over frames and over both modalities
    called, returned = set(), []
    for module in model.modules():
        module.register_forward_pre_hook(lambda module, *_: called.add(id(module)))
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, _, output: returned.append(output))
    with torch.set_grad_enabled(is_training):
        model.train(is_training)(**batch)
    for output in returned:  # torch fires no backward hook of the leaf for anything else
        assert isinstance(output, torch.Tensor) or type(output) is tuple
    silent = [
        name
        for name, module in model.named_modules()
        if list(module.parameters(recurse=False)) and id(module) not in called | inside
    ]
    assert silent == []
