"""Budgets: every kind works at k = 1, 2, 4 and 8 memory tokens a turn, in training, on disk and under the measures."""

import pytest
import torch
from transformers import AutoModel, TrainingArguments

from compressor.curriculum import Curriculum, ScheduledDataset
from compressor.data import CompressionCollator, encode_turns
from compressor.evaluation import memory_report
from compressor.kinds import KINDS, learns
from compressor.streaming import MemoryStream, can_stream
from compressor.text import pad_right
from compressor.trainer import CompressorTrainer, CurriculumCollator, ObjectiveWeights
from epo.model.parts import build_compressor
from epo.prompts.histories import history_of
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders

BUDGETS = (1, 2, 4, 8)


@pytest.fixture
def build(part, make_llm, make_tokenizer, examples):
    """Return a compressor of a kind and k with what it is trained and measured with."""

    def build(kind, k):
        torch.manual_seed(0)
        llm, words = make_llm(), make_tokenizer()
        memory_id = add_placeholders(words)["memory_token_id"]
        compressor = build_compressor(part("mamba2"), k, llm, "", kind)
        collator = CompressionCollator(make_tokenizer(), words, compressor.vocab_size, k)
        histories = [history_of(example, Layout(), i % 2 == 0) for i, example in enumerate(examples)]
        return compressor, llm, memory_id, collator, histories

    return build


@pytest.mark.parametrize("k", BUDGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_gives_k_vectors_a_turn_saves_them_and_is_measured(build, kind, k, tmp_path):
    """Turns of one token and of none have k vectors too; as many as the prompt has placeholders."""
    compressor, llm, memory_id, collator, histories = build(kind, k)
    compressor.eval()
    batch = collator([{"history": history, "target_turn": 0} for history in histories[:4]])
    with torch.no_grad():
        memory = compressor(input_ids=batch["input_ids"])
    counts = [k * len(history.turns) for history in histories[:4]]
    assert memory.mask.sum(dim=1).tolist() == (batch["reply_ids"] == memory_id).sum(dim=1).tolist() == counts
    assert memory.vectors.shape[2] == 32 and torch.isfinite(memory.vectors).all()
    slots = list(range(compressor.vocab_size, compressor.vocab_size + k))
    assert int(compressor(input_ids=torch.tensor([[5, *slots, *slots]])).mask.sum()) == 2 * k
    report = memory_report(compressor, llm, histories[:4], collator, memory_id)
    assert report["memory_tokens"] == sum(counts) / 4
    compressor.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert loaded.config.num_memory_tokens == k
    with torch.no_grad():
        assert loaded(input_ids=batch["input_ids"]).vectors.equal(memory.vectors)
    if can_stream(compressor):
        stream, told = MemoryStream(compressor), [turn.line for turn in histories[1].turns]
        vocab = compressor.vocab_size
        streamed = [stream.append(encode_turns(collator.tokenizer, [line], vocab, k)) for line in told]
        torch.testing.assert_close(torch.cat(streamed), memory.vectors[1][memory.mask[1]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("k", BUDGETS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if learns(kind)])
def test_a_kind_learns_by_all_objectives(build, kind, k, tmp_path):
    """After a dozen steps on four histories again and again the loss is lower, and it is the same trainer for all."""
    compressor, llm, memory_id, collator, histories = build(kind, k)
    histories = histories[:4]
    args = TrainingArguments(
        str(tmp_path), max_steps=12, per_device_train_batch_size=4, learning_rate=1e-2, lr_scheduler_type="constant",
        use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", logging_strategy="no",
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = CompressorTrainer(
        model=compressor,
        args=args,
        train_dataset=ScheduledDataset(4, 48, 0),
        data_collator=CurriculumCollator(histories, Curriculum(0, 0, 0), collator),
        llm=llm,
        memory_id=memory_id,
        weights=ObjectiveWeights(1.0, 0.5, 0.5),
    )
    batch = collator([{"history": history, "target_turn": 0} for history in histories])
    with torch.no_grad():
        before = trainer.loss_terms(compressor, batch)
    trainer.train()
    with torch.no_grad():
        after = trainer.loss_terms(compressor, batch)
    assert set(after) == {"loss", "next_reply", "reconstruction", "distillation"}
    assert after["loss"] < before["loss"]


def test_a_gist_and_a_truncation_have_no_slots_beyond_theirs(build):
    """Rows of several lengths and budgets of one batch: padding is no turn, whatever k."""
    for kind in KINDS:
        compressor = build(kind, 8)[0].eval()
        slots = list(range(compressor.vocab_size, compressor.vocab_size + 8))
        rows = [[5, 6, *slots], [7, *slots, 8, 9, *slots]]
        with torch.no_grad():
            both = compressor(input_ids=pad_right(rows, 0))
            alone = compressor(input_ids=pad_right(rows[:1], 0))
        assert both.mask.sum(dim=1).tolist() == [8, 16]
        torch.testing.assert_close(both.vectors[0, :8], alone.vectors[0], atol=1e-5, rtol=1e-5)
