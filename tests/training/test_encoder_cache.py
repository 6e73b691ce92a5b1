"""Encoded prompts on disk: what the encoders would give at each step, kept for what they are made of alone."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from compressor.curriculum import ScheduledDataset
from compressor.precision import cast_weights
from epo.data.cache import ClipCache
from epo.model.encoded_context import EncodedContext
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.content_shards import write_shard
from epo.training.encoder_cache import EncodedPrompt, EncoderCache, EncoderCacheError, read_prompt
from epo.training.lora import lora_config
from epo.training.reference_cache import ReferenceCache
from epo.training.reference_keys import prompt_key
from epo.training.trainer import EpoTrainer

A, B = b"a" * 32, b"b" * 32
ONE = EncodedPrompt(torch.tensor([5, 9, 8, 6]), torch.tensor([9, 8]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
BARE = EncodedPrompt(torch.tensor([5]), torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))


@pytest.fixture
def cache(tmp_path):
    return EncoderCache(tmp_path / "encoded")


def same(found, wanted):
    return all(getattr(found, name).equal(getattr(wanted, name)) for name in ("ids", "kinds", "vectors"))


def test_what_was_added_is_found_again_under_its_weights_only(cache):
    added = cache.add("one", {A: ONE}) | cache.add("one", {B: BARE})
    places, damaged = cache.load("one")
    assert places == added and damaged == [] and cache.load("other") == ({}, [])
    assert same(read_prompt(places[A], A), ONE) and same(read_prompt(places[B], B), BARE)


def test_bfloat16_stays_bfloat16(cache):
    rounded = replace(ONE, vectors=ONE.vectors.bfloat16())
    found = read_prompt(cache.add("one", {A: rounded})[A], A)
    assert found.vectors.dtype == torch.bfloat16 and same(found, rounded)


@pytest.mark.parametrize("harm", ["a byte", "half", "nothing left", "another name", "other numbers", "no tensors"])
def test_a_shard_that_is_not_whole_counts_for_nothing_and_goes(cache, harm):
    kept, shard = cache.add("one", {A: ONE}), cache.add("one", {B: BARE})[B]
    content = shard.read_bytes()
    if harm == "a byte":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "another name":
        shard = shard.rename(shard.with_name(f"{'0' * 64}.safetensors"))
    elif harm in ("other numbers", "no tensors"):
        shard.unlink()
        other = save({"zz.ids": ONE.ids}) if harm == "other numbers" else b"what is this"
        shard = write_shard(shard.parent, other)
    else:
        shard.write_bytes(content[: len(content) // 2] if harm == "half" else b"")
    assert cache.load("one") == (kept, [shard])
    assert cache.load("one") == (kept, [])


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EncoderCacheError, match=r"encoder_cache: .*file is a file, want a folder; name another path"):
        EncoderCache(tmp_path / "file").load("one")


def test_a_shard_that_goes_while_it_is_wanted_is_named(cache):
    place = cache.add("one", {A: ONE})[A]
    place.unlink()
    with pytest.raises(EncoderCacheError, match=r"cannot be read .*where all machines of the run see it"):
        read_prompt(place, A)


def test_placed_vectors_stand_where_encoded_ones_stood(model_and_processor, pairs, clip_cache):
    """Of prompts with and without history, sound and picture, each alone and all in one batch."""
    model, processor = model_and_processor
    first = pairs[0].reply
    replies = [
        first,
        replace(first, history=()),
        replace(first, current=replace(first.current, clip=None)),
        replace(first, history=(), current=replace(first.current, clip=None)),
        replace(first, current=replace(first.current, clip=replace(first.current.clip, video=None))),
    ]
    collate = PairCollator([replace(pairs[0], reply=reply) for reply in replies], PromptBuilder(processor, clip_cache))
    batch = collate([{"index": i} for i in range(5)])
    lengths = batch["prompt_lengths"].tolist()
    prompts = [ids[:length] for ids, length in zip(batch["input_ids"], lengths, strict=False)]
    with torch.no_grad():
        names = ("history_ids", "input_features", "num_mel_frames", "pixel_values", "num_video_frames")
        context = model.encode_context(**{name: batch[name] for name in names})
        ids = batch["input_ids"][:5]
        placed = context.placed(prompts, torch.float32)
        vectors = torch.nn.utils.rnn.pad_sequence([values for _, values in placed], batch_first=True)
        kinds = torch.nn.utils.rnn.pad_sequence([of for of, _ in placed], batch_first=True, padding_value=-1)
        again = EncodedContext.of_placed(vectors, kinds, model._placeholder_ids())
        assert model.embed_prompts(ids, again).equal(model.embed_prompts(ids, context))
    sizes = [len(of) for of, _ in placed]
    assert sizes[3] == 0 and sizes[0] > sizes[4] > sizes[2] > 0 and sizes[0] > sizes[1] > 0


@pytest.fixture
def train(make_model, pairs, clip_cache, tmp_path, capsys):
    """Train a fresh copy of the tiny model; return losses, what was printed, and how often the encoders ran."""

    def train(encoders=None, reference=None, train_pairs=pairs, shaken=False, spoken=None, dtype=None, **changes):
        model, processor = make_model(**(spoken or {}))
        if dtype is not None:
            cast_weights(model, dtype)
        if shaken:
            model.extractor.get_parameter(next(iter(dict(model.extractor.named_parameters())))).data.add_(0.5)
        settings = {
            "output_dir": str(tmp_path / "out"), "max_steps": 4, "per_device_train_batch_size": 3, "beta": 0.3,
            "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True,
            "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
        }  # fmt: skip
        trainer = EpoTrainer(
            model, args=EpoArguments(**(settings | changes)), processing_class=processor,
            reference_cache=reference, encoder_cache=encoders,
            train_dataset=ScheduledDataset(len(train_pairs), 12, seed=0),
            data_collator=PairCollator(train_pairs, PromptBuilder(processor, clip_cache)),
            peft_config=lora_config(model, 4, 8, 0.0),
        )  # fmt: skip
        runs = []
        model.extractor.register_forward_pre_hook(lambda *_: runs.append(1))
        model.compressor.register_forward_pre_hook(lambda *_: runs.append(1))
        capsys.readouterr()
        trainer.train()
        printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("encoder", "reference"))]
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        return torch.tensor(losses), printed, len(runs)

    return train


@pytest.mark.slow
def test_kept_is_encoded_anew_and_is_reused_only_where_it_is_the_same(train, cache, pairs, tmp_path):
    """Four steps of three pairs; the eight prompts, three at a time, are three runs of both encoders."""
    online, printed, runs = train()
    assert (printed, runs) == ([], 8)
    losses, printed, runs = train(cache)
    assert (printed, runs) == (["encoders: 0 of 8 prompts are known, 8 are encoded"], 6)
    torch.testing.assert_close(losses, online, atol=1e-5, rtol=1e-5)

    elsewhere = {"output_dir": str(tmp_path / "other"), "learning_rate": 5e-3, "per_device_train_batch_size": 2}
    rewritten = [replace(pair, rejected="Never heard of that.") for pair in pairs]
    assert train(cache, train_pairs=rewritten, **elsewhere)[1:] == ([], 0)
    again, printed, runs = train(cache)
    assert (printed, runs) == ([], 0)
    assert again.equal(losses)

    changed = replace(pairs[0].reply, history=pairs[0].reply.history[1:])
    assert train(cache, train_pairs=[replace(pairs[0], reply=changed), *pairs[1:]])[1] == [
        "encoders: 7 of 8 prompts are known, 1 are encoded"
    ]
    assert train(cache, spoken={"system_prompt": "Be kind."})[1] == [
        "encoders: 0 of 8 prompts are known, 8 are encoded"
    ]
    assert train(cache, shaken=True)[1] == ["encoders: 0 of 8 prompts are known, 8 are encoded"]


@pytest.mark.slow
def test_a_damaged_or_interrupted_cache_is_mended(train, cache, pairs):
    train(cache, train_pairs=pairs[:5])
    assert train(cache)[1] == ["encoders: 5 of 8 prompts are known, 3 are encoded"]
    shard = max(cache.folder.glob("*/*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-3])
    first, second = train(cache)[1]
    assert first == f"encoder_cache: {shard} is damaged; it is deleted and its prompts are encoded anew"
    assert second == "encoders: 3 of 8 prompts are known, 5 are encoded"
    assert train(cache)[1] == []


@pytest.mark.slow
def test_long_work_goes_to_disk_shard_by_shard_and_says_how_far_it_is(train, cache, monkeypatch):
    """As if each batch took more than a minute, or more than a shard's bytes."""
    losses = train(cache)[0]
    for limit in ("_SHARD_S", "_SHARD_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(f"epo.training.kept_prompts.{limit}", 0)
            pieces = EncoderCache(cache.folder.with_name(limit))
            again, printed, _ = train(pieces)
        assert printed[1:] == [f"encoders: {done} of this rank's 8 are encoded" for done in (3, 6, 8)]
        assert len(list(pieces.folder.glob("*/*"))) == 3 and again.equal(losses)


@pytest.mark.slow
def test_pairs_with_one_prompt_are_encoded_once(train, cache, pairs):
    twice = [*pairs, *(replace(pair, rejected="Never heard of that.") for pair in pairs)]
    assert train(cache, train_pairs=twice)[1] == ["encoders: 0 of 8 prompts are known, 8 are encoded"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"dataloader_num_workers": 2},
        {"tokens_per_row": 400},
        {"gradient_accumulation_steps": 2, "max_steps": 2},
        {"conditional_weight": 0.6, "anchor_weight": 0.3},
        {"spoken": {"think": "label"}},
    ],
)
def test_in_other_ways_of_reading_too(train, cache, changes):
    online, losses = train(**changes)[0], train(cache, **changes)[0]
    torch.testing.assert_close(losses, online, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_bfloat16_too(train, cache, dtype):
    """What is kept is in the precision in which it would stand among the embeddings."""
    online, losses = train(bf16=True, dtype=dtype)[0], train(cache, bf16=True, dtype=dtype)[0]
    torch.testing.assert_close(losses, online, atol=0.02, rtol=0.02)
    places, _ = cache.load(next(cache.folder.iterdir()).name.removesuffix("-prompts"))
    assert {read_prompt(place, key).vectors.dtype for key, place in places.items()} == {dtype}


@pytest.mark.slow
def test_beside_a_kept_reference_each_is_found_without_the_other(train, cache, tmp_path):
    """A pair's key is the same whether its prompt was encoded before or not."""
    reference = ReferenceCache(cache.folder)  # in one folder neither takes the other's shards for damaged ones
    online = train()[0]
    losses, printed, _ = train(cache, reference)
    assert [line.split(":")[0] for line in printed] == ["encoders", "reference"]
    torch.testing.assert_close(losses, online, atol=1e-5, rtol=1e-5)
    assert train(None, reference)[1] == [] and train(cache)[1] == [] and train(cache, reference)[1:] == ([], 0)


@pytest.mark.slow
def test_with_all_weights_training_too(make_model, pairs, clip_cache, cache, tmp_path):
    def losses(**kept):
        model, processor = make_model()
        args = EpoArguments(
            output_dir=str(tmp_path / "out"), max_steps=3, per_device_train_batch_size=3, learning_rate=1e-3,
            logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False, disable_tqdm=True,
            gradient_checkpointing=False,
        )  # fmt: skip
        trainer = EpoTrainer(
            model, args=args, processing_class=processor, tune="all", **kept,
            reference_cache=ReferenceCache(tmp_path / "reference"),
            train_dataset=ScheduledDataset(len(pairs), 9, seed=0),
            data_collator=PairCollator(pairs, PromptBuilder(processor, clip_cache)),
        )  # fmt: skip
        trainer.train()
        return torch.tensor([log["loss"] for log in trainer.state.log_history if "loss" in log])

    torch.testing.assert_close(losses(encoder_cache=cache), losses(), atol=1e-5, rtol=1e-5)


def test_a_second_model_as_reference_is_refused(make_model, pairs, clip_cache, cache, tmp_path):
    model, processor = make_model()
    args = EpoArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_steps=1)
    with pytest.raises(EncoderCacheError, match="encoder_cache: ref_model would read what another model encoded"):
        EpoTrainer(
            model, args=args, train_dataset=ScheduledDataset(len(pairs), 4, seed=0), processing_class=processor,
            data_collator=PairCollator(pairs, PromptBuilder(processor, clip_cache)),
            ref_model=make_model()[0], encoder_cache=cache,
        )  # fmt: skip


