"""Prompts of any length: what fits is what a slow search finds, and 2,000 turns take a few renderings."""

import math
import random

import pytest
import torch

from compressor.chat import ChatFormat, chat_format
from compressor.curriculum import Curriculum
from compressor.data import CompressionCollator, History, encode_turns
from compressor.fitting import FixedParts, PromptTooLong, memory_prompt, newest_that_fit, text_prompt
from compressor.objectives import turn_memory
from compressor.placeholders import MEMORY_TOKEN
from compressor.text import CompressorDataError
from compressor.trainer import CurriculumCollator
from compressor.utterance import Utterance
from epo.data.dialogue import DataError, Turn
from epo.data.replies import Reply
from epo.evaluation.text_recall import text_recall
from epo.model.clip_reader import ClipFeatures
from epo.prompts.text_prompts import TextPrompts
from epo.training.collate import TextCollator

WORDS = ("lake", "Mira", "windy", "tiring", "we walked for hours and hours", "ok", "7")


def talk(num_turns, seed=0):
    """Turns of unlike length, the assistant first now and then, two of one speaker in a row now and then."""
    rng = random.Random(seed)
    speaker, turns = rng.choice(("user", "assistant")), []
    for _ in range(num_turns):
        turns.append({"role": speaker, "content": " ".join(rng.choices(WORDS, k=rng.choice((1, 1, 3, 20))))})
        if rng.random() > 0.1:
            speaker = "user" if speaker == "assistant" else "assistant"
    return turns


