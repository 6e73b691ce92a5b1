"""The emotion token says what the extractor finds, or what it is told; nothing else of a prompt changes."""

import math
from dataclasses import replace

import pytest
import torch

from epo.data.clip_damage import ClipDamage
from epo.emotions import EMOTIONS
from epo.model.emotion_token import emotion_shares
from epo.training.collate import PromptBuilder


def test_shares_by_hand():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    found = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    torch.testing.assert_close(emotion_shares(logits, None), found)
    told = emotion_shares(logits, torch.tensor([0, -1]))
    torch.testing.assert_close(told, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))


@pytest.fixture
def builds(model_and_processor, clip_cache):
    model, processor = model_and_processor
    build = PromptBuilder(processor, clip_cache)
    return model.eval(), build, replace(build, tells_emotion=True)


@torch.no_grad()
def test_a_told_emotion_is_that_word_alone(builds, examples):
    model, found, told = builds
    gold = [replace(examples[0], current=replace(examples[0].current, emotion=None)), examples[1], examples[4]]
    own, oracle = ([build(reply) for reply in gold] for build in (found, told))
    assert [prompt.input_ids for prompt in own] == [prompt.input_ids for prompt in oracle]
    assert [prompt.clip.told for prompt in oracle] == [None, EMOTIONS.index("happy"), None]  # the last has no clip
    batches = [found.processor.batch_context(prompts) for prompts in (own, oracle)]
    assert batches[1].keys() - batches[0].keys() == {"told_emotions"}
    before, after = (model.encode_context(**batch).vectors for batch in batches)
    emotion = model.config.emotion_token_id
    torch.testing.assert_close(after[emotion][0][1, 0], model.emotion_words.weight[EMOTIONS.index("happy")])
    torch.testing.assert_close(after[emotion][0][0], before[emotion][0][0])  # no label, so nothing to tell
    assert not torch.allclose(after[emotion][0][1], before[emotion][0][1])
    for token in before.keys() - {emotion}:
        torch.testing.assert_close(after[token][0], before[token][0])


def test_damage_reaches_what_is_heard_and_seen_and_is_kept_apart(builds, examples):
    _, build, _ = builds
    clean = build.read(examples[0])
    noisy = replace(build, damage=ClipDamage(snr_db=0)).read(examples[0])
    blurred = replace(build, damage=ClipDamage(blur_percent=20)).read(examples[0])
    assert (noisy.video == clean.video).all() and not (noisy.audio == clean.audio).all()
    assert (blurred.audio == clean.audio).all() and not (blurred.video == clean.video).all()
    assert (build.read(examples[0]).audio == clean.audio).all()  # the shared cache holds each of them apart
