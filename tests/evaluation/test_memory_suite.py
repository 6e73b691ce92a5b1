"""The memory suite and what it is made of: turns rebuilt from their memories, ages, past feelings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from compressor.placeholders import embed_tokens
from compressor.utterance import Utterance, words_of
from epo.evaluation.ages import AGES, age_label
from epo.evaluation.contestants import Generation
from epo.evaluation.evaluating import evaluate
from epo.evaluation.memory_quality import HistoryReader, QualityTest
from epo.evaluation.reconstruction import Rebuilt, chance_of, reconstruction_report, rouge_of
from epo.evaluation.suites.memory import SUITE
from epo.prompts.layout import Layout
from epo.prompts.marks import add_placeholders


def test_ages_are_grouped_as_the_tables_head_them():
    assert [age_label(age) for age in (1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 400)] == [
        label for label in AGES for _ in range(2)
    ]


@pytest.mark.parametrize("emotion", [None, "sad"])
def test_words_come_back_out_of_a_line(emotion):
    for said in (Utterance("user", "I met Mira: at 7.", emotion), Utterance("assistant", "", emotion)):
        assert words_of(said.line) == said.text
    assert words_of("Otto: yes") == "Otto: yes"


def test_rouge_of_rebuilt_turns_is_worked_by_hand():
    """`i met mira` and `i met otto`: two of three words in order, F1 2/3; of the other's words none of three."""
    turns = [Rebuilt("a", 1, "I met Mira.", "I met Otto!"), Rebuilt("b", 3, "So it was", "so it was")]
    assert rouge_of(turns) == pytest.approx([2 / 3, 1.0])
    assert chance_of(turns) == [0.0, 0.0]
    report = reconstruction_report(turns)
    assert report["rouge_l"] == pytest.approx(5 / 6) and report["chance"] == 0.0 and report["num_turns"] == 2
    assert report["by_age"] == {
        "1-2": {"rouge_l": pytest.approx(2 / 3), "count": 1},
        "3-4": {"rouge_l": 1.0, "count": 1},
    }
    assert chance_of(turns[:1]) == rouge_of(turns[:1])  # there is no other dialogue


def test_what_is_said_is_the_models_likeliest_word_after_word(make_llm, tokenizer):
    """Greedy by hand, from the embeddings with the memory in them, alone and beside a longer prompt."""
    memory_id = add_placeholders(tokenizer)["memory_token_id"]
    reader = HistoryReader(make_llm(), tokenizer, memory_id, Layout(), batch_size=2)
    torch.manual_seed(0)
    prompts = [[5, memory_id, 6], [7, 8, 9, memory_id, memory_id, 10]]
    memories = [torch.randn(1, 32), torch.randn(2, 32)]
    said = reader.say(prompts, memories, max_new_tokens=5)
    for prompt, memory, words in zip(prompts, memories, said, strict=True):
        ids = list(prompt)
        for _ in range(5):
            embeds = embed_tokens(reader.llm.get_input_embeddings(), torch.tensor([ids]), (memory_id,))
            embeds[0, [i for i, token in enumerate(ids) if token == memory_id]] = memory
            with torch.no_grad():
                ids.append(int(reader.llm(inputs_embeds=embeds).logits[0, -1].argmax()))
            if ids[-1] in reader.chat.stop_ids:
                break
        assert words == reader.chat.decode(ids[len(prompt) :])


def felt(reply, index):
    """Give past user turns an emotion."""
    feeling = ("sad", "happy")[index % 2]
    history = [replace(turn, emotion=feeling) if turn.speaker == "user" else turn for turn in reply.history]
    return replace(reply, history=tuple(history))


def test_a_model_is_measured_beside_itself_reading_text(make_model, examples, tmp_path):
    """Its numbers are those of the quality test; rows with clips or memories changed have none."""
    model, processor = make_model()
    gold = [felt(reply, i) for i, reply in enumerate(examples)]
    report = evaluate(
        model, gold[8:], ["memory"], processor=processor, training=gold[:8], cache_dir=tmp_path, with_variants=True,
        generation=Generation(max_new_tokens=2),
    )  # fmt: skip
    row, *variants = report["rows"]
    reader = HistoryReader(model.language_model, processor.tokenizer, model.config.memory_token_id, processor.layout)
    test = QualityTest(reader, gold[8:])
    own = test.memory_scores(model.compressor, processor.history_tokenizer)
    told = test.memory(model.compressor, processor.history_tokenizer, own)
    assert row["memory_gap"] == pytest.approx(told["gap"], abs=1e-5)
    assert row["memory_gap_interval"] == pytest.approx(told["gap_interval"], abs=1e-5)
    assert row["memory_swap_cost"] == pytest.approx(told["nll_swapped"] - told["nll"], abs=1e-5)
    assert row["memory_rouge_l"] == pytest.approx(told["reconstruction"]["rouge_l"])
    assert row["memory_recall"] == pytest.approx(told["recall"]["all"]["share"])
    counts = {age: cell.num_replies for age, cell in row["memory_recall_by_age"].items()}
    assert counts == {age: cell["count"] for age, cell in told["recall"].items() if age != "all"}
    feelings = row["memory_feelings_by_age"]
    assert sum(cell.num_replies for cell in feelings.values()) == sum(len(reply.history) // 2 for reply in gold[8:])
    assert row["memory_feelings"] == pytest.approx(
        np.average([cell.score for cell in feelings.values()], weights=[c.num_replies for c in feelings.values()])
    )
    assert variants and all(other["memory_gap"] is None for other in variants)


def test_what_has_no_memory_or_no_other_dialogue_has_no_numbers(make_model, examples, tmp_path):
    model, processor = make_model()
    given = {"processor": processor, "cache_dir": tmp_path, "generation": Generation(max_new_tokens=2)}
    lone = evaluate(model, examples[8:9], ["memory"], **given)["rows"][0]
    assert all(lone[key] in (None, {}) for key in SUITE.keys)
    unlabelled = evaluate(model, examples[8:10], ["memory"], training=examples[:8], **given)["rows"][0]
    assert unlabelled["memory_gap"] is not None and unlabelled["memory_feelings"] is None
    processor.prompt_parts = ["system", "turns", "clip", "words"]
    assert evaluate(model, examples[8:10], ["memory"], **given)["rows"][0]["memory_gap"] is None
