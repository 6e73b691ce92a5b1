"""Valence, arousal and dominance: the loss by hand, its gradient and its edges; the head; what is taught of a clip."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from epo.data.dialogue import Clip
from epo.data.selection import TaughtClip, clips_to_recognise, rated_clips, rated_clips_of_split
from epo.evaluation.trajectories import concordance
from epo.evaluation.vad_measuring import VadMeter, predict_vad, vad_concordance, windows_of
from epo.model.clip_reader import ClipFeatures
from epo.training.vad import VadCollator, concordance_loss

ALL = torch.ones(3, dtype=torch.bool)
SAID = torch.tensor([[0.1, 1.0, -1.0], [0.4, 0.0, 0.0], [0.7, -1.0, 1.0]], dtype=torch.float64)
WANTED = torch.tensor([[0.0, 1.0, 1.0], [0.5, 0.0, 0.0], [1.0, -1.0, -1.0]], dtype=torch.float64)


def test_the_loss_by_hand():
    """Valence: covariance 0.1, variances 0.06 and 1/6, means 0.1 apart, so 0.2 / 0.236667 = 0.84507; then 1 and -1."""
    assert concordance_loss(SAID, WANTED, ALL).item() == pytest.approx((0.15493 + 0 + 2) / 3, abs=5e-6)
    assert concordance_loss(SAID.bfloat16(), WANTED.float(), ALL).dtype == torch.float32


def test_the_loss_is_that_of_the_measure():
    said, wanted = torch.rand(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    each = [concordance(said[:, dim].tolist(), wanted[:, dim].tolist()) for dim in range(3)]
    loss = concordance_loss(said, wanted, torch.ones(9, dtype=torch.bool))
    assert loss.item() == pytest.approx(1 - np.mean(each))


def test_the_gradient_is_the_slope_and_lowers_the_loss():
    said = (SAID * 0.3 + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: concordance_loss(x, WANTED, ALL), said)
    some = torch.tensor([True, False, True])
    assert torch.autograd.gradcheck(lambda x: concordance_loss(x, WANTED, some), said)
    loss = concordance_loss(said, WANTED, ALL)
    loss.backward()
    assert concordance_loss(said.detach() - 0.1 * said.grad, WANTED, ALL) < loss


def loss_and_gradient(said, wanted, is_rated):
    said = torch.tensor(said).requires_grad_()
    loss = concordance_loss(said, torch.tensor(wanted), torch.tensor(is_rated))
    loss.backward()
    assert said.grad.isfinite().all()
    return loss.item(), said.grad.abs().max().item()


def test_what_has_no_concordance_is_defined_and_never_nan():
    one, other = [0.1, 0.2, 0.3], [0.3, -0.2, 0.9]
    assert loss_and_gradient([one], [other], [True]) == (0.0, 0.0)  # a batch of one clip
    assert loss_and_gradient([one, other], [other, one], [False, False]) == (0.0, 0.0)
    assert loss_and_gradient([one, other], [other, one], [False, True]) == (0.0, 0.0)
    assert loss_and_gradient([one, other], [one, one], [True, True]) == pytest.approx((1.0, 0.0))  # constant labels
    loss, slope = loss_and_gradient([one, one], [one, other], [True, True])  # nothing is told apart yet
    assert loss == pytest.approx(1.0) and slope > 0
    assert loss_and_gradient([one, one], [one, one], [True, True])[0] == pytest.approx(1.0)


def test_rows_that_are_not_rated_change_nothing():
    said, wanted = torch.cat([SAID, torch.ones(1, 3)]), torch.cat([WANTED, torch.zeros(1, 3)])
    rated = torch.tensor([True, True, True, False])
    assert concordance_loss(said, wanted, rated).item() == pytest.approx(concordance_loss(SAID, WANTED, ALL).item())


@pytest.fixture
def rated(dialogues):
    """The dialogues of the corpus, their clips rated but that of dialogue 1, the emotion of dialogue 0 not known."""

    def rate(i, turn):
        if turn.clip is None or i == 1:
            return turn
        return replace(turn, vad=(i / 12, 0.5 - i / 12, -0.25), emotion=None if i == 0 else turn.emotion)

    return [
        replace(dialogue, turns=tuple(rate(i, turn) for turn in dialogue.turns)) for i, dialogue in enumerate(dialogues)
    ]


def test_rated_clips_are_taught_beside_labelled_ones(rated, reader, clip_cache):
    clips = clips_to_recognise(rated)
    assert len(clips) == 11 and len(rated_clips(rated)) == 10  # dialogue 4 has no clip
    batch = VadCollator(clips, reader, clip_cache)([{"index": i, "seed": 0} for i in (0, 1, 2)])
    assert batch["emotions"].tolist() == [-100, 3, 0] and batch["is_rated"].tolist() == [True, False, True]
    torch.testing.assert_close(batch["vad"], torch.tensor([[0, 0.5, -0.25], [0, 0, 0], [2 / 12, 0.5 - 2 / 12, -0.25]]))
    with pytest.raises(
        ValueError, match="of its 8 dialogues of split 'train', 0 user turns have both a clip and `vad`"
    ):
        rated_clips_of_split(
            [replace(d, turns=tuple(replace(t, vad=None) for t in d.turns)) for d in rated], "train", "f"
        )


def test_an_extractor_has_the_head_only_where_it_is_asked_for(make_extractor, reader):
    plain, measuring = make_extractor(), make_extractor(has_vad=True)
    new = measuring.state_dict().keys() - plain.state_dict().keys()
    assert new == {"vad_head.weight", "vad_head.bias"}
    clip = reader.batch([ClipFeatures()])
    assert plain(**clip).vad is None and measuring(**clip).vad.shape == (1, 3)
    with pytest.raises(ValueError, match="no head for valence, arousal and dominance; train one with vad_weight"):
        predict_vad(plain, [], reader, None)
    measuring.drop_vad_head()
    assert measuring.state_dict().keys() == plain.state_dict().keys() and not measuring.config.has_vad


def test_agreement_with_ratings(make_extractor, rated, reader, clip_cache):
    extractor, clips = make_extractor(has_vad=True), rated_clips(rated)
    said = predict_vad(extractor, [one.clip for one in clips], reader, clip_cache, batch_size=4)
    assert said.shape == (10, 3) and np.abs(said).max() <= 1
    own = [replace(one, vad=tuple(row)) for one, row in zip(clips, said.tolist(), strict=True)]
    unrated = TaughtClip(clips[0].clip, "sad")
    found = vad_concordance(extractor, [unrated, *own], reader, clip_cache)
    assert found == pytest.approx({"valence_ccc": 1.0, "arousal_ccc": 1.0, "dominance_ccc": 1.0, "num_rated": 10})
    none = {"valence_ccc": None, "arousal_ccc": None, "dominance_ccc": None, "num_rated": 0}
    assert vad_concordance(extractor, [unrated], reader, clip_cache) == none


def test_a_second_is_heard_with_half_a_second_around_it(corpus):
    clip = Clip(audio=corpus / "0.wav", start_s=1.0, end_s=4.25)
    spans = [(window.start_s, window.end_s) for window in windows_of(clip)]
    assert spans == [(1.0, 2.5), (1.5, 3.5), (2.5, 4.25)]
    assert windows_of(replace(clip, start_s=0.0, end_s=1.9)) == [Clip(corpus / "0.wav", end_s=1.9)]
    whole = Clip(corpus / "0.wav", corpus / "0.mp4")
    assert windows_of(whole) == [whole]  # the header says 1 s


def test_courses_of_turns_that_are_answered_and_of_gold_replies(
    make_extractor, examples, dialogues, reader, clip_cache
):
    meter = VadMeter(make_extractor(has_vad=True), reader, "ours", clip_cache)
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    courses = meter.courses(examples, by_id, known={("d0", examples[0].turn - 1)})
    assert [(c.dialogue_id, c.speaker, c.vad.shape, c.source) for c in courses] == [
        (f"d{i}", "user", (1, 3), "ours") for i in range(12) if i not in (0, 4)
    ]
