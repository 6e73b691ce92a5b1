"""Plain decoding: draws follow the whole distribution, and no setting of the checkpoint leaks in."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin

from compressor.decoding import plain_decoding

# What published chat models bring along, and more.
_ODD = {
    "do_sample": True, "temperature": 0.2, "top_k": 3, "top_p": 0.4, "min_p": 0.3, "typical_p": 0.5,
    "epsilon_cutoff": 0.01, "eta_cutoff": 0.01, "repetition_penalty": 1.8, "no_repeat_ngram_size": 1,
    "min_new_tokens": 5, "suppress_tokens": [7], "begin_suppress_tokens": [8], "bad_words_ids": [[9]],
    "forced_eos_token_id": 1, "renormalize_logits": True, "eos_token_id": [1, 2], "pad_token_id": 0,
}  # fmt: skip
_PROMPT = torch.tensor([[5, 6, 7]])


@pytest.fixture
def llm(make_llm):
    model = make_llm()
    model.generation_config = GenerationConfig(**_ODD)
    return model


@pytest.fixture
def processors(monkeypatch):
    """The names of the logits processors of the latest generation."""
    names = []
    stock = GenerationMixin._get_logits_processor

    def keep(self, *args, **kwargs):
        found = stock(self, *args, **kwargs)
        names[:] = [type(processor).__name__ for processor in found]
        return found

    monkeypatch.setattr(GenerationMixin, "_get_logits_processor", keep)
    return names


def test_draws_reach_the_whole_vocabulary_as_often_as_they_are_likely(llm):
    """320 tokens, all equally likely but one of twice the weight: top-k 50 would reach 50 of them."""
    with torch.no_grad():
        llm.get_output_embeddings().weight.zero_()
    llm.get_output_embeddings().register_forward_hook(lambda module, inputs, logits: logits + weights)
    weights = torch.zeros(320)
    weights[40] = torch.log(torch.tensor(2.0))
    torch.manual_seed(0)
    with plain_decoding(llm, 1.0) as sampling:
        drawn = llm.generate(_PROMPT.repeat(6420, 1), **sampling, max_new_tokens=1)[:, -1]
    counts = torch.bincount(drawn, minlength=320).double()
    expected = torch.full((320,), 20.0, dtype=torch.float64)  # 6420 / 321
    expected[40] = 40.0
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert 250 < chi_square < 400  # 319 degrees of freedom: mean 319, standard deviation 25
    assert (counts > 0).sum() == 320


def test_sampling_divides_by_the_temperature_and_does_nothing_else(llm, processors):
    with plain_decoding(llm, 0.7) as sampling:
        llm.generate(_PROMPT, **sampling, max_new_tokens=2)
    assert processors == ["TemperatureLogitsWarper"]
    with plain_decoding(llm, 1.0) as sampling:
        llm.generate(_PROMPT, **sampling, max_new_tokens=2)
    assert processors == []


def test_greedy_is_the_most_likely_token_of_the_bare_logits(llm, processors):
    ids = _PROMPT
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat([ids, llm(ids).logits[:, -1:].argmax(-1)], dim=1)
    with plain_decoding(llm, 0) as greedy:
        found = llm.generate(_PROMPT, **greedy, max_new_tokens=6, eos_token_id=319)
    assert processors == [] and found.tolist() == ids.tolist()


def test_the_checkpoints_settings_come_back_and_its_end_of_turn_stays(llm):
    before = llm.generation_config
    with plain_decoding(llm, 1.0):
        assert llm.generation_config.eos_token_id == [1, 2] and llm.generation_config.pad_token_id == 0
        assert llm.generation_config.repetition_penalty in (None, 1.0)
    assert llm.generation_config is before
    with pytest.raises(RuntimeError), plain_decoding(llm, 1.0):
        raise RuntimeError
    assert llm.generation_config is before
    with pytest.raises(ValueError, match="temperature is -1, want 0"), plain_decoding(llm, -1):
        pass


def test_a_peft_model_is_plain_too(llm, processors):
    policy = get_peft_model(llm, LoraConfig(target_modules=["q_proj"]))
    with plain_decoding(policy, 0.5) as sampling:
        policy.generate(input_ids=_PROMPT, **sampling, max_new_tokens=2)
    assert processors == ["TemperatureLogitsWarper"]
