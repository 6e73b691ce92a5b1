"""Model families: found by name, asked what trainers need, and added from outside in one file."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import ProcessorMixin
from trl.trainer.utils import add_fused_lm_head

from compressor.chat import chat_format
from compressor.curriculum import ScheduledDataset
from epo.evaluation.rewards import adapter_logps, pair_logps
from epo.model.clip_reader import ClipFeatures
from epo.model.dropout import switch_dropout_off
from epo.model.family import FAMILIES, FamilyError, bare, family_of, require_processor
from epo.model.linears import linears_below
from epo.model.processing import Prompt
from epo.prompts.emotion_label import reply_text
from epo.prompts.layout import Layout
from epo.prompts.part import Asked
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.encoder_cache import EncoderCacheError
from epo.training.kept_prompts import require_kept
from epo.training.lora import lora_config
from epo.training.reading import settle_reading
from epo.training.trainer import EpoTrainer


class NoClips:
    """Reads nothing: a text model neither hears nor sees."""

    def read(self, clip, cache):
        return ClipFeatures()

    def batch(self, clips):
        return {}


class BlindProcessor(ProcessorMixin):
    """Prompts of text alone."""

    def __init__(self, tokenizer, **kwargs):
        super().__init__(tokenizer, **kwargs)

    clips = NoClips()
    chat = property(lambda self: chat_format(self.tokenizer))

    def encode_prompt(self, history, current, clip, use_memory=False):
        ids = Layout(("turns", "words")).encode(self.chat, Asked(history, current), limit=None)[1]
        return Prompt(ids, [], clip, 0)

    def encode_reply(self, text, emotion):
        return self.chat.encode_reply(reply_text(text, emotion))

    def batch_context(self, prompts):
        return {}


class BlindFamily:
    """A plain language model of transformers, scored by TRL's own head, each prompt read once a reply."""

    model_class, processor_class, model_type = "Qwen3ForCausalLM", "BlindProcessor", "qwen3"

    def load(self, folder, dtype, bf16):
        raise NotImplementedError

    def prepare_scoring(self, model):
        if "forward" not in vars(model):
            add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))

    def encode_once(self, model, batch):
        return {key: value for key, value in batch.items() if key != "prompt_lengths"}

    def share_prompts(self, model, batch):
        return "TRL's head reads rows"

    def lora_targets(self, model):
        return linears_below(model, "model.")

    def freeze_for_preference(self, model):
        switch_dropout_off(model)


@pytest.fixture
def blind():
    """Registered from outside the package, for one test."""
    yield FAMILIES.register("blind", BlindFamily())
    FAMILIES.forget("blind")


def test_a_family_from_outside_trains_with_the_same_trainer(
    blind, make_llm, tokenizer, clip_cache, pairs, tmp_path, capsys
):
    """ln 2 and the NLL at the start, by what the stock forward says of each reply."""
    llm, build = make_llm(), PromptBuilder(BlindProcessor(tokenizer), clip_cache)
    args = EpoArguments(
        output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, alpha=0.5,
        disable_tqdm=True,
    )  # fmt: skip
    trainer = EpoTrainer(
        llm, args=args, train_dataset=ScheduledDataset(len(pairs), 12, seed=0),
        data_collator=PairCollator(pairs, build), processing_class=build.processor,
        peft_config=lora_config(llm, 4, 8, 0.0),
    )  # fmt: skip
    assert "each prompt is read twice a pair: TRL's head reads rows" in capsys.readouterr().out
    total, count = 0.0, 0
    for pair in pairs[:4]:
        prompt = build(pair.reply).input_ids
        reply = build.processor.encode_reply(pair.reply.text, pair.reply.emotion)
        with torch.no_grad():
            scores = make_llm()(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
        total += scores.log_softmax(dim=-1).gather(1, torch.tensor(reply).unsqueeze(1)).sum().item()
        count += len(reply)
    batch = PairCollator(pairs, build)([{"index": i} for i in range(4)])
    loss = trainer.compute_loss(trainer.model, batch).item()
    assert loss == pytest.approx(math.log(2) - 0.5 * total / count, abs=1e-4)
    trainer.train()
    policy, reference = adapter_logps(trainer.model, pairs, build)
    assert ((policy[0] - reference[0]) > (policy[1] - reference[1])).float().mean() > 0.8
    torch.testing.assert_close(pair_logps(make_llm(), pairs, build), reference, atol=1e-4, rtol=1e-4)


def test_ways_that_a_family_from_outside_does_not_know_are_named():
    """As `BlindFamily` was written: before some of them were there."""

    class Sharing(BlindFamily):
        def share_prompts(self, model, batch):
            return None

    asked = SimpleNamespace(tokens_per_row=400, flex_attention=True)
    assert settle_reading(Sharing(), None, {}, asked) == [
        "tokens_per_row does nothing: the model's family has no pack_rows",
        "flex_attention does nothing: the model's family has no attend_in_blocks",
    ]
    with pytest.raises(EncoderCacheError, match="what Qwen3ForCausalLM encodes cannot be kept apart"):
        require_kept(Sharing(), None, {}, None)


def test_a_model_is_of_its_family_with_and_without_peft(model_and_processor):
    from peft import get_peft_model

    model, processor = model_and_processor
    policy = get_peft_model(model, lora_config(model, 4, 8, 0.0))
    assert bare(policy) is model and family_of(policy) is family_of(model) is FAMILIES.get("composed")
    require_processor(family_of(policy), processor)


@pytest.mark.parametrize("thing", [torch.nn.Linear(2, 2), "a/name/of/a/model", None])
def test_what_is_no_model_of_any_family_is_named(thing):
    with pytest.raises(FamilyError, match=f"the model is a {type(thing).__name__}, of no model family; want one of"):
        family_of(thing)


def test_a_model_of_a_family_inside_another_one_is_pointed_at(model_and_processor):
    """As the thinker is in a whole Qwen2.5-Omni, or any model in a wrapper of torch."""
    whole = torch.nn.Module()
    whole.thinker = model_and_processor[0]
    with pytest.raises(FamilyError, match="the model is a Module, of no .*: give its part 'thinker', which is one"):
        family_of(whole)
