"""Verification by hand: every check with its key, several candidates, what sources promise, what is counted."""

import numpy as np
import pytest

from epo.data.dialogue import Turn
from epo.data.replies import Reply
from epo.emotions import EMOTIONS
from epo.preferences.builder import build_pairs
from epo.preferences.counter import Choice
from epo.preferences.endings import is_cut_off
from epo.preferences.language_guess import guess_language
from epo.preferences.names_and_numbers import Comparison, compare_mentions
from epo.preferences.source import examples_of
from epo.preferences.task_talk import find_task_talk
from epo.preferences.verification import CHECKS, Examiner, Thresholds


class Angry:
    """Reads anger from the words "grr" and "hate": 0.1 of it without, 0.2 more for each; the rest is neutral."""

    def read(self, gold, text):
        found = np.zeros(len(EMOTIONS))
        found[0] = min(0.9, 0.1 + 0.2 * sum(text.lower().count(word) for word in ("grr", "hate")))
        found[EMOTIONS.index("neutral")] = 1 - found[0]
        return found


def reply(text="I met Tom in Rome at 3 today.", emotion="neutral", index=0, history=(), language="en"):
    user = Turn("user", "So what did you do with your morning, tell me?", "happy")
    return Reply(f"d{index}", 2 * len(history) + 1, history, user, text, emotion, language, "train")


GOLD = reply()
GOOD = "Grr, I met Tom in Rome at 3 today, I hate it."
EXAMPLE = "My brother wants to borrow the car again tomorrow, grr."


def examiner(gold=GOLD, keeps_content=True, is_certain=False, encoder=None, **limits):
    found = Examiner(Thresholds(**limits), Angry(), encoder, keeps_content, is_certain)
    found.prepare([(gold, gold.text), (gold, "grr grr")])
    return found


def reason(text, gold=GOLD, **keys):
    return examiner(gold, **keys).examine(gold, text, "angry", (EXAMPLE,)).reason


def test_a_good_rewrite_passes_everything():
    found = examiner().examine(GOLD, GOOD, "angry")
    assert found.reason is None and all(found.passed.values()) and set(found.passed) == {c.name for c in CHECKS}
    scores = found.candidate.verification_scores()
    assert scores["counter_in_chosen"] == pytest.approx(0.1) and scores["counter_in_rejected"] == pytest.approx(0.5)
    assert scores["emotion_shift"] == pytest.approx(0.4) and (scores["names_kept"], scores["names_added"]) == (1.0, 0)
    # 8 words of the gold are among the 12 of the candidate: 16 / 20. Quality: 0.4 * 0.8.
    assert found.candidate.similarity == pytest.approx(0.8) and found.quality == pytest.approx(0.32)


BAD = [
    ("I met Tom in Rome at 3 today, fine.", "the counter emotion is hardly likelier in it",
     {"min_emotion_shift": -1.0}),
    ("Grr, Tom hates all of the noise out there.", "the content is not kept",
     {"min_rewrite_similarity": 0.1, "min_names_kept": 0.0}),
    ("Grr, I never met Tom in Rome at 3 today.", "does otherwise: denies what the gold reply affirms, or the reverse",
     {"refuse_other_acts": False}),
    ("Grr, I met him in Rome at 3 today.", "names or numbers are lost", {"min_names_kept": 0.6}),
    ("Grr, I met Tom in Rome at 3 today with Ann.", "names or numbers are added", {"max_names_added": 1}),
    ("Angry: grr, I met Tom in Rome at 3 today.", "talks about the task: an emotion as a label",
     {"refuse_task_talk": False}),
    ("Grr, I met Tom in Rome at 3 today and", "cut off at the end", {"refuse_cut_off": False}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "why", "off"), BAD, ids=[why for _, why, _ in BAD])
def test_each_check_drops_and_its_key_switches_it_off(text, why, off):
    assert reason(text) == why
    assert reason(text, **off) is None


def test_each_check_drops_and_its_key_switches_it_off_where_content_need_not_be_kept():
    said = "Grr, so what did you do with your morning, tell me?"
    assert reason(said, keeps_content=False) == "copy of another turn or of an example"
    assert reason(said, keeps_content=False, max_copied=1.0) is None
    assert reason(EXAMPLE, keeps_content=False) == "copy of another turn or of an example"
    assert reason("Grr, grr grr grr grr grr.", keeps_content=False) == "the same words over and over"
    assert reason("Grr, grr grr grr grr grr.", keeps_content=False, refuse_loops=False) is None
    german = "Grr, das ist nicht gut, und ich bin auch noch hier."
    english = reply("It's the worst of the days that you and I have had.")
    assert reason(german, english, keeps_content=False) == "another language"
    assert reason(german, english, keeps_content=False, refuse_other_language=False) is None


