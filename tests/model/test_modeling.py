"""The dialogue model: what padding, neighbours and missing halves must not change, and what a folder gives back."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoProcessor

from compressor.placeholders import PlaceholderError
from epo.evaluation.generate import generate_replies
from epo.model.encoded_context import CONTEXT_KEYS
from epo.model.extractor import emotion_loss
from epo.model.modeling import EpoForConditionalGeneration, ModelFitError
from epo.prompts.marks import add_placeholders
from epo.training.collate import PromptBuilder, pad_rows


@pytest.fixture
def build(model_and_processor, clip_cache):
    return PromptBuilder(model_and_processor[1], clip_cache)


@pytest.fixture
def model(model_and_processor):
    return model_and_processor[0]


def inputs(build, examples, extra_padding=0):
    """Prompts and replies of examples as the model's inputs."""
    prompts = [build(example) for example in examples]
    replies = [build.processor.encode_reply(example.text, example.emotion) for example in examples]
    batch = pad_rows([prompt.input_ids for prompt in prompts], replies) | build.processor.batch_context(prompts)
    del batch["completion_mask"]
    if extra_padding:
        for name in ("input_ids", "attention_mask", "history_ids"):
            batch[name] = torch.nn.functional.pad(batch[name], (0, extra_padding))
        batch["input_features"] = torch.nn.functional.pad(batch["input_features"], (0, extra_padding))
    return batch