def slow_text(chat, system_prompt, past, current, limit):
    """Leave out the oldest turn, one at a time, until the whole fits."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for first in range(len(past) + 1):
        ids = chat.encode_prompt([*system, *past[first:], {"role": "user", "content": current}])
        if limit is None or len(ids) <= limit:
            return len(past) - first, ids
    return None


def slow_memory(chat, system_prompt, num_turns, k, current, limit):
    for kept in range(num_turns, -1, -1):
        found = slow_text(chat, system_prompt, [], MEMORY_TOKEN * (k * kept) + current, limit)
        if found is not None:
            return kept, found[1]
    return None


@pytest.mark.parametrize("system_prompt", ["", "Be kind."])
def test_what_fits_is_what_the_slow_search_finds(words, system_prompt):
    chat = chat_format(words)
    for seed in range(6):
        past = talk(seed * 3, seed)
        whole = len(slow_text(chat, system_prompt, past, "And now?", None)[1])
        bare = len(slow_text(chat, system_prompt, [], "And now?", None)[1])
        for limit in sorted(
            {None, bare, bare + 1, bare + 9, (bare + whole) // 2, whole - 1, whole, whole + 9} - {None}
        ):
            if limit >= bare:
                ours = text_prompt(chat, FixedParts(system_prompt, after="And now?"), past, limit)
                assert ours == slow_text(chat, system_prompt, past, "And now?", limit)
        for limit in (bare, bare + 1, bare + 2, bare + 3, bare + 11, bare + 500):
            ours = memory_prompt(chat, FixedParts(system_prompt, after="And now?"), len(past), 3, limit)
            assert ours == slow_memory(chat, system_prompt, len(past), 3, "And now?", limit)
        assert text_prompt(chat, FixedParts(system_prompt, after="And now?"), past, None)[0] == len(past)
        with pytest.raises(PromptTooLong, match=f"a turn takes {bare} tokens, more than max_prompt_tokens {bare - 1}"):
            text_prompt(chat, FixedParts(system_prompt, after="And now?"), past, bare - 1)
        with pytest.raises(PromptTooLong, match=f"takes {bare} tokens"):
            memory_prompt(chat, FixedParts(system_prompt, after="And now?"), len(past), 3, bare - 1)


@pytest.mark.parametrize("misleading", [False, True])
def test_the_search_finds_the_most_turns_in_few_tries(misleading):
    """Turns of 1 to 40 tokens; their characters are four a token, give or take, or say nothing about them."""
    rng = random.Random(misleading)
    most = 0
    for _ in range(600):
        tokens = [rng.choice((1, 2, 5, 40)) for _ in range(rng.choice((0, 1, 2, 7, 60, 500)))]
        characters = [rng.choice((1, 4000)) if misleading else count * rng.choice((3, 4, 5)) for count in tokens]
        limit = rng.randrange(2 * sum(tokens) + 9)
        tries = []

        def write(kept, tokens=tokens, tries=tries):
            tries.append(kept)
            return [0] * (3 + sum(tokens[len(tokens) - kept :]))

        fitting = [kept for kept in range(len(tokens) + 1) if len(write(kept)) <= limit]
        tries.clear()
        found = newest_that_fit(characters, write, limit)
        assert found == ((max(fitting), write(max(fitting))) if fitting else None)
        most = max(most, len(tries))
        assert len(tries) <= 6 + 3 * math.log2(len(tokens) + 1)
    assert misleading or most <= 16


@pytest.fixture
def renderings(monkeypatch):
    """The number of turns of each prompt rendered since."""
    seen = []
    encode = ChatFormat.encode_prompt

    def count(self, messages, *args):
        seen.append(len(messages))
        return encode(self, messages, *args)

    monkeypatch.setattr(ChatFormat, "encode_prompt", count)
    return seen


LONG = talk(2000, seed=1)
TURNS = tuple(Turn(turn["role"], turn["content"]) for turn in LONG)


@pytest.mark.parametrize(("limit", "kept"), [(4096, 2000), (1000, None)])
def test_two_thousand_turns_as_memories_are_one_rendering(make_model, renderings, limit, kept):
    _, processor = make_model(max_prompt_tokens=limit)
    prompt = processor.encode_prompt(TURNS, Turn("user", "And now?"), ClipFeatures())
    bare = len(processor.encode_prompt([], Turn("user", "And now?"), ClipFeatures()).input_ids)
    kept = (limit - bare) // 2 if kept is None else kept
    assert renderings == [1, 1] and prompt.num_history_tokens == 2 * kept == len(prompt.input_ids) - bare
    wanted = [f"{turn.speaker}: {turn.text}" for turn in TURNS[2000 - kept :]]
    assert prompt.history_ids == encode_turns(processor.history_tokenizer, wanted, 320, 2)


def test_two_thousand_turns_as_text_are_a_few_renderings_of_what_fits(make_model, renderings):
    _, processor = make_model(max_prompt_tokens=500)
    prompt = processor.encode_prompt(TURNS, Turn("user", "And now?"), ClipFeatures(), use_memory=False)
    assert 400 < len(prompt.input_ids) <= 500 and len(renderings) < 12 and max(renderings) < 300


def test_turns_are_read_once_however_many_replies_follow_them(tokenizer, monkeypatch):
    from compressor import data

    read = []
    encode = data._encode_batch
    monkeypatch.setattr(data, "_encode_batch", lambda words, texts: read.extend(texts) or encode(words, texts))
    lines = [f"user: turn {i}" for i in range(40)]
    rows = [encode_turns(tokenizer, lines[:i], 320, 2) for i in range(41)]
    assert read == lines
    assert rows[2] == [*tokenizer.encode(lines[0]), 320, 321, *tokenizer.encode(lines[1]), 320, 321]


def test_the_turns_that_are_remembered_are_bounded(tokenizer, monkeypatch):
    from compressor import data

    monkeypatch.setattr(data, "_MAX_KNOWN_TURNS", 5)
    rows = [encode_turns(tokenizer, [f"turn {i}", "again"], 320, 1) for i in range(20)]
    assert len(data._known_turns(tokenizer, len(tokenizer))) <= 5
    assert rows[7] == [*tokenizer.encode("turn 7"), 320, *tokenizer.encode("again"), 320]


def test_a_grown_tokenizer_reads_turns_anew(tokenizer):
    before = encode_turns(tokenizer, ["a <|memory|> b"], 320, 1)
    tokenizer.add_tokens([MEMORY_TOKEN], special_tokens=True)
    assert len(encode_turns(tokenizer, ["a <|memory|> b"], 320, 1)) < len(before)


@pytest.fixture
def collator(make_tokenizer):
    """Make one for the compressor stage; keyword arguments change it."""
    from epo.prompts.marks import add_placeholders

    def make(**changes):
        words = make_tokenizer()
        add_placeholders(words)
        return CompressionCollator(make_tokenizer(), words, vocab_size=320, num_memory_tokens=2, **changes)

    return make


LONG_HISTORY = History(
    tuple(Utterance(turn.speaker, turn.text) for turn in TURNS), FixedParts(after="And now?"), "(sad) Mira."
)


@pytest.mark.parametrize("has_text", [True, False])
def test_the_compressor_stage_keeps_the_newest_turns_that_fit(collator, has_text):
    make = collator(max_prompt_tokens=300, has_text=has_text)
    batch = CurriculumCollator([LONG_HISTORY], Curriculum(short=0, medium=0), make)(
        [{"index": 0, "seed": seed, "progress": 0.9} for seed in (0, 1990, 1999)]
    )
    memory_id = make.llm_tokenizer.convert_tokens_to_ids(MEMORY_TOKEN)
    prompt = int((batch["reply_labels"][0] == -100).sum())
    kept = int((batch["reply_ids"][0] == memory_id).sum()) // 2
    assert prompt <= 300 and (batch["input_ids"][0] >= 320).sum() == 2 * kept
    if has_text:  # both readers read the same turns
        text = make.llm_tokenizer.decode(batch["text_ids"][0])
        roles = text.count("<|user|>") + text.count("<|assistant|>")
        assert roles == kept + 2 and int((batch["text_labels"][0] == -100).sum()) <= 300
        assert LONG[-kept]["content"] in text and kept < 40
    else:
        assert "text_ids" not in batch and kept == (300 - prompt) // 2 + kept > 140
    # A turn that was left out cannot be rebuilt: another takes its place; the last one is the last one still.
    assert batch["target_turn"].tolist() == [0, kept - 10 if kept > 10 else 1990 % kept, kept - 1]
    rebuilt = make.llm_tokenizer.decode(batch["turn_labels"][2][batch["turn_labels"][2] != -100])
    assert rebuilt == f"{LONG_HISTORY.turns[-1].line}<|end|>"


def test_a_history_within_the_limit_is_whole(collator):
    short = History(LONG_HISTORY.turns[:5], FixedParts(after="And now?"), "Mira.")
    tight, roomy = (collator(max_prompt_tokens=limit)([{"history": short, "target_turn": 3}]) for limit in (600, 4096))
    assert all(tight[name].equal(roomy[name]) for name in roomy)


def test_a_turn_to_rebuild_is_learnt_up_to_the_limit(collator):
    make = collator(max_prompt_tokens=20, has_text=False)
    history = History((Utterance("user", "lake " * 200),), FixedParts(after="And?"), "Fine.")
    labels = make([{"history": history, "target_turn": 0}])["turn_labels"]
    assert (labels != -100).sum() == 20


def test_a_history_of_which_nothing_fits_teaches_the_reply_alone(collator, make_compressor):
    make = collator(max_prompt_tokens=30)
    history = History((Utterance("user", "lake " * 200),), FixedParts(after="And?"), "Fine.")
    batch = make([{"history": history, "target_turn": 0}])
    assert (batch["input_ids"] < 320).all() and (batch["turn_labels"] == -100).all()
    assert (batch["reply_labels"] != -100).any() and batch["target_turn"].tolist() == [0]
    memory = make_compressor()(input_ids=batch["input_ids"])
    vectors, mask = turn_memory(memory.vectors, batch["target_turn"], 2)
    assert vectors.shape == (1, 2, 32) and mask.all() and torch.isfinite(vectors).all()


def test_a_current_turn_too_long_for_the_compressor_stage_is_refused(collator):
    row = {"history": LONG_HISTORY, "target_turn": 0}
    for workers in (0, 1):  # a worker's error is made anew from its message
        batches = torch.utils.data.DataLoader([row], collate_fn=collator(max_prompt_tokens=6), num_workers=workers)
        with pytest.raises(CompressorDataError, match=r"takes \d+ tokens, more than max_prompt_tokens 6: 'And now\?'"):
            next(iter(batches))


EXAMPLE = Reply("d9", 2001, TURNS, Turn("user", "And now?", "sad"), "Mira.", "sad")


def test_text_tuning_and_its_gate_keep_the_newest_turns_that_fit(tokenizer, make_llm):
    collate = TextCollator(
        [EXAMPLE], TextPrompts(tokenizer, max_prompt_tokens=150), Curriculum(short=0, medium=0), 0.25
    )
    batch = collate([{"index": 0, "seed": 1, "progress": 0.9}])
    prompt = int((batch["loss_weights"] == 0.25).sum())
    assert 50 < prompt <= 150
    seen = []
    llm = make_llm()
    generate = llm.generate
    llm.generate = lambda **inputs: seen.append(inputs["input_ids"].shape) or generate(**inputs)
    text_recall(llm, TextPrompts(tokenizer, max_prompt_tokens=150), [EXAMPLE], [("Mira",)], max_new_tokens=2)
    assert abs(seen[0][1] - prompt) < 9  # which names the emotion
    with pytest.raises(DataError, match=r"dialogue 'd9', turn 2000: a turn takes \d+ tokens, more than max_prompt_tok"):
        TextCollator([EXAMPLE], TextPrompts(tokenizer, max_prompt_tokens=5), Curriculum(short=0, medium=0), 0.25)(
            [{"index": 0, "seed": 1, "progress": 0.9}]
        )
