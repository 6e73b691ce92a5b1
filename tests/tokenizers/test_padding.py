"""No stage leans on a tokenizer's padding: with no token for it, eos, id 0, on either side, the same comes out."""

import pytest
import torch

from compressor.curriculum import ScheduledDataset
from compressor.data import CompressionCollator, History
from compressor.fitting import FixedParts
from compressor.text import PAD, pad_left
from compressor.utterance import Utterance
from epo.evaluation.generate import generate_replies
from epo.evaluation.text_recall import text_recall
from epo.preferences.local_chat import LocalChat
from epo.prompts.text_prompts import TextPrompts
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder, SftCollator
from epo.training.lora import lora_config
from epo.training.trainer import EpoTrainer


def no_token(words):
    words.pad_token = None


def end_of_sequence(words):
    words.pad_token = words.eos_token


def id_zero_on_the_left(words):
    assert words.pad_token_id == 0
    words.padding_side = "left"


def beyond_the_table(words):
    """Padding tokens are often added without growing the model: id 324 of 320 and four placeholders."""
    words.add_special_tokens({"pad_token": "<|padding|>"})
    assert words.pad_token_id == 324


@pytest.fixture(params=[no_token, end_of_sequence, id_zero_on_the_left, beyond_the_table])
def change(request):
    return request.param


def test_prompts_are_padded_on_the_left():
    batch = pad_left([[5, 6, 7], [8], []])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [PAD, PAD, 8], [PAD, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_replies_are_the_same(change, model_and_processor, examples, clip_cache):
    model, processor = model_and_processor
    build = PromptBuilder(processor, clip_cache)
    prompts = [build(example) for example in examples[:5]]
    assert len({len(prompt.input_ids) for prompt in prompts}) > 1
    alone = [generate_replies(model, processor, [prompt], 1, max_new_tokens=8)[0] for prompt in prompts]
    change(processor.tokenizer)
    assert generate_replies(model, processor, prompts, 3, max_new_tokens=8) == alone
    batch = SftCollator(examples, build)([{"index": i, "seed": i, "progress": 0.5} for i in range(4)])
    assert batch["input_ids"].max() < 324


def test_text_recall_is_the_same(change, make_llm, tokenizer, examples, monkeypatch):
    llm, heard = make_llm(), []

    def recall(batch_size):
        from epo.evaluation import text_recall as module

        monkeypatch.setattr(module, "fact_recall", lambda replies, facts: heard.append(replies) or 0.0)
        text_recall(llm, TextPrompts(tokenizer), examples[:4], [("x",)] * 4, batch_size, max_new_tokens=8)

    recall(1)
    if change is beyond_the_table:
        tokenizer.add_tokens(["<|1|>", "<|2|>", "<|3|>", "<|4|>"], special_tokens=True)
    change(tokenizer)
    recall(3)
    assert heard[0] == heard[1] and any(heard[0])


def test_a_local_chat_model_answers_the_same(change, make_llm, make_tokenizer):
    def answer(words):
        return LocalChat("tiny", make_llm(), words, temperature=0, max_tokens=6).ask("Hello", 0)

    words = make_tokenizer()
    if change is beyond_the_table:
        words.add_tokens(["<|1|>", "<|2|>", "<|3|>", "<|4|>"], special_tokens=True)
    change(words)
    assert answer(words) == answer(make_tokenizer())


def test_the_compressors_batches_are_the_same(change, make_tokenizer):
    from epo.prompts.marks import add_placeholders

    def batch(change):
        words = make_tokenizer()
        add_placeholders(words)
        change(words)
        histories = [
            History((Utterance("user", "I met Mira."),) * n, FixedParts(after="And now?"), "Fine." * n) for n in (1, 4)
        ]
        rows = [{"history": history, "target_turn": 0} for history in histories]
        return CompressionCollator(make_tokenizer(), words, 320, 2)(rows)

    ours, plain = batch(change), batch(lambda words: None)
    assert all(ours[name].equal(plain[name]) for name in plain)


def test_preference_training_is_the_same(change, make_model, pairs, clip_cache, tmp_path):
    def losses(change):
        torch.manual_seed(3)
        model, processor = make_model()
        change(processor.tokenizer)
        args = EpoArguments(
            output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=3, learning_rate=1e-2, logging_steps=1,
            save_strategy="no", report_to="none", use_cpu=True, beta=0.3, alpha=0.7, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True,
        )  # fmt: skip
        trainer = EpoTrainer(
            model=model, args=args, train_dataset=ScheduledDataset(len(pairs), 6, seed=0), processing_class=processor,
            data_collator=PairCollator(pairs, PromptBuilder(processor, clip_cache)),
            peft_config=lora_config(model, 4, 8, 0.0),
        )  # fmt: skip
        trainer.train()
        return [row["loss"] for row in trainer.state.log_history if "loss" in row]

    assert losses(change) == pytest.approx(losses(lambda words: None), abs=1e-6)
