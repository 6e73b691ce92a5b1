"""The same trainer and the same pairs train another family: Qwen2.5-Omni's thinker."""

import math

import pytest
import torch
from peft import PeftModel

from compressor.curriculum import ScheduledDataset
from epo.evaluation.generate import generate_replies
from epo.evaluation.rewards import adapter_logps, pair_logps, reward_report
from epo.model.family import FAMILIES, FamilyError, family_of, load_of_family, require_processor
from epo.model.loading import load_model
from epo.model.omni.reply_scores import language_model
from epo.model.quantized import QuantizedLinear
from epo.part_names import PartError
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.encoder_cache import EncoderCache, EncoderCacheError
from epo.training.lora import lora_config
from epo.training.reference_cache import ReferenceCache
from epo.training.trainer import EpoTrainer

BETA, ALPHA = 0.3, 0.7


@pytest.fixture
def make_omni_trainer(make_thinker, omni_build, pairs, tmp_path):
    def make(thinker=None, given=None, **changes):
        settings = {
            "max_steps": 10, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
            "save_strategy": "no", "report_to": "none", "use_cpu": True, "beta": BETA, "alpha": ALPHA,
            "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True,
        }  # fmt: skip
        thinker = make_thinker() if thinker is None else thinker
        return EpoTrainer(
            thinker, args=EpoArguments(output_dir=str(tmp_path), **(settings | changes)),
            train_dataset=ScheduledDataset(len(pairs), 40, seed=0), data_collator=PairCollator(pairs, omni_build),
            processing_class=omni_build.processor,
            **({"peft_config": lora_config(thinker, 4, 8, 0.0)} if given is None else given),
        )  # fmt: skip

    return make


def test_the_first_step_costs_ln_2_and_the_nll(make_omni_trainer, pairs, omni_build):
    """LoRA starts as zero: no margin; the NLL is the mean over the gold replies' tokens, from reading alone."""
    trainer = make_omni_trainer()
    batch = PairCollator(pairs, omni_build)([{"index": i} for i in range(4)])
    num_tokens = int(batch["completion_mask"][:4].sum())
    (chosen, _), _ = adapter_logps(trainer.model, pairs[:4], omni_build)
    wanted = math.log(2) + ALPHA * -chosen.sum().item() / num_tokens
    assert trainer.compute_loss(trainer.model, batch).item() == pytest.approx(wanted, abs=1e-5)


def test_ten_steps_lower_the_loss_and_the_adapter_is_kept(make_omni_trainer, make_thinker, pairs, omni_build, tmp_path):
    """Rewards start at one half, the reference's own; and a fresh thinker with the saved adapter says the same."""
    trainer = make_omni_trainer()
    before = reward_report(*adapter_logps(trainer.model, pairs, omni_build), pairs, BETA)
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    policy, reference = adapter_logps(trainer.model, pairs, omni_build)
    after = reward_report(policy, reference, pairs, BETA)
    assert before["reward_accuracy"] == 0.5 and after["reward_accuracy"] == 1.0
    assert losses[-1] < 0.7 * losses[0] and after["reward_margin"] > 0.5
    trainer.save_model(str(tmp_path / "adapter"))
    loaded = PeftModel.from_pretrained(make_thinker(), tmp_path / "adapter").eval()
    again, base = adapter_logps(loaded, pairs, omni_build)
    torch.testing.assert_close((*again, *base), (*policy, *reference), atol=1e-5, rtol=1e-5)
    prompts = [omni_build(pair.reply) for pair in pairs[:3]]
    replies = [generate_replies(m, omni_build.processor, prompts, max_new_tokens=8) for m in (trainer.model, loaded)]
    assert replies[0] == replies[1] and any(replies[0])


def test_all_weights_of_the_text_model_train_and_are_written(make_omni_trainer, pairs, omni_build, tmp_path):
    given = {"tune": "all", "reference_cache": ReferenceCache(tmp_path / "reference")}
    trainer = make_omni_trainer(given=given, max_steps=2)
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    inside = f"{language_model(trainer.model)[0]}."
    assert all(name.startswith((inside, "lm_head.")) for name in names) and f"{inside}embed_tokens.weight" in names
    assert sum(1 for name, _ in trainer.model.named_parameters() if name.startswith(inside)) <= len(names)
    trainer.train()
    margins = [log["rewards/margins"] for log in trainer.state.log_history if "rewards/margins" in log]
    assert margins[0] == pytest.approx(0.0, abs=1e-5) and abs(margins[1]) > 0.01
    trainer.save_tuned(tmp_path / "epo", omni_build.processor)
    model, processor = load_of_family(str(tmp_path / "epo"))
    again = pair_logps(model, pairs, PromptBuilder(processor, omni_build.cache))
    torch.testing.assert_close(again, pair_logps(trainer.model, pairs, omni_build), atol=1e-5, rtol=1e-5)


