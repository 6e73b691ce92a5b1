"""Neutralised replies: the same facts in neutral words, wherever a neutral reply is the worse one."""

import random

import numpy as np
import pytest
import yaml

import launch.preferences as stage
from epo.data.corpora.builtin.reply_wording import OPENERS, write_reply
from epo.data.dialogue import Dialogue, Turn
from epo.data.replies import replies_of
from epo.emotions import EMOTIONS, fitting_emotion
from epo.preferences.builder import build_pairs
from epo.preferences.classifier import CorpusReader
from epo.preferences.counter import Choice
from epo.preferences.pair_kinds import ABOUT, KINDS
from epo.preferences.sources.rewrite import RewriteSource
from epo.preferences.verification import Examiner, Thresholds
from launch.recipe import RecipeError


@pytest.fixture
def gold():
    """Two dialogues for each user emotion, answered as fits it."""
    rng, talks = random.Random(0), []
    for number, user in enumerate(EMOTIONS * 2):
        emotion = fitting_emotion(user)
        said = write_reply(emotion, f"So this is about Mira, over in town {number}.", rng)
        talks.append(Dialogue(f"d{number}", (Turn("user", "I met Mira.", user), Turn("assistant", said, emotion))))
    return replies_of(talks, "last")


def test_every_kind_says_what_it_is():
    assert tuple(ABOUT) == KINDS


def test_the_rewrite_of_a_neutral_pair_keeps_the_facts_and_drops_the_feeling(gold):
    examiner = Examiner(Thresholds(), CorpusReader(gold), None, True, True)
    choice = Choice("inappropriate", marginals="free")
    found = build_pairs(gold, RewriteSource(0), choice, examiner, np.random.default_rng(0), "neutral")
    warm = [
        reply for reply in gold if reply.emotion != "neutral" and fitting_emotion(reply.current.emotion) != "neutral"
    ]
    assert [pair.reply for pair in found.pairs] == warm and len(warm) < len(gold)
    for pair in found.pairs:
        opener = next(opener for opener in OPENERS["neutral"] if pair.rejected.startswith(opener))
        assert pair.rejected[len(opener) :] == pair.chosen[pair.chosen.index(" So this") :]
        assert (pair.rejected_emotion, pair.kind, pair.source) == ("neutral", "neutral", "rewrite")
    plain = build_pairs(gold, RewriteSource(0), choice, examiner, np.random.default_rng(0))
    assert {pair.kind for pair in plain.pairs} == {None}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "marginals is near, but kind neutral rejects neutral replies alone, .* set marginals: free"),
        ({"marginals": "free", "counter_emotion": "random"}, "key counter_emotion would do nothing: kind neutral"),
        ({"source": "retrieve"}, "source is retrieve, whose replies do not say .* set source to rewrite or llm"),
        ({"kind": "intensity"}, "kind is 'intensity', want .*'contradiction'"),
    ],
)
def test_what_neutral_pairs_cannot_have_is_refused(tmp_path, keys, message):
    path = tmp_path / "preferences.yaml"
    path.write_text(
        yaml.safe_dump(
            {"data": "gone.jsonl", "output_dir": str(tmp_path / "out"), "source": "rewrite", "kind": "neutral"} | keys
        )
    )
    with pytest.raises(RecipeError, match=message):
        stage.run(["--config", str(path)])
    assert not (tmp_path / "out").exists()