def test_an_unchanged_reply_and_a_far_longer_one_are_dropped():
    assert reason("I met Tom in Rome at 3 today!") == "content too similar"
    assert reason(GOLD.text + " Grr," + " I hate it" * 4 + ".") == "length too different"


def test_content_is_measured_everywhere_and_drops_rewrites_alone():
    text = "Grr, I hate my boss and all of it."
    kept = examiner(keeps_content=False).examine(GOLD, text, "angry")
    assert kept.reason is None and kept.passed["names and numbers kept"] is False
    assert kept.passed["content kept"] is False
    assert examiner(is_certain=True).examine(GOLD, GOLD.text + " Angry: no", "angry").reason is None


class Letters:
    """Embeds a text as how often it says two words."""

    def encode(self, texts):
        return np.array([[text.count("Tom"), text.count("cheese")] for text in texts], dtype=np.float32)


def test_content_is_compared_by_embeddings_where_a_model_is_named():
    # (1, 0) against (1, 2): cosine 1 / sqrt(5) = 0.447.
    text = "Grr, I met Tom in Rome at 3 today, cheese, cheese."
    assert reason(text, encoder=Letters()) == "the content is not kept"
    assert reason(text, encoder=Letters(), min_embedding_similarity=0.4) is None
    scores = examiner(encoder=Letters()).examine(GOLD, text, "angry").candidate.verification_scores()
    assert scores["embedding_similarity"] == pytest.approx(5**-0.5)


def test_an_emotion_that_the_judge_cannot_tell_is_not_verified():
    """It was fitted on labels without it: what it reads of sadness is the same for every text."""
    found = examiner().examine(GOLD, GOOD, "sad")
    assert found.passed["counter emotion likelier"] is None and found.reason is None
    assert "emotion_shift" not in found.candidate.verification_scores()
    assert found.quality == pytest.approx(0.8), "likeness alone"


@pytest.mark.parametrize(
    ("gold", "other", "language", "expected"),
    [
        ("I know Ann Lee from Rome.", "Ann Lee, from rome? Grr!", "en", (1.0, 0)),
        ("I know Ann Lee from Rome.", "I know Ann from somewhere.", "en", (1 / 3, 0)),
        ("See you at 3:30 with two dogs.", "Ugh, at 3:30 with 2 dogs.", "en", (1.0, 0)),
        ("It cost 1,000 in May.", "It cost 1000 in May, and 7 more!", "en", (1.0, 1)),
        ("I am fine.", "I am SO angry. God, I hate it. Ugh, I do.", "en", (1.0, 0)),
        ("She works for NASA.", "She works for nasa, grr.", "en", (1.0, 0)),
        ("我三点在北京见了５个人。", "我在北京见了5个人，气死了！", "zh", (1.0, 0)),
        ("我见了5个人。", "我见了6个人！", "zh", (0.0, 1)),
        ("Ich habe den Hund gesehen.", "Der Hund und die Katze nerven!", "de", (1.0, 0)),
    ],
)
def test_names_and_numbers_by_hand(gold, other, language, expected):
    assert compare_mentions(gold, other, language) == Comparison(pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Here is the rewritten line: I hope so.", "about the reply"),
        ("The assistant's reply sounds too calm.", "about the reply"),
        ("As an AI language model, I feel nothing.", "about itself"),
        ("Assistant: I hope so.", "a speaker's name before it"),
        ("Line (angry): I hope so.", "a speaker's name before it"),
        ("I hope so.\n\nNote: the topic is kept.", "a note"),
        ("I hope so.<|im_end|>", "marks of a chat or of a page"),
        ("(angry) I hope so.", "an emotion as a label"),
        ("[sadness] I hope so.", "an emotion as a label"),
        ("*angrily* I hope so.", "an emotion as a label"),
        ("Furious: I hope so.", "an emotion as a label"),
        ("愤怒：我希望如此。", "an emotion as a label"),
        ("以下是改写后的句子：我希望如此。", "about the reply"),
        ('"I hope so."', "quotation marks around the whole"),
        ("“我希望如此。”", "quotation marks around the whole"),
        ("I hope so.\nI really do.", "further lines"),
        ("I am so angry, I hope you know that!", None),
        ("Here is hoping for the best!", None),
        ('He said "no" and she said "yes"', None),
    ],
)
def test_talk_about_the_task_by_hand(text, found):
    assert find_task_talk("I hope it works.", text) == found


def test_what_the_gold_reply_does_too_is_no_talk_about_the_task():
    assert find_task_talk("Please rewrite the letter for me.", "Grr, rewrite the letter for me!") is None
    assert find_task_talk("(happy) Oh!", "(sad) Oh!") is None