def tower(thinker, name):
    """Where a version of transformers has it."""
    return next(module for path, module in thinker.named_modules() if path.rpartition(".")[2] == name)


def test_only_adapters_of_the_language_model_train_and_towers_are_encoded_once(make_omni_trainer, pairs, omni_build):
    trainer = make_omni_trainer()
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    thinker, calls = trainer.model.get_base_model(), []
    inside = f"base_model.model.{language_model(thinker)[0]}."
    assert names and all(".lora_" in name and name.startswith(inside) for name in names)
    tower(thinker, "audio_tower").register_forward_hook(lambda *_: calls.append("audio"))
    tower(thinker, "visual").register_forward_hook(lambda *_: calls.append("video"))
    collate = PairCollator(pairs, omni_build)
    for rows in (range(4), [4]):  # the second has no clip: ranks that share a step must run the same layers
        calls.clear()
        trainer.compute_loss(trainer.model, collate([{"index": i} for i in rows]))
        assert calls == ["audio", "video"]  # policy and reference, chosen and rejected


def test_the_conditional_term_reads_another_clip_once_more(make_omni_trainer):
    """LoRA starts as zero: ln 2 for each pair that has another clip; half of the clip may be swapped as well."""
    for swap, indices, num_others in (("audio", range(5), 3), ("both", [4], 0)):
        losses = {}
        for weight in (0.0, 0.5):
            trainer = make_omni_trainer(conditional_weight=0.5, conditional_swap=swap)
            batch, calls = trainer.data_collator([{"index": index, "seed": 3} for index in indices]), []
            trainer.args.conditional_weight = weight
            audio_tower = tower(trainer.model.get_base_model(), "audio_tower")
            audio_tower.register_forward_hook(lambda *_, c=calls: c.append(1))
            losses[weight] = trainer.compute_loss(trainer.model, batch).item()
            assert len(calls) == 2
        wanted = 0.5 * math.log(2) * num_others / len(batch["prompt_lengths"])
        assert losses[0.5] - losses[0.0] == pytest.approx(wanted, abs=1e-5)


def test_nothing_is_dropped_in_training(make_omni_trainer, pairs, omni_build):
    trainer = make_omni_trainer()
    batch = PairCollator(pairs, omni_build)([{"index": i} for i in range(4)])
    losses = {}
    for is_training in (True, False):
        trainer.model.train(is_training)
        losses[is_training] = trainer.compute_loss(trainer.model, dict(batch)).item()
    assert losses[True] == losses[False]