def logits(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def test_an_example_is_the_same_alone_in_a_batch_and_padded(model, build, examples):
    """Six examples of unequal history, clip and reply, among them one without video, audio or clip at all."""
    together = logits(model, inputs(build, examples[:6]))
    padded = logits(model, inputs(build, examples[:6], extra_padding=9))
    for row, example in enumerate(examples[:6]):
        alone = logits(model, inputs(build, [example]))[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(padded[row, : len(alone)], alone, atol=2e-4, rtol=1e-4)


def test_memory_clip_and_words_all_reach_the_reply(model, build, examples):
    batch = inputs(build, examples[:1])
    base = logits(model, batch)[0, -1]
    changes = {
        "history_ids": batch["history_ids"].clone().index_fill_(1, torch.tensor([0]), 7),
        "input_features": batch["input_features"] + 1.0,
        "pixel_values": -batch["pixel_values"],
    }
    for name, tensor in changes.items():
        assert (logits(model, batch | {name: tensor})[0, -1] - base).abs().max() > 1e-4, name


def test_what_stands_behind_the_placeholders_can_be_encoded_once_and_shared(model, build, examples):
    batch = inputs(build, examples[:3])
    with torch.no_grad():
        context = model.encode_context(**{key: batch[key] for key in CONTEXT_KEYS})
        rest = {name: tensor for name, tensor in batch.items() if name not in CONTEXT_KEYS}
        assert model(**rest, context=context).logits.equal(model(**batch).logits)


def without_clip(example):
    return replace(example, current=replace(example.current, clip=None))


@pytest.mark.parametrize("has_history", [True, False])
def test_a_batch_without_clips_or_histories_keeps_every_weight_in_the_graph(model, build, examples, has_history):
    bare = [without_clip(example) for example in examples[:2]]
    if not has_history:
        bare = [replace(example, history=()) for example in bare]
    batch = inputs(build, bare)
    assert batch["num_mel_frames"].sum() == batch["num_video_frames"].sum() == 0
    assert (batch["history_ids"] >= 320).any() == has_history
    output = model(**batch)
    assert torch.isfinite(output.logits).all()
    (output.logits.square().mean() + emotion_loss(output.extractor, torch.tensor([-100, -100]))).backward()
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert [n for n, p in named if p.grad is None] == []
    assert [n for n, p in named if not p.grad.isfinite().all()] == []


def test_too_few_placeholders_are_refused(model, build, examples):
    batch = inputs(build, examples[:1])
    audio = model.config.audio_token_id
    batch["input_ids"][batch["input_ids"] == audio] = 5
    with pytest.raises(PlaceholderError, match=f"0 placeholders of id {audio} but 7 vectors"):
        model(**batch)


def test_greedy_replies_are_the_same_alone_and_in_a_batch(model, build, examples):
    prompts = [build(example) for example in examples[:6]]
    together = generate_replies(model, build.processor, prompts, max_new_tokens=8)
    assert together == generate_replies(model, build.processor, prompts, batch_size=1, max_new_tokens=8)
    assert len(set(together)) > 1


@pytest.mark.parametrize("index", [0, 1, 4])
def test_generation_follows_the_most_likely_token(model, build, examples, index):
    """Greedy decoding by hand, without a cache: argmax of the last position, appended, and all of it read again."""
    prompt = build(examples[index])
    ids = torch.tensor([prompt.input_ids])
    context = build.processor.batch_context([prompt])
    for _ in range(6):
        with torch.no_grad():
            best = model(input_ids=ids, attention_mask=torch.ones_like(ids), **context).logits[:, -1:].argmax(dim=-1)
        ids = torch.cat([ids, best], dim=1)
    wanted = build.processor.tokenizer.decode(ids[0, len(prompt.input_ids) :], skip_special_tokens=True)
    assert generate_replies(model, build.processor, [prompt], max_new_tokens=6) == [wanted]


def test_generation_reads_the_prompt_its_clip_and_history_once(model, build, examples):
    """Also after training, which switches the cache off in the config."""
    model.config.use_cache = model.generation_config.use_cache = False
    lengths, encoded = [], []
    layer = model.language_model.model.layers[0]
    layer.register_forward_pre_hook(lambda module, args: lengths.append(args[0].size(1)))
    for part in (model.extractor, model.compressor):
        part.register_forward_hook(lambda *_: encoded.append(1))
    prompt = build(examples[0])
    generate_replies(model, build.processor, [prompt], max_new_tokens=4)
    assert lengths == [len(prompt.input_ids), 1, 1, 1]
    assert len(encoded) == 2


def test_a_forced_beginning_stands_in_the_reply(model, build, examples):
    prompts = [build(example) for example in examples[:2]]
    replies = generate_replies(model, build.processor, prompts, max_new_tokens=3, prefix=["(sad)", "(happy) Oh"])
    assert replies[0].startswith("(sad)") and replies[1].startswith("(happy) Oh")


def test_sampling_follows_the_seed(model, build, examples):
    prompts = [build(example) for example in examples[:4]]

    def sample(seed):
        torch.manual_seed(seed)
        return generate_replies(model, build.processor, prompts, max_new_tokens=6, temperature=1.0)

    assert sample(0) == sample(0) != sample(1)


@pytest.mark.parametrize("tie", [True, False])
def test_a_folder_gives_back_the_same_model_through_the_auto_classes(
    make_model, make_llm, examples, clip_cache, tmp_path, tie
):
    model, processor = make_model(make_llm(tie_word_embeddings=tie))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, again = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, EpoForConditionalGeneration)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    head, table = loaded.get_output_embeddings().weight, loaded.get_input_embeddings().weight
    assert (head.data_ptr() == table.data_ptr()) == tie
    replies = [
        generate_replies(m, p, [PromptBuilder(p, clip_cache)(e) for e in examples[:3]], max_new_tokens=6)
        for m, p in ((model, processor), (loaded, again))
    ]
    assert replies[0] == replies[1]


def test_joined_parts_keep_their_weights_and_know_the_emotion_words(make_llm, make_model):
    llm = make_llm()
    table = llm.get_input_embeddings().weight.detach().clone()
    model, processor = make_model(llm)
    assert model.get_input_embeddings().weight.equal(table)
    assert model.config.embedding_std == pytest.approx(table.std().item())
    sad = processor.tokenizer.encode("sad", add_special_tokens=False)
    torch.testing.assert_close(model.emotion_words.weight[5], table[sad].mean(dim=0))


def test_placeholder_ids_lie_beyond_the_vocabulary_and_no_table_grows(model):
    assert model.config.audio_token_id >= model.get_input_embeddings().num_embeddings == 320
    assert model.get_output_embeddings().out_features == 320


def test_a_compressor_of_another_width_is_refused(make_llm, make_extractor, make_compressor, make_tokenizer):
    words = make_tokenizer()
    narrow = make_compressor(output_size=24)
    with pytest.raises(ModelFitError, match="memories of width 24, the language model reads 32; train a compressor"):
        EpoForConditionalGeneration.from_parts(make_llm(), make_extractor(), narrow, words, add_placeholders(words))
