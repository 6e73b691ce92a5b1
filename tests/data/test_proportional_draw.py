"""The proportional draw: quotas worked by hand, and the same dialogues whatever their order."""

import random

import pytest

from epo.data.proportional_draw import draw_by_dialogue, share_out_most


@pytest.mark.parametrize(
    ("sizes", "most", "kept"),
    [
        ((80, 10, 10), 50, (40, 5, 5)),
        ((80, 10, 10), 100, (80, 10, 10)),
        ((80, 10, 10), 1000, (80, 10, 10)),
        ((19_533, 2_770, 2_547), 1000, (786, 111, 103)),  # 786.04, 111.47 and 102.49: the remainders .47, then .49
        ((70, 20, 10), 7, (5, 1, 1)),  # 4.9, 1.4 and 0.7
        ((98, 1, 1), 10, (8, 1, 1)),  # 9.8, 0.1 and 0.1: whoever has any keeps one
        ((100, 0, 3), 20, (19, 0, 1)),
        ((10, 10, 10), 2, (1, 1, 0)),
        ((0, 0, 0), 5, (0, 0, 0)),
    ],
)
def test_quotas(sizes, most, kept):
    splits = ("train", "validation", "test")
    found = share_out_most(dict(zip(splits, sizes, strict=True)), most)
    assert tuple(found.values()) == kept and sum(kept) == min(most, sum(sizes))


def test_quotas_never_exceed_what_is_there():
    chance = random.Random(0)
    for _ in range(500):
        sizes = {split: chance.choice((0, 1, 2, 7, 300)) for split in "abc"}
        most = chance.randint(1, 400)
        kept = share_out_most(sizes, most)
        assert sum(kept.values()) == min(most, sum(sizes.values()))
        assert all(0 <= kept[split] <= sizes[split] for split in sizes)
        if most >= 3:
            assert all(kept[split] for split in sizes if sizes[split])


def test_the_same_dialogues_are_drawn_whatever_their_order():
    names = [f"d{i}" for i in range(200)]
    drawn = draw_by_dialogue(names, str, 50, seed=0)
    assert drawn == sorted(drawn, key=names.index) and len(set(drawn)) == 50
    shuffled = random.Random(1).sample(names, len(names))
    assert set(draw_by_dialogue(shuffled, str, 50, seed=0)) == set(drawn)
    assert set(draw_by_dialogue(names, str, 51, seed=0)) > set(drawn)
    assert set(draw_by_dialogue(names, str, 50, seed=1)) != set(drawn)
    assert draw_by_dialogue(names, str, 500, seed=0) == names
    assert 15 <= sum(names.index(name) < 100 for name in drawn) <= 35  # not the first ones


def test_items_of_a_dialogue_stay_together_up_to_the_last():
    items = [(f"d{i % 10}", i) for i in range(30)]
    drawn = draw_by_dialogue(items, lambda item: item[0], 8, seed=3)
    sizes = sorted(sum(name == item[0] for item in drawn) for name in {name for name, _ in drawn})
    assert sizes == [2, 3, 3] and drawn == sorted(drawn, key=lambda item: item[1])
    (cut,) = [name for name in {name for name, _ in drawn} if sum(name == item[0] for item in drawn) == 2]
    assert [place for name, place in drawn if name == cut] == [int(cut[1:]), int(cut[1:]) + 10]
