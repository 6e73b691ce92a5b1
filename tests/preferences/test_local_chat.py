"""A chat model in the process itself: the same answer for the same seed, and a source that keeps its answers."""

import pytest
import torch

from epo.data.dialogue import Dialogue, Turn
from epo.preferences.answer_cache import AnswerCache
from epo.preferences.endpoint import UnusableAnswer
from epo.preferences.gold import collect_gold
from epo.preferences.local_chat import LocalChat
from epo.preferences.sources.llm import LlmSource, Volume

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
    return LocalChat("tiny", make_llm(), make_tokenizer(), temperature=1.0, max_tokens=8)


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


def test_the_source_asks_each_question_once(chat, tmp_path):
    def propose():
        source = LlmSource(chat, Volume(2, 10), AnswerCache(tmp_path / "cache.jsonl"), 3, seed=0)
        return source.propose(GOLD, ["angry"] * 3)

    first = propose()
    assert len((tmp_path / "cache.jsonl").read_text().splitlines()) == 3
    chat.ask = None  # the second run must not need it
    assert propose() == first and all(first)
