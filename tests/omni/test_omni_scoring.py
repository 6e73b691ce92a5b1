"""Scores by Qwen2.5-Omni's thinker: those of the stock forward, one row at a time, however rows are put together."""

import pytest
import torch

from compressor.placeholders import PlaceholderError
from compressor.text import IGNORE
from epo.evaluation.generate import generate_replies
from epo.evaluation.rewards import pair_logps
from epo.model.family import FAMILIES, family_of
from epo.model.omni.reply_scores import language_model
from epo.training.collate import PairCollator


@pytest.fixture
def omni(make_thinker):
    thinker = make_thinker()
    family_of(thinker).prepare_scoring(thinker)
    return thinker


def pair_batch(pairs, build):
    """All eight pairs: with and without sound, picture and clip, of unequal length; and the labels of the replies."""
    batch = PairCollator(pairs, build)([{"index": i} for i in range(len(pairs))])
    return batch, batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)


@torch.no_grad()
def one_by_one(thinker, pairs, build):
    """Each reply after its own prompt in the stock class's forward: no padding, no packing, its clip with it."""
    found = []
    for is_chosen in (True, False):
        for pair in pairs:
            prompt = build(pair.reply)
            said = (pair.reply.text, pair.reply.emotion) if is_chosen else (pair.rejected, pair.rejected_emotion)
            reply = build.processor.encode_reply(*said)
            ids = torch.tensor([prompt.input_ids + reply])
            logits = (
                type(thinker)
                .forward(
                    thinker,
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    **build.processor.batch_context([prompt]),
                )
                .logits
            )
            scores = logits[0, len(prompt.input_ids) - 1 : -1].log_softmax(dim=-1)
            found.append(scores.gather(1, torch.tensor(reply).unsqueeze(1)).sum())
    return torch.stack(found)


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("once", [False, True])
def test_scores_are_those_of_the_stock_forward(omni, pairs, omni_build, shares, once):
    """Packed or two rows a pair, clips encoded before or in the forward: time and place of every token stay."""
    batch, labels = pair_batch(pairs, omni_build)
    omni.shares_prompts = shares
    batch = family_of(omni).encode_once(omni, batch) if once else batch
    with torch.no_grad():
        ours = omni(**batch, labels=labels, fused_lm_head=True).log_probs
    assert not ours[labels[:, 1:] == IGNORE].any()
    torch.testing.assert_close(ours.sum(dim=1), one_by_one(omni, pairs, omni_build), atol=1e-5, rtol=1e-5)


def test_sharing_is_proven_not_believed(omni, pairs, omni_build):
    """It is allowed here; other positions in the packed row than in the rows apart would have been found out."""
    raw = PairCollator(pairs, omni_build)([{"index": i} for i in range(4)])
    assert family_of(omni).share_prompts(omni, raw) is None and omni.shares_prompts is True
    wrong = family_of(omni).encode_once(omni, raw)
    wrong["context"]["positions"][:, 4:] += 1  # of the rejected rows: their prompts would stand elsewhere
    assert "log-probabilities differ" in family_of(omni).share_prompts(omni, wrong)
    assert omni.shares_prompts is False


def test_padding_changes_nothing(omni, pairs, omni_build):
    batch, labels = pair_batch(pairs[:2], omni_build)
    wide = batch | {
        "input_ids": torch.nn.functional.pad(batch["input_ids"], (0, 7)),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, 7)),
        "input_features": torch.nn.functional.pad(batch["input_features"], (0, 9), value=3.0),
        "feature_attention_mask": torch.nn.functional.pad(batch["feature_attention_mask"], (0, 9)),
    }
    with torch.no_grad():
        for shares in (False, True):
            omni.shares_prompts = shares
            short = omni(**batch, labels=labels, fused_lm_head=True).log_probs.sum(dim=1)
            long = omni(**wide, labels=torch.nn.functional.pad(labels, (0, 7), value=IGNORE), fused_lm_head=True)
            torch.testing.assert_close(long.log_probs.sum(dim=1), short, atol=1e-5, rtol=1e-5)


def test_a_clip_changes_what_is_said_of_its_own_pair_only(omni, pairs, omni_build):
    """Other sound and other pictures for the first pair, which has both."""
    batch, labels = pair_batch(pairs[:4], omni_build)
    before = omni(**batch, labels=labels, fused_lm_head=True).log_probs.sum(dim=1)
    for name in ("input_features", "pixel_values_videos"):
        other = batch[name].clone()
        other[: 1 if name == "input_features" else int(batch["video_grid_thw"][0].prod())] *= -1
        after = omni(**batch | {name: other}, labels=labels, fused_lm_head=True).log_probs.sum(dim=1)
        gap = (after - before).abs()
        assert gap[[0, 4]].min() > 1e-3 and gap[[1, 2, 3, 5, 6, 7]].max() < 1e-5


def test_a_clip_too_many_is_refused(omni, pairs, omni_build):
    batch, labels = pair_batch(pairs[:2], omni_build)
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == omni.config.audio_token_id, 5)
    with pytest.raises(PlaceholderError, match=r"0 placeholders of id \d+ but \d+ vectors; prompt and features"):
        omni(**batch, labels=labels, fused_lm_head=True)


def test_stock_forward_and_class_stay(omni, make_thinker):
    """Prepared twice, it still answers without labels as its class does."""
    family_of(omni).prepare_scoring(omni)
    ids = torch.arange(5, 25).unsqueeze(0)
    mine = omni(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert mine.equal(make_thinker()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)


def test_lora_goes_to_the_language_model_and_not_to_the_towers(omni):
    names = family_of(omni).lora_targets(omni)
    layers = f"{language_model(omni)[0]}.layers."
    assert len(names) == 2 * 7 and all(name.startswith(layers) for name in names) and "tower" not in layers


def test_held_out_rewards_know_the_family(omni, pairs, omni_build):
    chosen, rejected = pair_logps(omni, pairs[:3], omni_build, batch_size=2)
    wanted = one_by_one(omni, pairs[:3], omni_build)
    torch.testing.assert_close(torch.cat([chosen, rejected]), wanted, atol=1e-5, rtol=1e-5)


def test_greedy_replies_of_a_batch_are_those_of_reading_anew(make_thinker, examples, omni_build):
    """Left-padded prompts of unequal length with their clips, against the likeliest token of the stock forward."""
    thinker, processor = make_thinker(), omni_build.processor
    prompts = [omni_build(examples[i]) for i in (0, 2, 4)]
    replies = generate_replies(thinker, processor, prompts, max_new_tokens=6)
    for prompt, reply in zip(prompts, replies, strict=True):
        ids, context = list(prompt.input_ids), processor.batch_context([prompt])
        for _ in range(6):
            row = torch.tensor([ids])
            with torch.no_grad():
                logits = thinker(input_ids=row, attention_mask=torch.ones_like(row), **context, use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
        assert reply == processor.chat.decode(ids[len(prompt.input_ids) :])


def test_the_families_there_are():
    assert FAMILIES.names() == ["composed", "omni"]
