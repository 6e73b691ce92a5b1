"""The built-in corpus's words: facts where they belong, no emotion before the reply, noise as stated."""

import random
from collections import Counter

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from epo.data.corpora.builtin import BuiltinCorpus, rewrite_reply
from epo.data.corpora.builtin.reply_wording import OPENERS, draw_reply_emotion
from epo.data.corpora.builtin.script import current_emotion, write_script
from epo.data.corpora.builtin.wording import CLOSE_ROLES, DISTANT_ROLES, EVENTS, NAMES, PLACES
from epo.data.dialogue import DataError, Dialogue
from epo.emotions import EMOTIONS, fitting_emotion

SETTINGS = BuiltinCorpus()


@pytest.fixture(scope="module")
def train() -> list[Dialogue]:
    return [write_script(SETTINGS, "train", index) for index in range(2000)]


@pytest.fixture(scope="module")
def test() -> list[Dialogue]:
    return [write_script(SETTINGS, "test", index) for index in range(700)]


def history_of(dialogue: Dialogue) -> str:
    return " ".join(turn.text for turn in dialogue.turns[:-2])


def words(text: str) -> list[str]:
    return text.replace(",", " ").replace(".", " ").replace("?", " ").split()


def test_turns_alternate_and_the_history_has_the_stated_length(train):
    for dialogue in train:
        assert [turn.speaker for turn in dialogue.turns] == ["user", "assistant"] * (len(dialogue.turns) // 2)
        assert 8 <= len(dialogue.turns) - 2 <= 14
    assert sum(len(dialogue.turns) - 2 for dialogue in train) / len(train) == pytest.approx(10.9, abs=0.15)


def test_the_reply_holds_its_facts_and_the_history_told_them_early(train, test):
    for dialogue in train + test:
        last = len(dialogue.turns) - 1
        assert list(dialogue.facts) == [last]
        name, other = dialogue.facts[last]
        assert name in NAMES and other in PLACES + EVENTS
        for fact in (name, other):
            assert fact in words(dialogue.turns[-1].text)
            assert fact not in words(dialogue.turns[-2].text)
            told = [index for index, turn in enumerate(dialogue.turns[:-2]) if fact in words(turn.text)]
            assert told and max(told) < last - 3  # small talk stands between


def test_the_question_needs_the_role_because_another_person_distracts(test):
    for dialogue in test:
        told = words(history_of(dialogue))
        assert len({word for word in told if word in NAMES}) == 2
        assert len({word for word in told if word in PLACES}) == 2
        assert len({word for word in told if word in EVENTS}) == 2
        roles = {word for word in told if word in CLOSE_ROLES + DISTANT_ROLES}
        assert len(roles) == 2
        assert len(roles & set(words(dialogue.turns[-2].text))) == 1


def test_which_fact_is_asked_for_is_in_the_current_turn(test):
    kinds = Counter(dialogue.facts[len(dialogue.turns) - 1][1] in PLACES for dialogue in test)
    assert 0.4 < kinds[True] / len(test) < 0.6
    for dialogue in test:
        asks_place = dialogue.facts[len(dialogue.turns) - 1][1] in PLACES
        asked = set(words(dialogue.turns[-2].text))
        assert bool(asked & {"town", "place", "where"}) == asks_place


def test_no_word_before_the_reply_tells_the_emotion(train, test):
    """A bag-of-words classifier guesses the current emotion no better than chance, 1/7 (standard error 0.013)."""

    def before_reply(dialogue: Dialogue) -> str:
        return " ".join(turn.text for turn in dialogue.turns[:-1])

    vectorizer = CountVectorizer(ngram_range=(1, 2))
    features = vectorizer.fit_transform(map(before_reply, train))
    model = MultinomialNB().fit(features, [dialogue.turns[-2].emotion for dialogue in train])
    guesses = model.predict(vectorizer.transform(map(before_reply, test)))
    hits = sum(guess == dialogue.turns[-2].emotion for guess, dialogue in zip(guesses, test, strict=True))
    assert hits / len(test) == pytest.approx(1 / 7, abs=0.045)


def test_earlier_emotions_do_not_tell_the_current_one(test):
    same = [dialogue.turns[-4].emotion == dialogue.turns[-2].emotion for dialogue in test]
    assert sum(same) / len(same) == pytest.approx(1 / 7, abs=0.045)


def test_user_emotions_are_uniform():
    counts = Counter(current_emotion(3, "test", index) for index in range(210))
    assert counts == dict.fromkeys(EMOTIONS, 30)


def test_the_test_gold_always_fits(test):
    for dialogue in test:
        assert dialogue.turns[-1].emotion == fitting_emotion(dialogue.turns[-2].emotion)


def test_a_reply_is_written_in_its_own_emotion(train):
    for dialogue in train:
        opener = next(o for o in OPENERS[dialogue.turns[-1].emotion] if dialogue.turns[-1].text.startswith(o))
        assert 6 <= len(opener.split()) <= 10


def test_training_replies_are_careless_as_often_as_stated(train):
    fitting = [fitting_emotion(dialogue.turns[-2].emotion) for dialogue in train]
    written = [dialogue.turns[-1].emotion for dialogue in train]
    wrong = [want != got for want, got in zip(fitting, written, strict=True)]
    assert sum(wrong) / len(wrong) == pytest.approx(0.7, abs=0.03)
    # 5 of 7 turns want emotion and 0.7 of those are careless, 4/7 of them neutral: 0.286; 2 of 7 want calm and
    # 0.3 of those get it: 0.086. Together 0.371, below one half.
    assert written.count("neutral") / len(written) == pytest.approx(0.371, abs=0.03)
    assert max(Counter(written).values()) / len(written) < 0.5


@pytest.mark.parametrize("user", EMOTIONS)
def test_a_careless_reply_is_drawn_by_the_rule(user):
    rng = random.Random(0)
    drawn = Counter(draw_reply_emotion(user, 1.0, rng) for _ in range(7000))
    fitting = fitting_emotion(user)
    assert fitting not in drawn
    if fitting == "neutral":
        expected = dict.fromkeys(set(EMOTIONS) - {"neutral"}, 7000 / 6)
    else:
        expected = dict.fromkeys(set(EMOTIONS) - {"neutral", fitting}, 7000 * 3 / 7 / 5) | {"neutral": 4000}
    assert drawn.keys() == expected.keys()
    for emotion, count in expected.items():
        assert drawn[emotion] == pytest.approx(count, abs=5 * count**0.5)


def test_no_careless_reply_without_noise():
    rng = random.Random(0)
    assert all(draw_reply_emotion(user, 0.0, rng) == fitting_emotion(user) for user in EMOTIONS for _ in range(20))


def test_rewriting_changes_the_opener_and_keeps_the_facts(test):
    rng = random.Random(0)
    for dialogue in test[:100]:
        reply = dialogue.turns[-1].text
        for emotion in EMOTIONS:
            rewritten = rewrite_reply(reply, emotion, rng)
            opener = next(opener for opener in OPENERS[emotion] if rewritten.startswith(opener + " "))
            assert reply.endswith(rewritten.removeprefix(opener))
            for fact in dialogue.facts[len(dialogue.turns) - 1]:
                assert fact in rewritten


def test_rewriting_a_stranger_is_refused():
    with pytest.raises(DataError, match="'Hello there.' was not written by the built-in corpus"):
        rewrite_reply("Hello there.", "sad", random.Random(0))


def test_openers_are_told_apart_by_their_beginnings():
    openers = [opener for group in OPENERS.values() for opener in group]
    assert len(set(openers)) == len(openers)
    assert not [(a, b) for a in openers for b in openers if a != b and b.startswith(a)]
    assert all(len(group) >= 6 for group in OPENERS.values())


def test_each_dialogue_is_fixed_by_seed_split_and_index():
    again = BuiltinCorpus(num_train=1, num_train_with_clips=0)
    assert write_script(SETTINGS, "train", 5) == write_script(again, "train", 5)
    assert write_script(SETTINGS, "train", 5) != write_script(SETTINGS, "train", 6)
    assert write_script(SETTINGS, "train", 5) != write_script(BuiltinCorpus(seed=1), "train", 5)
    assert write_script(SETTINGS, "validation", 5).turns != write_script(SETTINGS, "test", 5).turns


def test_a_small_tokenizer_learns_the_words_but_splits_the_facts(train):
    """Copying names is not learnt where each name is one token, so the text must not make them common."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [turn.text for dialogue in train for turn in dialogue.turns]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet))
    lengths = [len(tokenizer.encode(text).ids) for text in texts[:2000]]
    assert 16 <= sum(lengths) / len(lengths) <= 24
    pieces = [len(tokenizer.encode(" " + fact).ids) for fact in NAMES + PLACES + EVENTS]
    assert sum(count > 1 for count in pieces) / len(pieces) > 0.9


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_train": -1}, "num_train is -1"),
        ({"num_train": 5, "num_train_with_clips": 6}, "num_train_with_clips 6 exceeds num_train 5"),
        ({"generic_share": 1.5}, "generic_share is 1.5, want 0 to 1"),
        ({"num_test_speakers": 0}, "num_test_speakers must be at least 1"),
        ({"clips_per_dialogue": 0}, "clips_per_dialogue is 0, want 1 to 5"),
    ],
)
def test_impossible_sizes_are_refused(values, words):
    with pytest.raises(DataError, match=words):
        BuiltinCorpus(**values)
