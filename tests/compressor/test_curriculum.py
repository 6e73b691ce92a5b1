"""The curriculum: what a position sees depends on the position alone, so that a resumed run sees the same."""

import math

import numpy as np
import pytest

from compressor.curriculum import Curriculum, RelevantTurns, ScheduledDataset
from compressor.data import CompressionCollator, History
from compressor.fitting import FixedParts
from compressor.placeholders import MEMORY_TOKEN
from compressor.text import CompressorDataError
from compressor.trainer import CurriculumCollator
from compressor.utterance import Utterance

TURNS = ("user: I met Mira.", "assistant: Where?", "user: I met Otto.", "assistant: Fine.")
UTTERANCES = tuple(Utterance(*turn.split(": ")) for turn in TURNS)


@pytest.mark.parametrize(
    ("progress", "turns"),
    [(0.0, 1), (0.09, 1), (0.1, 4), (0.49, 4), (0.5, 8), (0.79, 8), (0.8, None), (0.99, None)],
)
def test_phases_follow_each_other_by_their_shares(progress, turns):
    curriculum = Curriculum(single_turns=0.1, short=0.4, medium=0.3, short_turns=4, medium_turns=8)
    assert curriculum.num_turns(progress) == turns


def test_without_shares_the_whole_dialogue_is_seen_from_the_start():
    assert Curriculum(single_turns=0, short=0, medium=0).num_turns(0.0) is None


def test_rare_words_shared_with_the_reply_decide():
    """Of four turns, `met` stands in two (weight ln 2), `mira` in one (ln 4): turn 0 scores ln 2 + ln 4."""
    relevant = RelevantTurns(TURNS)
    assert relevant._idf["mira"] == pytest.approx(math.log(4)) and relevant._idf["met"] == pytest.approx(math.log(2))
    assert relevant.pick(TURNS, "So you met Mira", 1) == [0]
    assert relevant.pick(TURNS, "So you met Mira", 2) == [0, 2]


def test_ties_go_to_the_later_turn_and_order_is_kept():
    relevant = RelevantTurns(TURNS)
    assert relevant.pick(TURNS, "nothing shared", 2) == [2, 3]
    assert relevant.pick(TURNS, "nothing shared", None) == [0, 1, 2, 3]
    assert relevant.pick(TURNS, "nothing shared", 9) == [0, 1, 2, 3]


def test_each_pass_is_a_permutation_and_passes_differ():
    dataset = ScheduledDataset(num_examples=7, num_samples=21, seed=3)
    passes = [[dataset[p]["index"] for p in range(7 * e, 7 * e + 7)] for e in range(3)]
    assert all(sorted(part) == list(range(7)) for part in passes)
    assert passes[0] != passes[1] != passes[2]


def test_a_position_is_the_same_whoever_asks_and_whenever():
    in_order = [ScheduledDataset(5, 40, seed=1)[p] for p in range(40)]
    again, shuffled = ScheduledDataset(5, 40, seed=1), np.random.default_rng(0).permutation(40).tolist()
    assert {p: again[p] for p in shuffled} == dict(enumerate(in_order))
    assert [row["progress"] for row in in_order] == [p / 40 for p in range(40)]
    assert len({row["seed"] for row in in_order}) == 40
    assert len(again) == 40


def test_another_seed_is_another_order():
    first, second = ([ScheduledDataset(20, 20, seed=s)[p]["index"] for p in range(20)] for s in (0, 1))
    assert first != second


LENGTHS = [(7 * i) % 60 for i in range(60)]


def grouped():
    return ScheduledDataset(60, 180, seed=2, lengths=LENGTHS, global_batch_size=3)


def mean_spread(dataset):
    """Longest less shortest of each batch of three, on average."""
    batches = np.array([LENGTHS[dataset[p]["index"]] for p in range(180)]).reshape(60, 3)
    return np.mean(batches.max(axis=1) - batches.min(axis=1))


def test_examples_of_like_length_share_batches():
    dataset = grouped()
    assert mean_spread(dataset) < mean_spread(ScheduledDataset(60, 180, seed=2)) / 4
    firsts = [LENGTHS[dataset[3 * batch]["index"]] for batch in range(16)]
    assert firsts != sorted(firsts)  # the batches of a window come in no order of length


def test_grouping_reads_the_same_examples_as_often_and_whoever_asks():
    dataset = grouped()
    plain = ScheduledDataset(60, 180, seed=2)
    order = [dataset[p]["index"] for p in range(180)]
    # Windows of 16 batches of 3 hold what the plain order holds there, also where a window spans two passes.
    for start in range(0, 180, 48):
        window = range(start, min(start + 48, 180))
        assert sorted(order[p] for p in window) == sorted(plain[p]["index"] for p in window)
    again = grouped()
    assert {p: again[p]["index"] for p in (170, 3, 90, 50, 4)} == {p: order[p] for p in (170, 3, 90, 50, 4)}


def test_a_batch_depends_on_positions_alone(make_tokenizer):
    """The same rows give the same tensors from a collator made anew, as after a resume."""
    words = make_tokenizer()
    words.add_tokens([MEMORY_TOKEN], special_tokens=True)
    histories = [
        History(UTTERANCES, FixedParts(after="And now?"), "Mira it is."),
        History(UTTERANCES[:2], FixedParts(after="And then?"), "Otto it is."),
    ]
    dataset = ScheduledDataset(2, 8, seed=0)

    def batch():
        collator = CompressionCollator(make_tokenizer(), words, vocab_size=320, num_memory_tokens=2)
        return CurriculumCollator(histories, Curriculum(0.5, short=0, medium=0), collator)([dataset[p] for p in (3, 6)])

    first, second = batch(), batch()
    assert all(first[name].equal(second[name]) for name in first)
    # Position 3 of 8 is in the single-turn phase, position 6 sees all turns.
    num_turns = [2, len(histories[dataset[6]["index"]].turns)]
    assert (first["input_ids"] >= 320).sum(dim=1).tolist() == [2, 2 * num_turns[1]]


def test_a_history_without_turns_is_refused(make_tokenizer):
    collator = CompressionCollator(make_tokenizer(), make_tokenizer(), vocab_size=320, num_memory_tokens=2)
    with pytest.raises(CompressorDataError, match="a history without turns cannot be compressed"):
        CurriculumCollator([History((), FixedParts(after="And now?"), "Yes.")], Curriculum(), collator)
