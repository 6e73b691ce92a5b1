"""Thoughts: what a model writes of the user before its reply: in batches, in generation, and out of every score."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoProcessor

from compressor.objectives import reply_nll
from compressor.text import IGNORE
from epo.data.dialogue import Clip, Turn
from epo.emotions import EMOTIONS
from epo.evaluation.answers import read_answers
from epo.evaluation.contestants import Contestant, Generation
from epo.evaluation.evaluating import evaluate
from epo.evaluation.generate import generate_replies, generate_written
from epo.evaluation.kept_rows import KeptRows, Made
from epo.evaluation.suite import Answers, Task
from epo.evaluation.suites import thought as suite
from epo.evaluation.thinking import think_first
from epo.prompts.thought import (
    THOUGHT_TOKENS,
    ThoughtError,
    require_thoughts,
    split_thought,
    thought_of,
    thought_text,
)
from epo.training.collate import PairCollator, PromptBuilder, SftCollator
from epo.training.pair_facts import TrainingPairCollator


@pytest.fixture
def thinking(make_model, clip_cache):
    """A function that returns the builder of a model that thinks in a form."""
    return lambda form: PromptBuilder(make_model(think=form)[1], clip_cache)


def rows(*indices):
    return [{"index": i, "seed": 10 * i, "progress": 0.99} for i in indices]


def learnt(build, batch):
    return [build.processor.tokenizer.decode(row[row != IGNORE]) for row in batch["labels"]]


@pytest.mark.parametrize("thought", [None, "sad", "The voice is low (so low) and slow."])
def test_writing_and_splitting_are_inverses(thought):
    assert split_thought(thought_text(thought) + "(calm) Oh.") == (thought, "(calm) Oh.")


def test_a_thought_that_is_not_closed_leaves_no_reply():
    assert split_thought("[The voice is") == ("The voice is", "")
    assert split_thought("(sad) Oh [dear].") == (None, "(sad) Oh [dear].")


def test_words_tell_the_halves_that_there_are_and_name_no_emotion():
    heard, seen = (Turn("user", "Hm.", "sad", clip=clip) for clip in (Clip(audio="a.wav"), Clip(video="a.mp4")))
    assert thought_of(heard, "words") == "The voice is low, soft and slow."
    assert thought_of(seen, "words") == "The corners of the mouth hang and the inner brows are up."
    described = replace(heard, description="The chin [both]\n drops.")
    assert thought_of(described, "words") == "The chin (both) drops."
    assert thought_of(described, "label") == "sad" and thought_of(described, "none") is None
    assert thought_of(replace(described, clip=None), "words") is None
    both = Clip(audio="a.wav", video="a.mp4")
    said = [thought_of(Turn("user", "Hm.", emotion, clip=both), "words") for emotion in EMOTIONS]
    assert len(set(said)) == len(EMOTIONS)
    assert not [word for text in said for word in EMOTIONS if word != "neutral" and word in text]


def test_the_thought_is_learnt_before_the_reply(thinking, examples):
    build = thinking("label")
    first, dropped = SftCollator(examples, build), SftCollator(examples, build, clip_dropout=1.0)
    reply = "(happy) I am glad you told me about Mira.<|end|>"
    assert learnt(build, first(rows(0))) == ["[sad]\n" + reply]
    assert learnt(build, dropped(rows(0))) == [reply]
    assert learnt(build, first(rows(4))) == [reply]  # which has no clip


def test_none_is_what_it_was(model_and_processor, thinking, examples, pairs, clip_cache):
    plain = PromptBuilder(model_and_processor[1], clip_cache)
    for collator, items in ((SftCollator, examples), (PairCollator, pairs)):
        wanted, found = (collator(items, build)(rows(0, 1)) for build in (plain, thinking("none")))
        assert wanted.keys() == found.keys() and all(wanted[key].equal(found[key]) for key in wanted)


def test_both_replies_of_a_pair_have_the_same_thought_and_none_of_it_is_scored(thinking, pairs):
    build, plain = thinking("label"), thinking("none")
    batch, without = (PairCollator(pairs, each)(rows(0, 1)) for each in (build, plain))
    decode = build.processor.tokenizer.decode
    lengths = batch["prompt_lengths"].tolist()
    for row in range(4):
        length = lengths[row % 2]
        emotion = pairs[row % 2].reply.current.emotion
        assert decode(batch["input_ids"][row, :length]).endswith(f"<|assistant|>[{emotion}]\n")
        assert batch["completion_mask"][row, :length].sum() == 0
    scored, wanted = (b["input_ids"][b["completion_mask"].bool()] for b in (batch, without))
    assert scored.equal(wanted)
    thought = [len(build.processor.encode_thought(pair.reply.current)) for pair in pairs[:2]]
    assert [a - b for a, b in zip(lengths, without["prompt_lengths"].tolist(), strict=True)] == thought


def test_another_clip_does_not_go_with_a_thought_of_the_own_one(thinking, pairs):
    plain = PairCollator(pairs, thinking("label"))
    TrainingPairCollator(plain)
    with pytest.raises(ThoughtError, match="conditional_weight.*leave it out, or tune the model with think: none"):
        TrainingPairCollator(plain, object())


def test_data_that_say_nothing_of_the_user_are_refused(examples):
    bare = [replace(e, current=replace(e.current, emotion=None)) for e in examples]
    require_thoughts(bare, "none", "d.jsonl")
    require_thoughts(examples, "label", "d.jsonl")
    number = sum(e.current.clip is not None for e in bare)
    with pytest.raises(ThoughtError, match=rf"d\.jsonl: think: label, but {number} of {number} .* no emotion.*'d0'"):
        require_thoughts(bare, "label", "d.jsonl")
    with pytest.raises(ThoughtError, match="neither a description nor an emotion.* or give descriptions"):
        require_thoughts(bare, "words", "d.jsonl")
    described = [replace(e, current=replace(e.current, description="The chin drops.")) for e in bare]
    require_thoughts(described, "words", "d.jsonl")
    with pytest.raises(ThoughtError, match="no user turn that is answered has a clip"):
        require_thoughts([replace(e, current=replace(e.current, clip=None)) for e in examples], "label", "d.jsonl")


def test_a_folder_remembers_the_form(make_model, tmp_path):
    make_model(think="words")[1].save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path).think == "words"


class Scripted:
    """Writes what it is told to write, whatever it reads, and notes what that was."""

    def __init__(self, chat, *texts):
        self.texts, self.chat, self.asked = [chat.encode_start(text) for text in texts], chat, []

    def __call__(self, rows, longest, stops, streamer=None):
        self.asked.append((rows, longest))
        ends = [next((i + 1 for i, token in enumerate(ids) if token in stops), len(ids)) for ids in self.texts]
        return [ids[: min(end, longest)] + [0, 0] for ids, end in zip(self.texts, ends, strict=True)]


def test_a_thought_ends_at_its_bracket_and_is_closed_where_it_is_too_long(thinking):
    processor = thinking("label").processor
    chat = processor.chat
    pen = Scripted(chat, "[sad]\n(calm) Oh.", "(calm) Oh.", "[" + "so very sad " * 20)
    thoughts, continued = think_first(processor, [[7], [8], [9]], pen)
    assert thoughts[:2] == ["sad", None] and thoughts[2].startswith("so very sad")
    assert continued[0] == [7, *chat.encode_start("[sad]\n")] and continued[1] == [8]
    assert processor.tokenizer.decode(continued[2][1:]) == f"[{thoughts[2]}]\n"
    assert pen.asked == [([[7], [8], [9]], THOUGHT_TOKENS["label"])]


@pytest.fixture
def taught(make_model, make_llm, examples, clip_cache):
    """A tiny model that was taught by heart what to think of, and to reply to, four turns."""
    torch.manual_seed(0)
    model, processor = make_model(make_llm(), think="label")
    build = PromptBuilder(processor, clip_cache)
    batch = SftCollator(examples[:4], build)(rows(0, 1, 2, 3))
    batch.pop("emotions")
    labels = batch.pop("labels")
    optimizer = torch.optim.AdamW(model.language_model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = reply_nll(model(**batch).logits, labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    return model.eval(), build


def test_replies_come_without_the_thoughts_which_are_kept_and_scored(taught, examples, dialogues, tmp_path):
    model, build = taught
    gold = examples[:4]
    prompts = [build(reply) for reply in gold]
    written = generate_written(model, build.processor, prompts)
    assert [found.thought for found in written] == [reply.current.emotion for reply in gold]
    assert [found.reply for found in written] == [f"({reply.emotion}) {reply.text}" for reply in gold]
    forced = generate_replies(model, build.processor, prompts[:1], prefix=["(angry)"])
    assert forced[0].startswith("(angry)")
    answers = Contestant(name="thinks", model=model, build=build).answer(Task(gold), Generation())
    kept = KeptRows(tmp_path, gold, lambda name: Made("r", "n"))
    kept.keep_replies(answers)
    assert kept.thoughts("thinks") == list(answers.thoughts)
    assert read_answers(tmp_path / "thinks.jsonl", {d.id: d for d in dialogues}, gold)[0] == list(answers.replies)
    report = evaluate(model, gold, ["thought"], processor=build.processor)
    assert report["rows"][0]["thought_accuracy"] == 1.0


def test_accuracy_is_of_turns_with_a_clip_and_a_label(examples):
    """d0 and d1 right (one in capitals), d2 wrong, d3 without a thought, d4 without a clip: 2 of 4."""
    gold = examples[:5]
    said = [gold[0].current.emotion, gold[1].current.emotion.upper(), "bored", None, "sad"]
    found = suite.score(Task(gold), Answers("x", [""] * 5, thoughts=said))
    assert found["thought_accuracy"] == 0.5
    assert suite.score(Task(gold), Answers("x", [""] * 5)) == {}
    assert Task(gold).lacks("thoughts") is not None and Task(gold, has_thoughts=True).lacks("thoughts") is None


def test_a_family_that_knows_no_thoughts_has_none(thinking):
    assert think_first(SimpleNamespace(), [[1, 2]], None) == ([None], [[1, 2]])
