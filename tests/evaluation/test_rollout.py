"""Roll-outs: a model's own replies are its past, batched as alone, and scored where the test has a gold reply."""

import pytest

from epo.data.cache import ClipCache
from epo.evaluation.contestants import Contestant, Generation
from epo.evaluation.conversation import Conversation
from epo.evaluation.evaluating import choose_suites, compare
from epo.evaluation.rollout import RollOut
from epo.evaluation.suite import Task
from epo.prompts.emotion_label import reply_text
from epo.training.collate import PromptBuilder


def test_a_roll_out_is_a_talk_with_the_users_of_the_corpus(make_model, dialogues, examples):
    """Three dialogues of two lengths, two at a time, against each talked through by itself."""
    model, processor = make_model()
    cache = ClipCache(None)
    contestant = Contestant(name="tiny", model=model, build=PromptBuilder(processor, cache))
    task, some = Task(examples[4:7]), dialogues[4:7]
    rolled = RollOut(contestant, dialogues).answer(task, Generation(batch_size=2, max_new_tokens=4))
    assert rolled.name == "tiny, rolled out" and rolled.contestant is None
    for dialogue, reply in zip(some, rolled.replies, strict=True):
        talk = Conversation(model, processor, cache, max_new_tokens=4)
        for turn in dialogue.turns[::2]:
            said = talk.say(turn)
        assert reply_text(said.text, said.emotion) == reply


@pytest.mark.slow
def test_its_row_stands_beside_that_of_the_same_model(make_model, dialogues, examples):
    model, processor = make_model()
    contestant = Contestant(name="tiny", model=model, build=PromptBuilder(processor, ClipCache(None)))
    task = Task(examples[4:7], has_model=True)
    entrants = [contestant, RollOut(contestant, dialogues)]
    report = compare(entrants, task, choose_suites(["lengths", "overlap"], task), Generation(2, 4))
    plain, rolled = report["rows"]
    assert rolled["kind"] == "variant" and rolled["token_f1"] is not None and rolled["prompt_tokens"] is None
    assert [one.control for one in report["comparisons"]] == ["tiny"] * len(report["comparisons"])
