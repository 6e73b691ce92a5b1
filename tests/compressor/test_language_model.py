"""A language model is asked in embeddings: what fits is measured right, what does not is refused by its family."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from compressor.language_model import (
    LanguageModelError,
    embed_words,
    embedding_std,
    logits_at,
    logits_of,
    require_supported,
    text_part,
)

SMALL = {
    "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip


def build(family, kind=None, **changes):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SMALL | changes))
    return (AutoModelForCausalLM.from_config(config) if kind is None else kind(config)).eval()


def test_words_are_embedded_as_the_model_reads_them():
    """Gemma 3 multiplies by sqrt(16) = 4 inside its embedding, Llama by nothing."""
    for family, scale in (("gemma3_text", 4.0), ("llama", 1.0)):
        llm = build(family)
        weight = llm.get_input_embeddings().weight.detach()
        torch.testing.assert_close(embed_words(llm, torch.tensor([3, 5])), scale * weight[[3, 5]])
        assert embedding_std(llm) == pytest.approx(scale * weight.std().item(), rel=1e-5)


@pytest.mark.parametrize("family", ["llama", "mamba2"])
def test_some_columns_score_as_in_the_whole(family):
    changes = {"num_heads": 4, "head_dim": 8, "state_size": 8, "n_groups": 1} if family == "mamba2" else {}
    llm, ids = build(family, **changes), torch.arange(2, 14).view(2, 6)
    with torch.no_grad():
        whole = logits_at(llm, None, input_ids=ids)
        torch.testing.assert_close(logits_at(llm, torch.tensor([1, 4]), input_ids=ids), whole[:, [1, 4]])


class HeadByHand(LlamaForCausalLM):
    """Multiplies by the head's weight and never calls it."""

    def forward(self, logits_to_keep=slice(None), **kwargs):
        states = self.model(**kwargs).last_hidden_state[:, logits_to_keep]
        return CausalLMOutputWithPast(logits=states @ self.lm_head.weight.T)


class AllColumns(LlamaForCausalLM):
    """Does not take `logits_to_keep`."""

    def forward(self, inputs_embeds=None):
        return super().forward(inputs_embeds=inputs_embeds)


@pytest.mark.parametrize("kind", [None, HeadByHand, AllColumns])
def test_some_positions_score_as_in_the_whole(kind):
    """Two rows, one position twice; scores and the gradient that reaches the embeddings."""
    llm = build("llama", kind)
    rows, columns = torch.tensor([0, 0, 1, 0]), torch.tensor([1, 4, 2, 1])
    found = []
    for narrow in (True, False):
        embeds = embed_words(llm, torch.arange(2, 14).view(2, 6)).requires_grad_()
        if narrow:
            scores = logits_of(llm, rows, columns, inputs_embeds=embeds)
        else:
            scores = llm(inputs_embeds=embeds).logits[rows, columns]
        scores.log_softmax(dim=-1)[:, 3].square().sum().backward()
        found += [(scores, embeds.grad)]
    for narrowed, whole in zip(*found, strict=True):
        torch.testing.assert_close(narrowed, whole, atol=1e-5, rtol=1e-5)
    assert not llm.get_output_embeddings()._forward_pre_hooks


def test_the_head_runs_on_positions_that_are_wanted_and_on_one_where_none_is():
    llm, seen = build("llama"), []
    llm.lm_head.register_forward_hook(lambda _, args, output: seen.append(args[0].shape[:2]))
    inputs = {"input_ids": torch.arange(2, 14).view(2, 6)}
    logits_of(llm, torch.tensor([0, 0, 1]), torch.tensor([1, 4, 2]), **inputs)
    nowhere = torch.tensor([], dtype=torch.long)
    assert logits_of(llm, nowhere, nowhere, **inputs).shape[0] == 0
    assert seen == [(1, 3), (1, 1)]


class ReadsIds(LlamaForCausalLM):
    """Looks at the ids besides, where it gets them."""

    def forward(self, input_ids=None, **kwargs):
        output = super().forward(input_ids=input_ids, **kwargs)
        if input_ids is not None:
            output.logits = output.logits + 3.0
        return output


class RefusesEmbeddings(LlamaForCausalLM):
    """Takes ids only."""

    def forward(self, input_ids, use_cache=False):
        return super().forward(input_ids=input_ids, use_cache=use_cache)


def broken():
    llm = build("llama")
    llm.model.layers[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    return llm


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: build("llama", ReadsIds), "scores for embeddings are 3 off"),
        (lambda: build("llama", RefusesEmbeddings), "fails on embeddings: .*inputs_embeds"),
        (broken, "scores are not finite"),
    ],
)
def test_what_cannot_read_embeddings_is_refused_in_a_line(make, reason):
    with pytest.raises(LanguageModelError, match=f"family 'llama' is not supported: .*{reason}") as error:
        require_supported(make())
    assert "\n" not in str(error.value) and "docs/families.md" in str(error.value)


def test_training_mode_is_left_as_it_was():
    llm = build("llama").train()
    require_supported(llm)
    assert llm.training


def test_the_text_part_of_a_multimodal_model_scores_text_as_the_whole():
    config = AutoConfig.for_model("llava", text_config={"model_type": "llama", **SMALL}, vision_config=VISION)
    torch.manual_seed(0)
    whole, ids = AutoModelForImageTextToText.from_config(config).eval(), torch.arange(2, 14).view(2, 6)
    llm = text_part(whole)
    assert type(llm) is LlamaForCausalLM
    with torch.no_grad():
        assert llm(input_ids=ids).logits.equal(whole(input_ids=ids).logits)


def test_a_multimodal_model_without_a_causal_text_part_is_refused():
    whole = build("llama")
    whole.config.get_text_config = lambda: AutoConfig.for_model("clip_text_model")
    with pytest.raises(LanguageModelError, match="family 'llama' is not supported: its text part cannot be taken out"):
        text_part(whole)
