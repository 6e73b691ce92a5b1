"""Rewards by kind of pair and by the two emotions, counted by hand; and the alarm for gold replies that fall."""

from dataclasses import replace

import pytest
import torch

from epo.training.likelihood_alarm import LikelihoodAlarm
from epo.training.objective import PairScores
from epo.training.pair_facts import PairFacts
from epo.training.pair_groups import GROUPS, GroupNumbers, group_sums, groups_of


@pytest.fixture
def four(pairs):
    """Happy over angry twice, sad over angry neutralised, and a ranking without emotions."""
    bare = replace(pairs[3], reply=replace(pairs[3].reply, emotion=None), rejected_emotion=None)
    return [pairs[0], pairs[1], replace(pairs[5], kind="neutral"), bare]


def scores(margins):
    """Log-ratios that give these margins, all on the chosen side."""
    zeros = torch.zeros(len(margins))
    return PairScores(torch.tensor(margins), zeros, zeros, zeros, zeros)


def test_groups_of_pairs(four):
    assert [groups_of(pair) for pair in four] == [
        ["kind/emotion", "happy-angry"],
        ["kind/emotion", "happy-angry"],
        ["kind/neutral", "sad-angry"],
        ["kind/ranking"],
    ]
    assert {group for pair in four for group in groups_of(pair)} <= set(GROUPS)


def test_only_what_occurs_is_there_and_sums_are_added_before_dividing(four):
    """Batches of four and one, beta 0.5: happy over angry 1 and -2, then 4: accuracy 2 / 3, margin 0.5 x 3 / 3."""
    numbers = GroupNumbers()
    numbers.add(group_sums(scores([1.0, -2.0, 3.0, 0.0]), PairFacts.of(range(len(four)), four), 0.5))
    numbers.add(group_sums(scores([4.0]), PairFacts.of([0], four), 0.5))
    assert numbers.pop() == pytest.approx(
        {
            "rewards/accuracies/kind/emotion": 2 / 3, "rewards/margins/kind/emotion": 0.5,
            "rewards/accuracies/kind/neutral": 1.0, "rewards/margins/kind/neutral": 1.5,
            "rewards/accuracies/kind/ranking": 0.0, "rewards/margins/kind/ranking": 0.0,
            "rewards/accuracies/happy-angry": 2 / 3, "rewards/margins/happy-angry": 0.5,
            "rewards/accuracies/sad-angry": 1.0, "rewards/margins/sad-angry": 1.5,
        }
    )  # fmt: skip
    assert numbers.pop() == {}
    assert not group_sums(scores([1.0]), None, 0.5).any()


# --- the alarm ---


def rung(values):
    """Return after which value the alarm rang, and how often."""
    alarm = LikelihoodAlarm()
    return [place for place, value in enumerate(values) if alarm.add(value) is not None]


def test_a_steady_fall_is_told_once():
    """0, -0.03, ...: of nine values the thirds' means are -0.03, -0.12, -0.21: 0.18 apart."""
    assert rung([-0.03 * step for step in range(40)]) == [8]


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 40,
        [0.05 * step for step in range(40)],
        [-0.004 * step for step in range(20)],  # 0.05 nats: not enough
        [0.0, -0.3, -0.5, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.1, 0.2],  # dips, and recovers
        [(-1) ** step * 0.5 for step in range(40)],
        [-0.1 * step for step in range(8)],  # too few to tell
    ],
)
def test_what_does_not_fall_steadily_is_let_be(values):
    assert rung(values) == []


def test_the_warning_says_what_it_means_and_what_to_do():
    alarm = LikelihoodAlarm()
    (said,) = filter(None, (alarm.add(-0.1 * step) for step in range(9)))
    assert said.startswith(
        "warning: the chosen replies' log-probability falls: by 0.60 nats a token against the refere"
    )
    assert said.endswith("raise alpha or anchor_weight, or lower learning_rate") and "\n" not in said
