"""What a memory is trained for, worked by hand, and the batches it is trained on."""

import math

import pytest
import torch

from compressor.chat import chat_format
from compressor.data import CompressionCollator, History
from compressor.evaluation import describe_memory, memory_report
from compressor.fitting import FixedParts
from compressor.objectives import (
    columns_of,
    distillation,
    labelled_span,
    memory_logits,
    reply_nll,
    turn_memory,
)
from compressor.placeholders import MEMORY_TOKEN
from compressor.text import IGNORE, CompressorDataError, pad_right
from compressor.utterance import Utterance


def logits_of(*rows):
    """Scores whose softmax is the given probabilities: (B, T, V)."""
    return torch.tensor(rows).log()


def test_mean_over_examples_of_each_examples_mean():
    """Row 0: two labels of p = 1/2 and 1/4, mean (1 + 2) ln 2 / 2; row 1: one label of p = 1/8, 3 ln 2.

    Their mean is (1.5 + 3) / 2 ln 2 = 2.25 ln 2, not the mean over tokens, (1 + 2 + 3) / 3 ln 2 = 2 ln 2.
    """
    rest = [0.5, 0.5]
    logits = logits_of([[0.5, 0.5], [0.25, 0.75], rest], [[0.875, 0.125], rest, rest])
    labels = torch.tensor([[IGNORE, 0, 0], [IGNORE, 1, IGNORE]])
    assert reply_nll(logits, labels).item() == pytest.approx(2.25 * math.log(2))


