"""Collators: what reaches the loss is the reply, in full, and a row's randomness is its own."""

from dataclasses import replace

import numpy as np
import pytest

from compressor.curriculum import Curriculum
from compressor.text import IGNORE
from epo.data.dialogue import DataError
from epo.data.replies import replies_of, reply_at
from epo.data.selection import labelled_clips
from epo.emotions import EMOTIONS
from epo.model.clip_reader import ClipFeatures
from epo.preferences.pair import PreferencePair, pairs_of_split
from epo.prompts.text_prompts import TextPrompts
from epo.training.collate import (
    ClipCollator,
    PairCollator,
    PromptBuilder,
    SftCollator,
    TextCollator,
    drop_modality,
    emotion_labels,
    pad_rows,
)


@pytest.fixture
def build(model_and_processor, clip_cache):
    return PromptBuilder(model_and_processor[1], clip_cache)


def rows(*indices):
    return [{"index": i, "seed": 10 * i, "progress": 0.99} for i in indices]


def test_rows_are_joined_and_padded_on_the_right():
    batch = pad_rows([[1, 2], [3]], [[4], [5, 6, 7]])
    assert batch["input_ids"].tolist() == [[1, 2, 4, 0], [3, 5, 6, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["completion_mask"].tolist() == [[0, 0, 1, 0], [0, 1, 1, 1]]


def test_only_the_reply_is_learnt_and_all_of_it(build, examples):
    batch = SftCollator(examples, build)(rows(0, 3))
    learnt = [build.processor.tokenizer.decode(row[row != IGNORE]) for row in batch["labels"]]
    assert learnt == [f"(happy) I am glad you told me about {name}.<|end|>" for name in ("Mira", "Paul")]
    assert batch["emotions"].tolist() == [EMOTIONS.index("sad"), EMOTIONS.index("fearful")]


def test_an_emotion_that_cannot_be_heard_or_seen_is_no_label(build, examples):
    assert examples[4].current.clip is None and examples[4].current.emotion is not None
    assert SftCollator(examples, build)(rows(4))["emotions"].tolist() == [IGNORE]


def test_clip_dropout_takes_clip_and_label_together(build, examples):
    batch = SftCollator(examples, build, clip_dropout=1.0)(rows(0))
    assert batch["emotions"].tolist() == [IGNORE] and batch["num_mel_frames"].tolist() == [0]
    assert 322 not in batch["input_ids"]


def test_a_row_is_the_same_whatever_batch_it_is_in(build, examples):
    collate = SftCollator(examples, build, modality_dropout=0.5, clip_dropout=0.3)
    for row in rows(0, 1, 5):
        alone, beside = collate([row]), collate([*rows(6), row])
        length = alone["input_ids"].size(1)
        assert beside["input_ids"][1, :length].equal(alone["input_ids"][0])
        assert beside["num_mel_frames"][1] == alone["num_mel_frames"][0]


def test_modality_dropout_hides_one_half_as_often_as_told():
    clip = ClipFeatures(np.zeros((16, 9), np.float32), np.zeros((2, 3, 16, 16), np.float32))
    dropped = [drop_modality(clip, np.random.default_rng(seed), 0.4) for seed in range(1000)]
    deaf, blind = (sum(getattr(c, half) is None for c in dropped) for half in ("audio", "video"))
    assert 160 < deaf < 240 and 160 < blind < 240
    assert not any(c.audio is None and c.video is None for c in dropped)
    only = ClipFeatures(clip.audio, None)
    assert drop_modality(only, np.random.default_rng(0), 1.0) is only
    assert drop_modality(clip, np.random.default_rng(0), 0.0) is clip


def test_pairs_come_as_trl_wants_them(build, pairs):
    batch = PairCollator(pairs, build)(rows(0, 1))
    words = build.processor.tokenizer
    replies = [words.decode(r[m.bool()]) for r, m in zip(batch["input_ids"], batch["completion_mask"], strict=True)]
    names = ("Mira", "Otto")
    assert replies == [
        *(f"(happy) I am glad you told me about {name}.<|end|>" for name in names),
        *(f"(angry) Stop it, {name} bores me to tears.<|end|>" for name in names),
    ]
    lengths = batch["prompt_lengths"].tolist()
    for row, length in enumerate(lengths):
        assert batch["input_ids"][row, :length].equal(batch["input_ids"][row + 2, :length])
        assert batch["completion_mask"][row, :length].sum() == 0
    assert batch["history_ids"].size(0) == batch["pixel_values"].size(0) == 2


def test_text_batches_weigh_the_reply_in_full(examples, tokenizer):
    batch = TextCollator(examples, TextPrompts(tokenizer), Curriculum(short=0, medium=0), history_weight=0.25)(
        rows(0, 1)
    )
    for row in range(2):
        full = batch["input_ids"][row][batch["loss_weights"][row] == 1.0]
        assert tokenizer.decode(full).startswith("(happy) I am glad")
    prompt = tokenizer.decode(batch["input_ids"][0][batch["loss_weights"][0] == 0.25])
    assert prompt == (
        "<|user|>I met Mira at the lake.<|end|><|assistant|>How was it?<|end|>"
        "<|user|>(sad) We spoke again, part 0.<|end|><|assistant|>"
    )
    assert ((batch["labels"] == IGNORE) == (batch["loss_weights"] == 0)).all()


def test_half_of_the_text_prompts_name_the_emotion(examples, tokenizer):
    collate = TextCollator(examples, TextPrompts(tokenizer), Curriculum(short=0, medium=0), history_weight=0.25)
    texts = [tokenizer.decode(collate([{"index": 0, "seed": s, "progress": 0.9}])["input_ids"][0]) for s in range(4)]
    assert ["(sad)" in text for text in texts] == [True, False, True, False]


def test_clips_are_labelled_by_the_users_emotion(dialogues, reader, clip_cache):
    clips = labelled_clips(dialogues)
    assert len(clips) == 11  # one dialogue of twelve has no clip
    batch = ClipCollator(clips, reader, clip_cache)(rows(0, 1))
    assert batch["emotions"].tolist() == [EMOTIONS.index("sad"), EMOTIONS.index("happy")]
    assert batch["num_mel_frames"].tolist() == [100, 60]


def test_unknown_emotions_are_ignored():
    assert emotion_labels(["angry", None, "surprised"]).tolist() == [0, IGNORE, 6]


def test_a_broken_clip_names_its_dialogue(build, examples, tmp_path):
    from dataclasses import replace

    from epo.data.dialogue import Clip

    (tmp_path / "broken.wav").write_bytes(b"no sound")
    broken = replace(examples[0], current=replace(examples[0].current, clip=Clip(audio=tmp_path / "broken.wav")))
    with pytest.raises(DataError, match=r"dialogue 'd0', turn 2: .*broken.wav"):
        build(broken)


def test_replies_to_learn_answer_a_user_the_first_one_included(dialogues):
    every = replies_of(dialogues, "all")
    last = replies_of(dialogues, "last")
    assert len(last) == 12 and all(e.current.speaker == "user" for e in every)
    assert [e.turn for e in every if e.dialogue_id == "d1"] == [1, 3, 5]
    assert [e.turn for e in last if e.dialogue_id == "d1"] == [5]
    assert len(replies_of(dialogues, "last", require_clip=True)) == 11


def test_pairs_are_looked_up_by_split(corpus, dialogues):
    from epo.preferences.pair import read_pairs

    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    everything = read_pairs(corpus / "pairs.jsonl", by_id)
    counts = {split: len(pairs_of_split(everything, split)) for split in ("train", "validation", "test")}
    assert counts == {"train": 8, "validation": 2, "test": 2}


def test_a_label_on_one_side_is_on_neither(dialogues):
    """It would tell the sides apart; with both, or with none, there is nothing to tell."""

    def emotions(chosen, rejected):
        said = replace(reply_at(dialogues[0], 3), text="Good.", emotion=chosen)
        (pair,) = pairs_of_split([PreferencePair(said, "Bad.", rejected)], "train")
        return pair.chosen, pair.chosen_emotion, pair.rejected_emotion

    assert emotions("happy", "angry") == ("Good.", "happy", "angry")
    assert emotions("happy", None) == emotions(None, "angry") == emotions(None, None) == ("Good.", None, None)
