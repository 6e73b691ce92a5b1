"""One of two ranks under ZeRO-3: trains a tiny Mamba-2 for a step and writes down what the seams into DeepSpeed did.

Started by test_deepspeed.py with `accelerate launch`, as users start a stage: `zero3_rank.py OUTPUT_FOLDER`.
"""

import json
import os
import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from launch import stage
from compressor.seams import (
    gather_together,
    gathered_state,
    keep_own_optimizer,
    load_models_whole,
    put_off_compiling,
    whole_model,
)

SIZES = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 8,
    "expand": 2, "n_groups": 1, "chunk_size": 4, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip


def sizes(model):
    return sum(parameter.numel() for parameter in model.parameters())


def main(folder):
    found = {"use_deepspeed": os.environ.get("ACCELERATE_USE_DEEPSPEED")}
    args = TrainingArguments(
        output_dir=str(folder / "run"), max_steps=1, per_device_train_batch_size=1, learning_rate=0.1, use_cpu=True,
        ddp_backend="gloo", save_strategy="no", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    load_models_whole()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba2", **SIZES))
    found["size_loaded"] = sizes(model)
    mixer = model.backbone.layers[0].mixer
    found["size_mixer"] = sizes(mixer)
    before = mixer.conv1d.weight.detach().clone()
    gather_together(model)

    def note_size(*_):
        found.setdefault("size_at_first_call", sizes(mixer))

    mixer.in_proj.register_forward_pre_hook(note_size)
    row = {"input_ids": list(range(5, 13)), "labels": list(range(5, 13))}
    trainer = Trainer(model=model, args=args, train_dataset=[row] * 2)
    with whole_model(trainer):  # nothing is trained yet, as of a compressor that learns nothing
        found["size_untrained"] = sizes(model)
    found["untrained"] = {name: list(tensor.shape) for name, tensor in gathered_state(trainer).items()}
    keep_own_optimizer(trainer)
    put_off_compiling()
    trainer.train()
    names = {"imported": "deepspeed.runtime.zero.muon.original_muon", "compiler": "torch._inductor.compile_fx"}
    found["muon"] = [what for what, name in names.items() if name in sys.modules]
    found["optimizer"] = type(trainer.model_wrapped.optimizer.optimizer).__name__
    from deepspeed.comm.torch import build_shm_op

    found["operator"] = build_shm_op() is not None
    found["size_trained"] = sizes(model)
    hook = trainer.model_wrapped.optimizer.parameter_offload.fwd_pre_hook
    found["hook_is_set"] = hook.id in hook.hooks_dict_ref()
    engine = trainer.model_wrapped
    engine.save_checkpoint(str(folder / "saved"))
    found["shapes"] = [
        {name: list(shape) for name, shape in group.items()} for group in engine._get_zero_param_shapes()
    ]
    found["lengths"] = [flat.numel() for flat in engine.optimizer.fp32_partitioned_groups_flat]
    found["groups"] = list(engine.optimizer.sub_group_to_group_id.items())
    found["counts"] = [engine.global_steps, engine.global_samples, engine.skipped_steps]
    found["raw_state_is_none"] = trainer.accelerator.get_state_dict(trainer.model_wrapped) is None
    state = gathered_state(trainer)
    found["state"] = {name: list(tensor.shape) for name, tensor in state.items()}
    weight = state.get("backbone.layers.0.mixer.conv1d.weight", before)
    found["weight"] = weight.tolist()
    found["mixer_moved"] = not weight.equal(before)
    with whole_model(trainer):
        found["hook_is_left"] = hook.id in hook.hooks_dict_ref()
        found["size_whole"] = sizes(model)
        if trainer.is_world_process_zero():  # alone: no other rank joins in
            ids = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3, do_sample=False)
            found["generated"] = ids.size(1)
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    stage.main(lambda: main(Path(sys.argv[1])), is_stage=False)
