"""Retrieval: BM25 by hand, near contexts first, no reply from the same dialogue, each used about once."""

import math
from collections import Counter

import numpy as np
import pytest

from epo.data.dialogue import Dialogue, Turn
from epo.emotions import EMOTIONS
from epo.preferences.bm25 import Bm25Index
from epo.preferences.classifier import CorpusReader
from epo.preferences.embedding import EmbeddingIndex
from epo.preferences.gold import collect_gold
from epo.preferences.sources.opposite_random import OppositeRandomSource
from epo.preferences.sources.retrieve import RetrieveSettings, RetrieveSource, context_text
from epo.preferences.verification import Examiner, Thresholds

TOPICS = ("trains", "cheese", "chess", "rivers")
FEELINGS = {"happy": "Lovely, I smile about", "sad": "Alas, I weep about"}


def talk(index, topic, emotion, language="en"):
    said = (Turn("user", f"Tell me about {topic} please."), Turn("assistant", f"{FEELINGS[emotion]} {topic}.", emotion))
    return Dialogue(f"d{index}", said, language=language, split="train")


def gold_replies(copies=2):
    cells = [(topic, emotion) for topic in TOPICS for emotion in FEELINGS for _ in range(copies)]
    return collect_gold([talk(i, *cell) for i, cell in enumerate(cells)], "train", "all", False)


def retriever(gold, **limits):
    return RetrieveSource(RetrieveSettings(context_turns=3), Examiner(Thresholds(**limits), CorpusReader(gold)))


def other(gold):
    return ["sad" if reply.emotion == "happy" else "happy" for reply in gold]


def test_bm25_by_hand():
    # Query "b" against "a b", "b b", "c": idf = ln(1 + (3 - 2 + .5) / (2 + .5)) = ln 1.6. Mean length 5/3.
    # Lengths of 2: penalty 1.5 (.25 + .75 * 2 / (5/3)) = 1.725; weight tf * 2.5 / (tf + 1.725).
    scores = Bm25Index(["b"], ["a b", "b b", "c"]).similarity(np.array([0]), np.array([0, 1, 2]))
    expected = [math.log(1.6) * 2.5 / 2.725, math.log(1.6) * 5 / 3.725, 0.0]
    assert scores[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_bm25_survives_texts_without_words():
    assert Bm25Index(["...", "a"], ["!", "b"]).similarity(np.arange(2), np.arange(2)).shape == (2, 2)


def test_nearest_context_in_the_asked_emotion():
    gold = gold_replies()
    found = retriever(gold).propose(gold, other(gold))
    for reply, emotion, texts in zip(gold, other(gold), found, strict=True):
        topic = reply.text.split()[-1]
        assert texts == [f"{FEELINGS[emotion]} {topic}"]


def test_each_reply_is_used_once_where_emotions_balance():
    gold = gold_replies(copies=1)
    uses = Counter(text for texts in retriever(gold).propose(gold, other(gold)) for text in texts)
    assert set(uses.values()) == {1}


def test_scarce_replies_are_shared_out_evenly():
    dialogues = [talk(i, TOPICS[i % 4], "happy") for i in range(8)] + [
        talk(8, "trains", "sad"),
        talk(9, "cheese", "sad"),
    ]
    gold = collect_gold(dialogues, "train", "all", False)[:10]
    asked = [reply for reply in gold if reply.emotion == "happy"]
    found = retriever(gold).propose(gold, ["sad" if reply in asked else "happy" for reply in gold])
    assert set(Counter(found[place][0] for place in range(8)).values()) == {4}


def test_never_from_the_same_dialogue_or_another_language():
    german = talk(2, "trains", "sad", language="de")
    turns = talk(0, "trains", "happy").turns + talk(0, "trains", "sad").turns
    gold = collect_gold([Dialogue("d0", turns, split="train"), german], "train", "all", False)
    assert retriever(gold).propose(gold, other(gold)) == [[], [], []]
    assert OppositeRandomSource(0).propose(gold, other(gold)) == [[], [], []]


def test_an_emotion_that_no_reply_to_be_paired_has_gives_no_candidate():
    gold = [reply for reply in gold_replies(copies=1) if reply.emotion == "happy"]
    assert retriever(gold).propose(gold, ["sad"] * len(gold)) == [[]] * len(gold)


def test_where_nothing_fits_the_nearest_is_shown_for_the_report():
    gold = gold_replies(copies=1)
    found = retriever(gold, max_similarity=0.0).propose(gold, other(gold))
    assert all(len(texts) == 1 for texts in found)


def test_sources_know_which_emotions_they_can_supply():
    gold = gold_replies(copies=1)
    assert retriever(gold).available(gold) == {"happy", "sad"}
    assert OppositeRandomSource(0).available(gold[:1]) == {gold[0].emotion} < set(EMOTIONS)


def test_opposite_random_ignores_topic_and_repeats_itself():
    gold = gold_replies(copies=4)
    found = OppositeRandomSource(0).propose(gold, other(gold))
    assert found == OppositeRandomSource(0).propose(gold, other(gold))
    assert found[3:5] == OppositeRandomSource(0).propose(gold, other(gold))[3:5]
    for emotion, texts in zip(other(gold), found, strict=True):
        assert texts and all(text.startswith(FEELINGS[emotion]) for text in texts)
    assert len({texts[0].split()[-1] for texts in found}) == len(TOPICS)


def test_context_is_the_last_turns_before_the_reply():
    turns = tuple(Turn("user" if i % 2 == 0 else "assistant", f"t{i}", "sad") for i in range(6))
    reply = collect_gold([Dialogue("d", turns, split="test")], "test", "last", False)[0]
    assert context_text(reply, 3) == "t2\nt3\nt4"
    assert context_text(reply, 99) == "t0\nt1\nt2\nt3\nt4"


class _Counts:
    """Embeds a text as how often two words occur in it; rows are not of length 1."""

    def encode(self, texts):
        return np.array([[2.0 * text.count("trains"), text.count("cheese")] for text in texts], dtype=np.float32)


def test_contexts_are_compared_by_the_cosine_of_their_embeddings():
    index = EmbeddingIndex(["trains", "neither"], ["cheese", "trains trains", "trains cheese"], _Counts())
    # (2, 0) against (0, 1), (4, 0) and (2, 1): 0, 1 and 2 / sqrt(5). A text without either is near to nothing.
    scores = index.similarity(np.array([0, 1]), np.arange(3))
    assert scores[0].tolist() == pytest.approx([0.0, 1.0, 2 / 5**0.5]) and scores[1].tolist() == [0.0, 0.0, 0.0]


def test_a_named_encoder_chooses_the_nearest_context():
    gold = gold_replies(copies=1)[:4]  # two about trains, two about cheese
    source = RetrieveSource(RetrieveSettings(), Examiner(Thresholds(), CorpusReader(gold)), _Counts())
    found = source.propose(gold, other(gold))
    assert [texts[0].split()[-1] for texts in found] == [reply.text.split()[-1] for reply in gold]