def test_a_collator_that_would_pass_it_over_is_refused(make_model, pairs, clip_cache, cache, tmp_path):
    class Own(PairCollator):
        def __call__(self, rows):
            return super().__call__(rows)

    model, processor = make_model()
    args = EpoArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_steps=1)
    with pytest.raises(EncoderCacheError, match="Own makes batches by its own __call__, .* encode_replies, or"):
        EpoTrainer(
            model, args=args, train_dataset=ScheduledDataset(len(pairs), 4, seed=0), processing_class=processor,
            data_collator=Own(pairs, PromptBuilder(processor, clip_cache)), encoder_cache=cache,
        )  # fmt: skip


def test_what_is_not_finite_is_not_kept(make_model, pairs, clip_cache, cache, tmp_path):
    model, processor = make_model()
    args = EpoArguments(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_steps=1, disable_tqdm=True
    )
    trainer = EpoTrainer(
        model, args=args, train_dataset=ScheduledDataset(len(pairs), 4, seed=0), processing_class=processor,
        data_collator=PairCollator(pairs, PromptBuilder(processor, clip_cache)), encoder_cache=cache,
    )  # fmt: skip
    model.clip_head.bias.data[0] = float("nan")
    with pytest.raises(EncoderCacheError, match=r"prompt of pair \d is not finite; its weights are damaged"):
        trainer.train()
    assert not list(cache.folder.glob("*/*"))


def test_a_key_holds_what_is_encoded_and_nothing_of_the_replies(model_and_processor, pairs):
    collate = PairCollator(pairs, PromptBuilder(model_and_processor[1], ClipCache(None)))
    batch, other = collate([{"index": 0}]), replace(pairs[0], rejected="Never heard of that, sorry.")
    key = prompt_key(batch)
    again = PairCollator([other], collate.build)([{"index": 0}])
    assert len(key) == 32 and prompt_key(again) == key
    names = set(batch) - {"attention_mask", "completion_mask", "prompt_lengths"}
    others = [prompt_key(batch | {name: batch[name].flip(0) + 1}) for name in names]
    assert len({key, *others}) == 1 + len(names)
