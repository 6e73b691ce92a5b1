"""Whoever generates replies does it plainly: evaluation, the gate of the warm-up, and a chat model that rewrites."""

import pytest
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin

from epo.evaluation.generate import generate_replies
from epo.evaluation.text_recall import text_recall
from epo.preferences.local_chat import LocalChat
from epo.prompts.text_prompts import TextPrompts
from epo.training.collate import PromptBuilder

_ODD = GenerationConfig(do_sample=True, top_p=0.4, min_p=0.3, repetition_penalty=1.8, min_new_tokens=3)


@pytest.fixture
def processors(monkeypatch):
    """The names of the logits processors of each generation, in order."""
    calls = []
    stock = GenerationMixin._get_logits_processor

    def keep(self, *args, **kwargs):
        found = stock(self, *args, **kwargs)
        calls.append([type(processor).__name__ for processor in found])
        return found

    monkeypatch.setattr(GenerationMixin, "_get_logits_processor", keep)
    return calls


def test_replies_are_greedy_or_drawn_from_all_tokens(make_model, examples, clip_cache, processors):
    model, processor = make_model()
    prompts = [PromptBuilder(processor, clip_cache)(examples[0])]
    plain = generate_replies(model, processor, prompts, max_new_tokens=6)
    model.generation_config = _ODD
    assert generate_replies(model, processor, prompts, max_new_tokens=6) == plain
    generate_replies(model, processor, prompts, max_new_tokens=2, temperature=1.0)
    generate_replies(model, processor, prompts, max_new_tokens=2, temperature=0.7)
    assert processors == [[], [], [], ["TemperatureLogitsWarper"]]


def test_the_gate_of_the_warm_up_is_greedy(make_llm, tokenizer, examples, processors):
    llm = make_llm()
    llm.generation_config = _ODD
    text_recall(llm, TextPrompts(tokenizer), examples[:1], [("x",)], max_new_tokens=2)
    assert processors == [[]]


def test_a_chat_model_is_sampled_at_its_temperature_alone(make_llm, tokenizer, processors):
    llm = make_llm()
    llm.generation_config = _ODD
    for temperature in (0.0, 0.7):
        LocalChat("tiny", llm, tokenizer, temperature, max_tokens=8).ask("Say it angrily.", 1)
    assert processors == [[], ["_Draw"]]
