"""A face taught by descriptions: what the frozen language model is asked, its loss, and what learns from it."""

import math

import pytest
import torch
from transformers import TrainingArguments

from compressor.curriculum import ScheduledDataset
from compressor.text import IGNORE
from epo.data.cache import ClipCache
from epo.data.dialogue import read_dialogues
from epo.data.selection import TaughtClip, described_clips_of_split
from epo.prompts.marks import add_placeholders
from epo.training.face_captions import (
    QUESTION,
    CaptionCollator,
    FaceCaptioner,
    FaceTrainer,
    description_nll,
    mean_description_nll,
)


@pytest.fixture
def clips(corpus):
    """Two with pictures, one of them not described, and one of sound alone."""
    turns = [d.turns[-2] for d in read_dialogues(corpus / "dialogues.jsonl")]
    said = {0: "The brows rise.", 2: "Nothing is seen.", 5: None}
    return [TaughtClip(turns[i].clip, turns[i].emotion, text) for i, text in said.items()]


@pytest.fixture
def collate(clips, reader, make_tokenizer):
    tokenizer = make_tokenizer()
    add_placeholders(tokenizer)
    return CaptionCollator(clips, reader, ClipCache(None), tokenizer)


@pytest.fixture
def video_id(make_tokenizer):
    return add_placeholders(make_tokenizer())["video_token_id"]


def rows(*indices):
    return [{"index": index} for index in indices]


def loss_of(captioner, llm, video_id, batch):
    clips = {name: batch[name] for name in ("input_features", "num_mel_frames", "pixel_values", "num_video_frames")}
    output, tokens = captioner(**clips)
    return description_nll(llm, video_id, batch["input_ids"], batch["labels"], tokens, output.video_mask)


def test_the_question_stands_after_the_frames_and_only_the_description_is_learnt(collate, video_id, make_tokenizer):
    batch = collate(rows(0, 1, 2))
    assert batch["num_mel_frames"].tolist() == [0, 0, 0]  # sound is left out
    frames = batch["num_video_frames"].tolist()
    assert (batch["input_ids"] == video_id).sum(dim=1).tolist() == frames and frames[0] > 0 == frames[1]
    tokenizer = make_tokenizer()
    learnt = [tokenizer.decode(row[row != IGNORE]) for row in batch["labels"]]
    assert learnt[0].startswith("The brows rise.") and learnt[2] == ""
    assert QUESTION in tokenizer.decode(batch["input_ids"][0])
    assert batch["emotions"].tolist()[0] != IGNORE


def test_the_loss_is_blind_to_padding_and_a_clip_without_description_adds_nothing(
    collate, video_id, make_extractor, make_llm
):
    """Alone 0 and 1 have losses a and b; with a third that is not described the mean of all is (a + b) / 3."""
    torch.manual_seed(0)
    llm = make_llm()
    captioner = FaceCaptioner(make_extractor(), llm).eval()
    with torch.no_grad():
        a, b, none, all_three = (
            loss_of(captioner, llm, video_id, collate(rows(*i))) for i in ((0,), (1,), (2,), (0, 1, 2))
        )
    assert none == 0 and a > 0 and a != b
    assert all_three.item() == pytest.approx((a + b).item() / 3, rel=1e-5)


def test_by_hand_a_uniform_language_model_takes_the_log_of_its_vocabulary(collate, video_id, make_extractor, make_llm):
    llm = make_llm()
    for parameter in llm.parameters():
        torch.nn.init.zeros_(parameter)
    captioner = FaceCaptioner(make_extractor(), make_llm()).eval()
    with torch.no_grad():
        assert loss_of(captioner, llm, video_id, collate(rows(0))).item() == pytest.approx(math.log(320), rel=1e-5)


def test_the_loss_reaches_the_face_through_the_frozen_language_model_and_not_the_sound(
    collate, video_id, make_extractor, make_llm
):
    llm = make_llm().requires_grad_(False)
    captioner = FaceCaptioner(make_extractor(), llm)
    loss_of(captioner, llm, video_id, collate(rows(0))).backward()
    grads = {name: p.grad is not None and bool(p.grad.any()) for name, p in captioner.named_parameters()}
    for part in ("extractor.vision_tower", "extractor.video_input", "extractor.temporal", "clip_head"):
        assert any(has for name, has in grads.items() if name.startswith(part)), part
    assert not any(has for name, has in grads.items() if "audio_encoder" in name or "audio_input" in name)
    assert all(p.grad is None for p in llm.parameters())


def test_what_is_frozen_stays_out_of_training_mode(make_extractor, make_llm):
    captioner = FaceCaptioner(make_extractor(), make_llm())
    captioner.extractor.audio_encoder.requires_grad_(False)
    captioner.train()
    assert not captioner.extractor.audio_encoder.training and captioner.extractor.temporal.training


@pytest.mark.slow
def test_a_face_learns_from_descriptions_with_labels_beside_them(
    collate, clips, video_id, make_extractor, make_llm, tmp_path
):
    torch.manual_seed(0)
    llm, clips[1] = make_llm(), TaughtClip(clips[2].clip, clips[2].emotion, "The chin drops.")
    captioner = FaceCaptioner(make_extractor(), llm)
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=8, per_device_train_batch_size=2, learning_rate=1e-2, use_cpu=True,
        report_to="none", remove_unused_columns=False, disable_tqdm=True, save_strategy="no", logging_steps=8,
    )  # fmt: skip
    weights = {"description_weight": 1.0, "label_weight": 0.5}
    data = ScheduledDataset(2, 16, 0)
    trainer = FaceTrainer(
        captioner, args, train_dataset=data, data_collator=collate, llm=llm, video_token_id=video_id, **weights
    )
    before = mean_description_nll(captioner, llm, video_id, collate, 2, batch_size=1)
    trainer.train()
    after = mean_description_nll(captioner, llm, video_id, collate, 2, batch_size=2)
    assert after < before
    terms = trainer.loss_terms(captioner, collate(rows(0)))
    assert terms["loss"].item() == pytest.approx((terms["description_nll"] + 0.5 * terms["emotion_loss"]).item())
    assert mean_description_nll(captioner, llm, video_id, collate, 0) is None


def test_a_split_without_a_description_is_named(corpus):
    dialogues = list(read_dialogues(corpus / "dialogues.jsonl"))
    with pytest.raises(ValueError, match="none of its 8 dialogues .* describe-faces"):
        described_clips_of_split(dialogues, "train", "d.jsonl")