def test_weights_count_inside_an_example():
    """Labels of p = 1/2 (weight 3) and 1/4 (weight 1): (3 x 1 + 1 x 2) ln 2 / 4 = 1.25 ln 2."""
    logits = logits_of([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    labels, weights = torch.tensor([[IGNORE, 0, 0]]), torch.tensor([[9.0, 3.0, 1.0]])
    assert reply_nll(logits, labels, weights).item() == pytest.approx(1.25 * math.log(2))


def test_an_example_counts_the_same_alone_or_in_a_batch():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    labels[0, 2:], labels[1, :3] = IGNORE, IGNORE
    alone = [reply_nll(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(reply_nll(logits, labels), torch.stack(alone).mean())


def test_an_example_without_labels_is_no_nan():
    labels = torch.full((1, 3), IGNORE)
    assert reply_nll(torch.zeros(1, 3, 4), labels).item() == 0.0


def test_only_labelled_columns_need_scores():
    """Labels in columns 3 to 5: predicted from 2 to 4, so columns 2 to 5 give the loss of the whole."""
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 8, 7), torch.full((2, 8), IGNORE)
    labels[0, 3:5], labels[1, 4:6] = 1, 2
    span = labelled_span(labels)
    assert (span.start, span.stop) == (2, 6)
    assert columns_of(span, labels).tolist() == [2, 3, 4, 5]
    torch.testing.assert_close(reply_nll(logits[:, span], labels[:, span]), reply_nll(logits, labels))


def test_a_batch_without_labels_has_a_span_too():
    labels = torch.full((2, 8), IGNORE)
    assert reply_nll(torch.randn(2, 8, 7)[:, labelled_span(labels)], labels[:, labelled_span(labels)]).item() == 0.0


def test_distillation_is_the_kl_divergence_over_reply_tokens():
    """Teacher (1/2, 1/2), student (1/4, 3/4): KL = 1/2 ln 2 + 1/2 ln 2/3; only the labelled token counts."""
    far = [0.01, 0.99]
    student, labels = logits_of([far, [0.25, 0.75], far]), torch.tensor([[IGNORE, IGNORE, 1]])
    teacher, teacher_labels = logits_of([[0.5, 0.5], far]), torch.tensor([[IGNORE, 1]])
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert distillation(student, labels, teacher, teacher_labels).item() == pytest.approx(expected)
    assert distillation(teacher, teacher_labels, teacher, teacher_labels).item() == pytest.approx(0.0, abs=1e-7)


def test_distillation_is_a_mean_over_examples_of_means_over_tokens():
    """Row 0 differs from its teacher at one of two tokens, by d; row 1 has one token, alike: (d / 2 + 0) / 2."""
    far, half, quarter = [0.01, 0.99], [0.5, 0.5], [0.25, 0.75]
    labels = torch.tensor([[IGNORE, 1, 0], [IGNORE, 1, IGNORE]])
    student = logits_of([quarter, half, far], [half, far, far])
    teacher = logits_of([half, half, far], [half, half, far])
    d = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert distillation(student, labels, teacher, labels).item() == pytest.approx(d / 4)


def test_memory_of_one_turn_is_picked():
    vectors = torch.arange(12.0).view(2, 6, 1)
    picked, mask = turn_memory(vectors, torch.tensor([2, 0]), num_memory_tokens=2)
    assert picked.squeeze(-1).tolist() == [[4, 5], [6, 7]]
    assert mask.all()


@pytest.fixture
def collator(make_tokenizer):
    words = make_tokenizer()
    words.add_tokens([MEMORY_TOKEN], special_tokens=True)
    return CompressionCollator(make_tokenizer(), words, vocab_size=320, num_memory_tokens=2)


HISTORIES = (
    History(
        (Utterance("user", "I met Mira."), Utterance("assistant", "Where?")),
        FixedParts(after="(sad) And now?"),
        "(neutral) Mira waits.",
    ),
    History((Utterance("user", "Otto sings."),), FixedParts(after="Guess who?"), "(happy) Otto."),
)


def test_a_batch_holds_histories_prompts_and_the_turn_to_rebuild(collator):
    batch = collator([{"history": HISTORIES[0], "target_turn": 1}, {"history": HISTORIES[1], "target_turn": 0}])
    words = collator.llm_tokenizer
    memory_id = words.convert_tokens_to_ids(MEMORY_TOKEN)
    assert (batch["input_ids"] >= 320).sum(dim=1).tolist() == [4, 2]
    assert (batch["reply_ids"] == memory_id).sum(dim=1).tolist() == [4, 2]
    assert (batch["turn_ids"] == memory_id).sum(dim=1).tolist() == [2, 2]
    learnt = [words.decode(row[row != IGNORE]) for row in batch["reply_labels"]]
    assert learnt == ["(neutral) Mira waits.<|end|>", "(happy) Otto.<|end|>"]
    rebuilt = [words.decode(row[row != IGNORE]) for row in batch["turn_labels"]]
    assert rebuilt == ["assistant: Where?<|end|>", "user: Otto sings.<|end|>"]
    assert words.decode(batch["text_ids"][0]).startswith(
        "<|user|>I met Mira.<|end|><|assistant|>Where?<|end|><|user|>(sad) And now?<|end|><|assistant|>"
    )
    taught = [row[row != IGNORE].tolist() for row in batch["text_labels"]]
    assert taught == [row[row != IGNORE].tolist() for row in batch["reply_labels"]]


def test_memories_reach_the_frozen_model_and_padding_changes_nothing(collator, make_llm, make_compressor):
    llm, compressor = make_llm().requires_grad_(False), make_compressor()
    memory_id = collator.llm_tokenizer.convert_tokens_to_ids(MEMORY_TOKEN)

    def loss(*histories):
        batch = collator([{"history": history, "target_turn": 0} for history in histories])
        memory = compressor(input_ids=batch["input_ids"])
        span = labelled_span(batch["reply_labels"])
        whole = memory_logits(llm, batch["reply_ids"], memory_id, memory.vectors, memory.mask)
        logits = memory_logits(llm, batch["reply_ids"], memory_id, memory.vectors, memory.mask, span)
        torch.testing.assert_close(logits, whole[:, span])
        return reply_nll(logits, batch["reply_labels"][:, span])

    both = loss(*HISTORIES)
    alone = torch.stack([loss(history) for history in HISTORIES])
    torch.testing.assert_close(both, alone.mean(), atol=1e-5, rtol=1e-5)
    both.backward()
    assert all(p.grad is None for p in llm.parameters())
    assert compressor.memory_slots.weight.grad.abs().sum() > 0


def test_the_report_counts_tokens_and_tells_own_memory_from_another(collator, make_llm, make_compressor):
    memory_id = collator.llm_tokenizer.convert_tokens_to_ids(MEMORY_TOKEN)
    report = memory_report(make_compressor(), make_llm(), HISTORIES, collator, memory_id)
    turns = [turn.text for history in HISTORIES for turn in history.turns]
    # The template writes a role and an end around each turn; memories stand within the user's message.
    tokens = sum(len(collator.llm_tokenizer.encode(turn)) + 2 for turn in turns) / 2
    assert report["history_tokens"] == tokens and report["memory_tokens"] == 3.0
    assert report["history_reduction"] == pytest.approx(1 - 3.0 / tokens)
    assert report["reply_nll"] != report["reply_nll_shuffled"]
    turned = memory_report(make_compressor(), make_llm(), HISTORIES[::-1], collator, memory_id)
    assert report == pytest.approx(turned, rel=1e-4) and report["memory_tells_error"] > 0
    alone = [memory_report(make_compressor(), make_llm(), [history], collator, memory_id) for history in HISTORIES]
    assert report["reply_nll"] == pytest.approx(sum(one["reply_nll"] for one in alone) / 2, rel=1e-4)
    assert all("memory_tells_error" not in one for one in alone)
    assert memory_report(make_compressor(), make_llm(), [], collator, memory_id) == {}


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (
            {"reply_nll": 0.2, "reply_nll_shuffled": 0.7, "memory_tells_error": 0.1},
            "memories tell 0.500 nats a token, 95 % 0.304 to 0.696 (a held-out reply 0.200 nats a token with its own "
            "dialogue's memories, 0.700 with another's)",
        ),
        (
            {"reply_nll": 3.273, "reply_nll_shuffled": 3.272, "memory_tells_error": 0.01},
            "warning: the memories are not seen to tell anything of a dialogue (a held-out reply 3.273 nats",
        ),
        ({"reply_nll": 0.2, "reply_nll_shuffled": 0.7, "memory_tells_error": 0.26}, "warning: the memories are not"),
        ({"reply_nll": 0.2, "reply_nll_shuffled": 0.7}, "warning: the memories are not seen"),
        ({}, "no validation reply has a past turn: what the memories tell is not known"),
    ],
)
def test_memories_that_tell_nothing_of_a_dialogue_are_told(report, line):
    """A soft prompt, the same for all, lowers the likelihood's cost too; another dialogue's memories show it."""
    assert describe_memory(report).startswith(line)


def test_rows_are_padded_on_the_right_to_at_least_one():
    assert pad_right([[1, 2], [3]], 9).tolist() == [[1, 2], [3, 9]]
    assert pad_right([[], []], 9).tolist() == [[9], [9]]
    assert pad_right([[1, 2]], 9).tolist() == [[1, 2]]


def test_a_tokenizer_without_chat_template_is_refused(make_tokenizer):
    words = make_tokenizer()
    words.chat_template = None
    with pytest.raises(CompressorDataError, match="has no chat template; use an instruction-tuned model"):
        chat_format(words)
