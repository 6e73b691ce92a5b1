"""A chat model in the process itself: the same answer for the same seed, and a source that keeps its answers."""

import pytest
import torch

from epo.asking.answer_cache import AnswerCache
from epo.asking.endpoint import UnusableAnswer
from epo.asking.questions import Question
from epo.data.dialogue import Dialogue, Turn
from epo.preferences.gold import collect_gold
from epo.preferences.local_chat import LocalChat, _Draw
from epo.preferences.sources.llm import LlmSource

GOLD = collect_gold(
    [
        Dialogue(f"d{i}", (Turn("user", f"Tom {i} is ill."), Turn("assistant", "Poor Tom.", "sad")), split="train")
        for i in range(3)
    ],
    "train",
    "all",
    False,
)


@pytest.fixture
def chat(make_llm, make_tokenizer):
    return LocalChat("tiny", make_llm(max_position_embeddings=4096), make_tokenizer(), temperature=1.0, max_tokens=8)


def test_the_seed_decides_the_answer(chat):
    answers = [chat.ask("Say it angrily.", seed) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


def test_greedy_answers_are_the_most_likely_tokens(make_llm, make_tokenizer):
    llm, tokenizer = make_llm(), make_tokenizer()
    ids = tokenizer.encode("<|user|>Hello<|end|><|assistant|>", add_special_tokens=False)
    start = len(ids)
    for _ in range(6):
        with torch.no_grad():
            ids.append(int(llm(torch.tensor([ids])).logits[0, -1].argmax()))
    wanted = tokenizer.decode(ids[start:], skip_special_tokens=True).strip()
    assert LocalChat("tiny", llm, tokenizer, temperature=0, max_tokens=6).ask("Hello", 0) == wanted != ""


def test_a_model_that_says_nothing_is_reported(make_llm, make_tokenizer):
    llm, tokenizer = make_llm(), make_tokenizer()
    torch.nn.init.zeros_(llm.get_input_embeddings().weight)  # tied: all tokens equally likely, the first is chosen
    assert tokenizer.decode([0]) in tokenizer.all_special_tokens
    with pytest.raises(UnusableAnswer, match="an empty reply"):
        LocalChat("tiny", llm, tokenizer, temperature=0, max_tokens=4).ask("Hello", 0)


def questions(count, seeds=2):
    """Questions that begin alike, of several lengths, each with several answers."""
    said = ["Hello", "Poor Tom.", "My cat is ill.", "Tom is ill."]
    begin = [{"role": "user", "content": "Say it angrily."}, {"role": "assistant", "content": "Grr."}]
    asked = [[*begin, {"role": "user", "content": said[i % len(said)] * (1 + i // len(said))}] for i in range(count)]
    return [Question(messages, seed) for messages in asked for seed in range(seeds)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_together_are_the_answers_one_by_one(make_llm, make_tokenizer, temperature):
    chat = LocalChat("tiny", make_llm(), make_tokenizer(), temperature, max_tokens=8)
    asked = questions(6)
    together = dict(chat.answers(asked))
    assert sorted(together) == list(range(12))
    assert [together[i] for i in range(12)] == [dict(chat.answers([question]))[0] for question in asked]
    if temperature:
        assert any(together[i] != together[i + 1] for i in range(0, 12, 2))


def test_rows_whose_answer_is_over_leave_the_others(make_llm, make_tokenizer):
    llm = make_llm()
    chat = LocalChat("tiny", llm, make_tokenizer(), 1.0, max_tokens=40, is_one_line=True)
    asked = questions(8, seeds=3)
    alone = [dict(chat.answers([question]))[0] for question in asked]
    rows = []
    llm.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: rows.append(len(inputs[0])) if inputs[0].size(1) == 1 else None
    )
    together = dict(chat.answers(asked))
    assert [together[place] for place in range(len(asked))] == alone
    assert rows[0] == len(asked) > rows[-1] and rows == sorted(rows, reverse=True)


def test_what_all_questions_begin_with_is_read_once_and_each_question_once_for_its_answers(make_llm, make_tokenizer):
    llm = make_llm()
    chat = LocalChat("tiny", llm, make_tokenizer(), 1.0, max_tokens=4)
    asked = questions(4, seeds=5)
    read = []
    llm.get_input_embeddings().register_forward_hook(lambda module, inputs, output: read.append(inputs[0].numel()))
    list(chat.answers(asked))
    tokens = [len(chat._chat.encode_prompt(question.messages)) for question in asked]
    assert sum(read) < sum(tokens) / 2 + 4 * len(asked)


def test_a_question_beyond_the_models_positions_is_not_asked(make_llm, make_tokenizer, capsys):
    llm = make_llm()
    asked = questions(4, seeds=1)
    long = Question([{"role": "user", "content": "Tom is ill. " * 200}], 0)
    wanted = dict(LocalChat("tiny", llm, make_tokenizer(), temperature=0, max_tokens=8).answers(asked))
    llm.config.max_position_embeddings = 200
    chat = LocalChat("tiny", llm, make_tokenizer(), temperature=0, max_tokens=8)
    answers = dict(chat.answers([*asked, long]))
    assert answers.pop(4) is None and answers == wanted and None not in wanted.values()
    assert dict(chat.answers([long])) == {0: None}
    said = capsys.readouterr().out
    assert said.count("beyond its 200 positions") == 1 and "name a model that reads more" in said


def test_draws_follow_the_models_own_distribution():
    scores = torch.tensor([[0.0, 1.0, 2.0]]).repeat(4000, 1)
    draws = [torch.Generator().manual_seed(i) for i in range(4000)]
    drawn = _Draw(draws, temperature=0.5)(torch.zeros(4000, 1), scores).argmax(dim=-1)
    shares = torch.bincount(drawn, minlength=3) / 4000
    assert shares.tolist() == pytest.approx((scores[0] / 0.5).softmax(dim=-1).tolist(), abs=0.03)


def test_an_answer_of_one_line_ends_with_it(make_llm, make_tokenizer):
    llm, tokenizer = make_llm(), make_tokenizer()
    long = LocalChat("tiny", llm, tokenizer, 1.0, max_tokens=60)
    short = LocalChat("tiny", llm, tokenizer, 1.0, max_tokens=60, is_one_line=True)
    for seed in range(8):
        lines = [line.strip() for line in long.ask("Hello", seed).splitlines() if line.strip()]
        assert short.ask("Hello", seed) == lines[0]


def test_the_source_asks_each_question_once(chat, tmp_path):
    def propose():
        source = LlmSource(chat, AnswerCache(tmp_path / "cache.jsonl"), 2, 3, seed=0)
        return source.propose(GOLD, ["angry"] * 3)

    first = propose()
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == 6
    chat.answers = lambda questions: iter(() if not questions else None)  # the second run must not need it
    assert propose() == first and all(first)
