"""Held-out rewards: log-probabilities by hand, and accuracy that is exactly one half for the reference itself."""

import pytest
import torch
from peft import get_peft_model

from compressor.text import IGNORE
from epo.evaluation.rewards import adapter_logps, pair_logps, reply_nll, reward_margins, reward_report, wins
from epo.model.token_scores import sequence_logps
from epo.training.collate import PromptBuilder
from epo.training.lora import lora_config


def test_log_probabilities_are_those_of_each_reply_alone(model_and_processor, clip_cache, pairs):
    model, processor = model_and_processor
    build = PromptBuilder(processor, clip_cache)
    chosen, rejected = pair_logps(model, pairs, build, batch_size=3)
    assert chosen.shape == rejected.shape == (8,)
    for i, pair in enumerate(pairs[:3]):
        prompt = build(pair.reply)
        for logps, reply in (
            (chosen, processor.encode_reply(pair.chosen, pair.chosen_emotion)),
            (rejected, processor.encode_reply(pair.rejected, pair.rejected_emotion)),
        ):
            ids = torch.tensor([prompt.input_ids + reply])
            labels = ids.clone()
            labels[:, : len(prompt.input_ids)] = IGNORE
            with torch.no_grad():
                logits = model(input_ids=ids, **processor.batch_context([prompt])).logits
            assert logps[i].item() == pytest.approx(sequence_logps(logits, labels).item(), abs=1e-3)


def test_a_gold_replys_likelihood_is_its_log_probability_a_token(model_and_processor, clip_cache, pairs):
    model, processor = model_and_processor
    build = PromptBuilder(processor, clip_cache)
    chosen, _ = pair_logps(model, pairs, build)
    lengths = [len(processor.encode_reply(pair.chosen, pair.chosen_emotion)) for pair in pairs]
    found = reply_nll(model, [pair.reply for pair in pairs], build, batch_size=3)
    assert found.tolist() == pytest.approx((-chosen / torch.tensor(lengths)).tolist(), rel=1e-4)
    assert reply_nll(model, [], build).tolist() == []


def test_policy_and_reference_together_give_what_each_gives_alone(make_model, clip_cache, pairs):
    model, processor = make_model()
    build = PromptBuilder(processor, clip_cache)
    before = pair_logps(model, pairs, build)
    policy = get_peft_model(model, lora_config(model, rank=4, alpha=8, dropout=0.0))
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    together, reference = adapter_logps(policy, pairs, build, batch_size=3)
    for ours, alone in zip((*together, *reference), (*pair_logps(policy, pairs, build), *before), strict=True):
        assert torch.allclose(ours, alone, atol=1e-3)
    assert not torch.allclose(together[0], reference[0], atol=0.1)


def test_no_pairs_give_nothing(model_and_processor, clip_cache):
    chosen, rejected = pair_logps(model_and_processor[0], [], PromptBuilder(model_and_processor[1], clip_cache))
    assert chosen.numel() == rejected.numel() == 0
    assert reward_report((chosen, rejected), (chosen, rejected), [], beta=0.1) == {}


def test_accuracy_and_margin_by_hand(pairs):
    """Log-ratios of chosen and rejected: (1, 0), (0, 2), (0, 0): one win, one loss, one tie; margins 1, -2, 0."""
    policy = torch.tensor([-9.0, -5.0, -7.0]), torch.tensor([-8.0, -4.0, -7.0])
    reference = torch.tensor([-10.0, -5.0, -7.0]), torch.tensor([-8.0, -6.0, -7.0])
    report = reward_report(policy, reference, pairs[:3], beta=0.3)
    assert report["reward_accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert report["reward_margin"] == pytest.approx(0.3 * (1 - 2 + 0) / 3)
    margins = reward_margins(policy, reference)
    assert margins.tolist() == [1.0, -2.0, 0.0] and wins(margins) == [1.0, 0.0, 0.5]  # in nats, whatever beta is
    by_emotion = {name: value for name, value in report.items() if "/" in name}
    assert by_emotion == {
        "reward_accuracy/sad": 1.0,
        "reward_accuracy/happy": 0.0,
        "reward_accuracy/angry": 0.5,
        "reward_accuracy/kind/emotion": 0.5,
        "reward_accuracy/happy-angry": 0.5,  # the gold replies of all three are happy, the others angry
        "reward_margin/kind/emotion": pytest.approx(-0.1),
        "reward_margin/happy-angry": pytest.approx(-0.1),
    }


def test_the_reference_against_itself_scores_one_half(pairs):
    logps = torch.tensor([-3.0, -4.0]), torch.tensor([-1.0, -9.0])
    assert reward_report(logps, logps, pairs[:2], beta=0.3)["reward_accuracy"] == 0.5
