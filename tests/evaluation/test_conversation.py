"""Conversations: each turn is read once, and the replies are those to the whole history."""

import pytest
import torch

from epo.data.dialogue import DataError, Turn
from epo.data.replies import Reply
from epo.evaluation.conversation import Conversation, Conversations
from epo.evaluation.generate import answer, generate_replies
from epo.prompts.emotion_label import said_turn

SAID = ("I lost my keys.", "", "Again? It rains, and I am far from home.", "你好")


def whole(model, processor, history, turn, cache):
    place = Reply("talk", len(history) + 1, tuple(history), turn, text="", emotion=None)
    return said_turn(answer(model, processor, [place], cache, max_new_tokens=6)[0])


@pytest.mark.parametrize("prompt_parts", [None, ("system", "turns", "clip", "words")])
def test_replies_are_those_of_one_pass_over_the_whole_history(make_model, clip_cache, prompt_parts):
    model, processor = make_model(**({} if prompt_parts is None else {"prompt_parts": prompt_parts}))
    talk, history = Conversation(model, processor, clip_cache, max_new_tokens=6), []
    for words in SAID:
        turn = Turn("user", words)
        expected = whole(model, processor, history, turn, clip_cache)
        assert talk.say(turn) == expected
        history += [turn, expected]
    assert talk.turns == tuple(history)


def test_talks_are_answered_together_and_go_on_in_several_ways(make_model, dialogues, clip_cache):
    model, processor = make_model()
    talks = Conversations(model, processor, 3, clip_cache, max_new_tokens=6)
    pasts = [list(dialogue.turns[:2]) for dialogue in dialogues[:3]]
    talks.hear(dict(enumerate(pasts)))
    asked = {i: dialogues[i].turns[2] for i in (2, 0)}
    replies = talks.answer(asked)
    for i, turn in asked.items():
        assert replies[i] == whole(model, processor, pasts[i], turn, clip_cache)
    assert talks.turns[1] == pasts[1]
    ways = talks.select([0, 0])
    ways.answer({1: Turn("user", "Why?")})
    assert len(ways.turns[1]) == 6 and len(ways.turns[0]) == len(talks.turns[0]) == 4


def test_memories_are_vectors_of_one_pass(make_model, dialogues, clip_cache):
    model, processor = make_model()
    turns = dialogues[1].turns
    talks = Conversations(model, processor, 1, clip_cache)
    assert talks.memories(0).shape == (0, 32)
    for turn in turns:
        talks.hear({0: (turn,)})
    with torch.no_grad():
        expected = model.compressor(torch.tensor([processor.encode_history(turns)])).vectors[0]
    torch.testing.assert_close(talks.memories(0), expected, atol=1e-5, rtol=1e-5)


def test_past_user_turns_have_the_emotions_that_are_heard(make_model, dialogues, clip_cache):
    model, processor = make_model(history_emotions=True)
    model.config.compressor_config.history_emotions = True
    turn = dialogues[0].turns[2]
    talk, history = Conversation(model, processor, clip_cache, max_new_tokens=6), []
    for _ in range(2):
        expected = whole(model, processor, history, turn, clip_cache)
        assert talk.say(turn) == expected
        history += [turn, expected]


def test_the_oldest_memories_give_way_where_the_prompt_has_no_room(make_model, clip_cache):
    model, processor = make_model()
    room = len(processor.encode_prompt((), Turn("user", "Yes?"), processor.clips.read(None, clip_cache)).input_ids) + 4
    processor.max_prompt_tokens = room
    talks = Conversations(model, processor, 1, clip_cache)
    talks.hear({0: [Turn("user", f"Number {i}.") for i in range(7)]})
    prompt = processor.encode_prompt(
        talks.turns[0], Turn("user", "Yes?"), processor.clips.read(None, clip_cache), memories=talks.memories(0)
    )
    assert len(prompt.input_ids) == room and prompt.num_history_tokens == 4
    assert prompt.memories.equal(talks.memories(0)[-4:])
    assert len(generate_replies(model, processor, [prompt], max_new_tokens=2)) == 1


@pytest.mark.parametrize(
    ("words", "message"), [("Look: <|memory|>", "'<|memory|>', which the model takes"), ("too long " * 90, "raise max")]
)
def test_a_turn_that_is_refused_leaves_the_talk_as_it_was(make_model, clip_cache, words, message):
    model, processor = make_model(max_prompt_tokens=60)
    talk = Conversation(model, processor, clip_cache, max_new_tokens=6)
    first = talk.say(Turn("user", "Hello."))
    with pytest.raises(DataError, match=message.replace("|", r"\|")):
        talk.say(Turn("user", words))
    assert talk.turns == (Turn("user", "Hello."), first)
    assert talk.say(Turn("user", "Hm.")) == whole(
        model, processor, [Turn("user", "Hello."), first], Turn("user", "Hm."), clip_cache
    )