@pytest.mark.parametrize(
    ("gold", "text", "cut"),
    [
        ("I hope so.", "I hope", True),
        ("I hope so", "I hate", False),
        ("I hope so", "I hate it because", True),
        ("I hope so.", "I hate the.", True),
        ("I hope so.", 'I said "no.', True),
        ("I hope so.", "I hate it (all.", True),
        ("I hope so!", "I hate it 😡", False),
        ("I hope so.", "I hate it...", False),
        ("Well,", "Grr,", False),
        ("我希望如此。", "我讨厌", True),
        ("我希望如此。", "我讨厌它！", False),
    ],
)
def test_endings_by_hand(gold, text, cut):
    assert is_cut_off(gold, text) is cut


def test_language_is_guessed_only_where_words_decide_it():
    assert guess_language("It's the worst that you have said") == "en"
    assert guess_language("Das ist nicht gut, und ich bin traurig") == "de"
    assert guess_language("Je suis triste pour vous, c'est pas le moment") == "fr"
    assert guess_language("Okay") is None and guess_language("我希望如此") is None


class Writer:
    """Offers the same texts for every reply, or what a rule makes of it."""

    name = "writer"
    examples = (EXAMPLE,)

    def __init__(self, write):
        self.write = write

    def available(self, gold):
        return frozenset(EMOTIONS)

    def propose(self, gold, emotions):
        return [self.write(reply, emotion) for reply, emotion in zip(gold, emotions, strict=True)]


def test_the_best_of_the_accepted_candidates_is_taken():
    texts = [
        "Grr, I met Tom in Rome at 3 today.",
        GOOD,
        "Tom, grr grr hate!",
        "I met Tom in Rome at 3 today, grr, hate.",
    ]
    written = Writer(lambda reply, emotion: texts)
    gold = [reply(), reply(emotion="angry", index=1)]
    free = Choice("opposite", marginals="free")
    found = build_pairs(gold[:1], written, free, examiner())
    # Asked for happy or sad, which the judge cannot tell, so the likest is best: the gold's eight words and one more.
    assert [pair.rejected for pair in found.pairs] == [texts[0]]
    assert found.tally.candidates == 4 and found.tally.accepted == 3
    shifts = {text: examiner().examine(GOLD, text, "angry").quality for text in texts}
    assert max(shifts, key=shifts.get) == texts[3], "0.4 * 16/19 is more than 0.2 * 16/17 and 0.4 * 16/20"


def test_a_source_says_its_examples_or_has_none():
    assert examples_of(Writer(None)) == (EXAMPLE,) and examples_of(type("Bare", (), {"name": "bare"})()) == ()
    found = build_pairs(
        [GOLD], Writer(lambda *_: [EXAMPLE]), Choice("random", marginals="free"), examiner(keeps_content=False)
    )
    assert found.pairs == [] and found.tally.refused == {"copy of another turn or of an example": 1}


def test_a_writer_that_only_echoes_gives_no_pair_and_every_reason_is_counted():
    gold = [reply(f"I met Tom in Rome at {i} today.", EMOTIONS[i % 7], i) for i in range(14)]
    found = build_pairs(gold, Writer(lambda reply, _: [reply.text, reply.text.upper()]), None, examiner())
    summary = found.summary()
    assert summary["pairs"] == 0 and summary["yield"] == 0.0
    assert summary["refused"] == {"same text as the gold reply": 2 * summary["asked"]}
    assert summary["dropped"]["no candidate accepted: same text as the gold reply"] == summary["asked"]


def test_equal_marginals_are_exact_after_candidates_were_dropped():
    """The writer fails for every third reply; the counts of what is left still agree, emotion by emotion."""
    gold = [reply(f"I met Tom in Rome at {i} today.", EMOTIONS[i % 7], i) for i in range(140)]
    written = Writer(
        lambda reply, emotion: [] if reply.turn and int(reply.dialogue_id[1:]) % 3 == 0 else [f"Oh, {reply.text}"]
    )
    found = build_pairs(gold, written, Choice("random", marginals="equal"), examiner(min_emotion_shift=-1.0))
    chosen, rejected = found.marginals()
    assert chosen.tolist() == rejected.tolist() and 50 < len(found.pairs) < 94
    left_out = found.dropped["left out to balance the emotions of what was accepted"]
    assert left_out == found.tally.accepted - len(found.pairs) > 0
    near = build_pairs(gold, written, Choice("random", marginals="near"), examiner(min_emotion_shift=-1.0))
    assert len(near.pairs) >= 0.7 * near.tally.accepted - 1


def test_a_split_too_small_for_equal_marginals_is_balanced_as_near_as_it_can_be():
    """Nine replies, all neutral: equal marginals would leave none."""
    gold = [reply(f"I met Tom in Rome at {i} today.", "neutral", i) for i in range(9)]
    written = Writer(lambda reply, _: [f"Oh, {reply.text}"])
    found = build_pairs(gold, written, Choice("random", marginals="equal"), examiner(min_emotion_shift=-1.0))
    assert len(found.pairs) == 7 and found.balanced_by == "near" and found.left_out_for_equal == 9
