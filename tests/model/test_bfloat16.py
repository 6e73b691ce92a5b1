"""The whole model in bfloat16, as GPU recipes run it: the same losses up to rounding, gradients, replies, rewards."""

import copy

import pytest
import torch

from compressor.objectives import reply_nll
from epo.evaluation.generate import generate_replies
from epo.evaluation.rewards import pair_logps
from epo.model.extractor import emotion_loss
from epo.training.collate import PromptBuilder, SftCollator


@pytest.fixture
def in_both(model_and_processor):
    """The tiny model in float32 and a copy of it in bfloat16."""
    model = model_and_processor[0].eval()
    return model, copy.deepcopy(model).to(torch.bfloat16)


@pytest.fixture
def build(model_and_processor, clip_cache):
    return PromptBuilder(model_and_processor[1], clip_cache)


def _losses(model, batch):
    batch = dict(batch)
    labels, emotions = batch.pop("labels"), batch.pop("emotions")
    output = model(**batch, use_cache=False)
    return torch.stack([reply_nll(output.logits, labels), emotion_loss(output.extractor, emotions)])


def test_losses_are_those_of_float32_up_to_rounding_and_every_part_gets_gradients(in_both, build, examples):
    exact, rounded = in_both
    batch = SftCollator(examples, build)([{"index": i, "seed": 0, "progress": 0.5} for i in range(5)])
    losses = _losses(rounded, batch)
    torch.testing.assert_close(losses, _losses(exact, batch), atol=0.05, rtol=0.02)
    losses.sum().backward()
    for part in ("language_model", "extractor", "compressor", "clip_head"):
        gradients = [p.grad for n, p in rounded.named_parameters() if part in n and p.grad is not None]
        assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_augmented_clips_are_read_too(in_both, build, examples):
    rounded = in_both[1].train()
    rounded.extractor.config.augmentation = 1.0
    batch = SftCollator(examples, build)([{"index": i, "seed": 0, "progress": 0.5} for i in range(5)])
    assert torch.isfinite(_losses(rounded, batch)).all()


def test_it_replies_and_scores_pairs(in_both, build, examples, pairs):
    exact, rounded = in_both
    prompts = [build(example) for example in examples[:4]]
    assert len(generate_replies(rounded, build.processor, prompts, 4, 4)) == 4
    for ours, theirs in zip(pair_logps(rounded, pairs, build), pair_logps(exact, pairs, build), strict=True):
        torch.testing.assert_close(ours.float(), theirs, atol=0.5, rtol=0.02)
