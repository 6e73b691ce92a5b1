"""A reference's numbers on disk: those that would be scored beside the policy, kept for what they are about alone."""

import shutil
from dataclasses import replace

import pytest
import torch

from compressor.curriculum import ScheduledDataset
from epo.data.cache import ClipCache
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.lora import lora_config
from epo.training.reference_cache import ReferenceCache, ReferenceCacheError
from epo.training.reference_keys import pair_key, reference_digest
from epo.training.trainer import EpoTrainer

A, B = b"a" * 32, b"b" * 32


@pytest.fixture
def cache(tmp_path):
    return ReferenceCache(tmp_path / "reference")


def test_what_was_added_is_found_again_under_its_reference_only(cache):
    cache.add("one", {A: (-1.5, -2.0)})
    cache.add("one", {B: (-3.0, -4.25)})
    assert cache.load("one") == ({A: (-1.5, -2.0), B: (-3.0, -4.25)}, [])
    assert cache.load("other") == ({}, [])


@pytest.mark.parametrize("harm", ["a byte", "half", "nothing left", "another name", "not a number"])
def test_a_shard_that_is_not_whole_counts_for_nothing_and_goes(cache, harm):
    cache.add("one", {A: (-1.5, -2.0)})
    cache.add("one", {B: (-3.0, float("nan") if harm == "not a number" else -4.25)})
    shard = next(path for path in (cache.folder / "one").iterdir() if B in path.read_bytes())
    content = shard.read_bytes()
    if harm == "a byte":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "another name":
        shard = shard.rename(shard.with_name(f"{'0' * 64}.safetensors"))
    elif harm != "not a number":
        shard.write_bytes(content[: len(content) // 2] if harm == "half" else b"")
    assert cache.load("one") == ({A: (-1.5, -2.0)}, [shard])
    assert cache.load("one") == ({A: (-1.5, -2.0)}, [])


def test_what_is_being_written_is_not_read(cache):
    cache.add("one", {A: (-1.5, -2.0)})
    shard = next((cache.folder / "one").iterdir())
    shard.rename(shard.with_name(f"{shard.name}.0123.partial"))
    assert cache.load("one") == ({}, [])


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReferenceCacheError, match=r"reference_cache: .*file is a file, want a folder; name another"):
        ReferenceCache(tmp_path / "file").load("one")


@pytest.fixture
def train(make_model, pairs, clip_cache, tmp_path, capsys):
    """Train a fresh copy of the tiny model for three steps; return losses, what was printed, forwards a step."""

    def train(cache=None, train_pairs=pairs, shaken=False, limit=4096, **changes):
        model, processor = make_model(max_prompt_tokens=limit)
        if shaken:
            model.language_model.model.layers[0].mlp.up_proj.weight.data[0, 0] += 0.5
        settings = {
            "output_dir": str(tmp_path / "out"), "max_steps": 3, "per_device_train_batch_size": 3, "beta": 0.3,
            "learning_rate": 1e-2, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True,
            "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
        }  # fmt: skip
        trainer = EpoTrainer(
            model, args=EpoArguments(**(settings | changes)), processing_class=processor, reference_cache=cache,
            train_dataset=ScheduledDataset(len(train_pairs), 9, seed=0),
            data_collator=PairCollator(train_pairs, PromptBuilder(processor, clip_cache)),
            peft_config=lora_config(model, 4, 8, 0.0),
        )  # fmt: skip
        forwards = []
        model.language_model.register_forward_pre_hook(lambda *_: forwards.append(1))
        capsys.readouterr()
        trainer.train()
        printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("reference")]
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        return torch.tensor(losses), printed, len(forwards)

    return train


@pytest.mark.slow
def test_cached_is_online_and_is_reused_only_where_it_is_the_same(train, cache, pairs, tmp_path):
    """Three steps each; eight pairs, three at a time, are three forwards of the reference more."""
    online, printed, forwards = train()
    assert (printed, forwards) == ([], 6)
    losses, printed, forwards = train(cache)
    assert (printed, forwards) == (["reference: 0 of 8 pairs are known, 8 are scored"], 6)
    torch.testing.assert_close(losses, online, atol=1e-5, rtol=1e-5)

    elsewhere = {"output_dir": str(tmp_path / "other"), "learning_rate": 5e-3, "per_device_train_batch_size": 3}
    _, printed, forwards = train(cache, **elsewhere)
    assert (printed, forwards) == ([], 3)
    again, _, _ = train(cache)
    torch.testing.assert_close(again, online, atol=1e-5, rtol=1e-5)

    rewritten = [replace(pairs[0], rejected="Never heard of that."), *pairs[1:]]
    assert train(cache, rewritten)[1] == ["reference: 7 of 8 pairs are known, 1 are scored"]
    assert train(cache, limit=4000)[1] == ["reference: 0 of 8 pairs are known, 8 are scored"]
    assert train(cache, shaken=True)[1] == ["reference: 0 of 8 pairs are known, 8 are scored"]


@pytest.mark.slow
def test_a_damaged_or_interrupted_cache_is_mended(train, cache, pairs):
    train(cache, pairs[:5])
    assert train(cache)[1] == ["reference: 5 of 8 pairs are known, 3 are scored"]
    shard = max(cache.folder.glob("*/*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-3])
    first, second = train(cache)[1]
    assert first == f"reference_cache: {shard} is damaged; it is deleted and its pairs are scored anew"
    assert second == "reference: 3 of 8 pairs are known, 5 are scored"
    assert train(cache)[1] == []


def test_a_key_holds_what_is_read_and_a_byte_of_the_clip(model_and_processor, pairs, tmp_path):
    collate = PairCollator(pairs, PromptBuilder(model_and_processor[1], ClipCache(None)))
    clip = pairs[0].reply.current.clip
    copy = replace(clip, audio=tmp_path / "copy.wav")
    shutil.copy(clip.audio, copy.audio)
    batch = collate([{"index": 0}])
    key = pair_key(batch, clip, 100)
    assert len(key) == 32
    assert key == pair_key(collate([{"index": 0}]), copy, 100)  # names are nothing
    with copy.audio.open("ab") as file:
        file.write(b"\0")
    others = [
        pair_key(batch, copy, 100),
        pair_key(batch, replace(clip, end_s=0.5), 100),
        pair_key(batch, None, 100),
        pair_key(batch, clip, 99),
        *(pair_key(batch | {name: tensor.flip(0) + 1}, clip, 100) for name, tensor in batch.items()),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_a_reference_is_its_weights_configuration_and_precision(make_model):
    from peft import get_peft_model

    def digest(change=None, precision="no", lora=True, **settings):
        model, _ = make_model()
        if lora:
            model = get_peft_model(model, lora_config(model, 4, 8, 0.0))
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.data.normal_()
        if change is not None:
            change(model)
        return reference_digest(model, precision)

    plain = digest()
    assert plain == digest(lora=False) == digest()  # the LoRA in training is not the reference's

    def more_rope(model):
        model.config.text_config.rope_parameters = {"rope_type": "default", "rope_theta": 5000.0}

    others = [
        digest(precision="bf16"),
        digest(lambda model: model.to(torch.bfloat16)),
        digest(lambda model: model.get_base_model().clip_head.bias.data.add_(1)),
        digest(lambda model: model.add_adapter("ref", model.peft_config["default"])),
        digest(more_rope),
    ]
    assert len({plain, *others}) == 1 + len(others)


def test_sharded_weights_are_refused(model_and_processor):
    model = model_and_processor[0]
    model.clip_head.bias.ds_id = 3
    with pytest.raises(ReferenceCacheError, match="spread over the ranks already"):
        reference_digest(model, "no")