def test_gradient_checkpointing_gives_the_same_step(make_omni_trainer):
    norms = []
    for checkpoints in (False, True):
        trainer = make_omni_trainer(gradient_checkpointing=checkpoints, max_steps=2)
        trainer.train()
        norms.append([log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def trainer_of(model, processor, build, pairs, tmp_path):
    args = EpoArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_steps=1)
    return EpoTrainer(
        model, args=args, train_dataset=ScheduledDataset(len(pairs), 4, seed=0),
        data_collator=PairCollator(pairs, build), processing_class=processor,
    )  # fmt: skip


def test_its_encoded_clips_are_not_kept(make_omni_trainer, make_thinker, tmp_path):
    """Where its tokens stand in time depends on the replies, too."""
    thinker = make_thinker()
    given = {"peft_config": lora_config(thinker, 4, 8, 0.0), "encoder_cache": EncoderCache(tmp_path / "encoded")}
    with pytest.raises(EncoderCacheError, match="Qwen2_5OmniThinkerForConditionalGeneration encodes cannot be kept"):
        make_omni_trainer(thinker=thinker, given=given)


def test_a_model_of_no_family_is_refused(make_llm, omni_build, pairs, tmp_path):
    wanted = (
        r"the model is a Qwen3ForCausalLM, of no model family; want one of EpoForConditionalGeneration \(composed\), "
        r"Qwen2_5OmniThinkerForConditionalGeneration \(omni\): join .*from_parts, or write a family .*docs/families.md"
    )
    with pytest.raises(FamilyError, match=wanted):
        trainer_of(make_llm(), omni_build.processor, omni_build, pairs, tmp_path)
    with pytest.raises(FamilyError, match=wanted):
        lora_config(make_llm(), 4, 8, 0.0)


def test_a_processor_of_another_family_is_refused(
    make_thinker, model_and_processor, omni_build, clip_cache, pairs, tmp_path
):
    model, processor = model_and_processor
    wanted = "the processor is an? EpoProcessor, but the model is .*Omni.*; want its OmniProcessor: load both"
    with pytest.raises(FamilyError, match=wanted):
        trainer_of(make_thinker(), processor, omni_build, pairs, tmp_path)
    with pytest.raises(FamilyError, match=wanted):  # the collator's
        trainer_of(make_thinker(), omni_build.processor, PromptBuilder(processor, clip_cache), pairs, tmp_path)
    with pytest.raises(FamilyError, match="OmniProcessor, but the model is .*EpoForCond.*want its EpoProcessor"):
        trainer_of(model, omni_build.processor, omni_build, pairs, tmp_path)


@pytest.fixture
def omni_folder(make_thinker, omni_processor, tmp_path):
    make_thinker().save_pretrained(tmp_path / "omni")
    omni_processor.save_pretrained(tmp_path / "omni")
    return tmp_path / "omni"


def test_a_folder_is_loaded_by_its_family(omni_folder, make_thinker, omni_processor):
    model, processor = load_of_family(str(omni_folder), "bfloat16")
    assert family_of(model) is FAMILIES.get("omni") and model.dtype == torch.bfloat16
    require_processor(family_of(model), processor)
    assert processor.max_frame_pixels == omni_processor.max_frame_pixels
    again, _ = load_of_family(str(omni_folder))
    fresh = make_thinker().state_dict()
    assert all(tensor.equal(fresh[name]) for name, tensor in again.state_dict().items())


def test_a_folder_that_is_not_whole_is_refused(omni_folder, make_llm, tmp_path):
    (omni_folder / "processor_config.json").unlink()
    with pytest.raises(PartError, match=r"omni: has a thinker but no OmniProcessor .*make one \(docs/families.md\)"):
        load_of_family(str(omni_folder))
    make_llm().save_pretrained(tmp_path / "llm")
    with pytest.raises(FamilyError, match=r"llm: holds a model of type 'qwen3', .*'epo' \(composed\), 'qwen2_5_omni_t"):
        load_of_family(str(tmp_path / "llm"))
    with pytest.raises(PartError, match="nowhere: no model of this project"):
        load_of_family(str(tmp_path / "nowhere"))


def test_other_stages_refuse_a_folder_of_this_family(omni_folder):
    with pytest.raises(PartError, match="holds a model of type 'qwen2_5_omni_thinker', want one of type 'epo', as lau"):
        load_model(str(omni_folder), "float32")


def test_weights_in_bfloat16_train_too(omni_folder, make_omni_trainer, pairs, omni_build):
    """The first loss within bfloat16's three digits of float32's."""
    exact = make_omni_trainer()
    batch = PairCollator(pairs, omni_build)([{"index": i} for i in range(4)])
    wanted = exact.compute_loss(exact.model, dict(batch)).item()
    thinker, _ = load_of_family(str(omni_folder), "bfloat16", bf16=True)
    trainer = make_omni_trainer(thinker, bf16=True, max_steps=1)
    assert trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)).item() == pytest.approx(wanted, rel=0.03)
    trainer.train()
    assert {p.dtype for name, p in trainer.model.named_parameters() if ".lora_" in name} == {torch.float32}


def test_its_text_model_is_held_in_few_bits_and_its_towers_are_not(omni_folder, make_omni_trainer):
    thinker, _ = load_of_family(str(omni_folder), quantize="8bit")
    held = {name for name, module in thinker.named_modules() if isinstance(module, QuantizedLinear)}
    assert held == set(family_of(thinker).lora_targets(thinker)) and len(held) > 0
    trainer = make_omni_trainer(thinker, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] > 0
