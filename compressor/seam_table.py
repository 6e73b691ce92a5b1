"""The table of seams: what the project relies on that no documentation of a library promises, and where.

tests/seams/ tries each against the installed libraries, and a failing test carries the seam's package and text as its
name.
"""

from dataclasses import dataclass

_HERE = "compressor.seams"


@dataclass(frozen=True)
class Seam:
    """One thing that no documentation promises and the project stands on.

    Attributes:
        package: whose inside it is.
        text: what must stay as it is.
        used_in: the module that breaks otherwise.
    """

    package: str
    text: str
    used_in: str = _HERE


SEAMS = {
    # TRL
    "prepare_dataset": Seam(
        "trl",
        "DPOTrainer._prepare_dataset is called with (dataset, processing_class, args, dataset_name)",
        "epo.training.trainer",
    ),
    "dpo_compute_loss": Seam(
        "trl",
        "DPOTrainer.compute_loss takes (model, inputs, return_outputs, num_items_in_batch)",
        "epo.training.trainer",
    ),
    "text_path": Seam(
        "trl",
        "DPOTrainer._is_vlm is set by a ProcessorMixin, and without an image column rows and collator stay ours",
        "epo.training.trainer",
    ),
    "dpo_numbers": Seam(
        "trl",
        "DPOTrainer.log averages the lists in _metrics['train' or 'eval'], and _total_train_tokens counts tokens",
        "epo.training.trainer",
    ),
    "no_checkpointing": Seam(
        "trl",
        "trl.models.utils.disable_gradient_checkpointing(model, kwargs) is a context without checkpoints",
        "epo.training.trainer",
    ),
    "other_adapter": Seam(
        "trl",
        "trl.trainer.utils.use_adapter(policy, name) makes another adapter the active one and takes it back",
        "epo.training.adapter_switch",
    ),
    "no_second_model": Seam(
        "trl",
        "DPOTrainer makes the reference of a policy without a LoRA by create_model_from_path of its own module, and "
        "does without where that gives None",
    ),
    "fused_head": Seam(
        "trl",
        "add_fused_lm_head sets forward on the instance, and model(**batch, labels=..., fused_lm_head=True) gives "
        "log_probs, entropy, mean_logits and is_top1 of shape (2B, T - 1)",
    ),
    "unwrap_for_generation": Seam(
        "trl", "unwrap_model_for_generation(model, accelerator) gathers a ZeRO-3 model for as long as it is open"
    ),
    "parser_defaults": Seam(
        "trl", "TrlParser.set_defaults_with_config(**defaults) gives way to the file and to flags", "launch.recipe"
    ),
    # transformers: models
    "recurrent_states": Seam(
        "transformers",
        "layers of a Mamba cache have conv_states and recurrent_states, set by update_conv_state and so on",
    ),
    "cache_name": Seam("transformers", "a model's cache is named alike among its forward's arguments and outputs"),
    "init_weights": Seam(
        "transformers", "PreTrainedModel._init_weights is called for each module of a fresh model", "epo.model.modeling"
    ),
    "custom_code": Seam(
        "transformers",
        "PreTrainedModel.is_custom_code() decides whether a module without weights of its own is started after loading",
        "epo.model.modeling",
    ),
    "config_post_init": Seam(
        "transformers",
        "PreTrainedConfig is a dataclass whose __post_init__ takes what is no field",
        "epo.model.configuration",
    ),
    "mask_4d": Seam(
        "transformers", "an additive mask (B, 1, T, T) reaches attention as it is", "epo.model.shared_prompt"
    ),
    "mamba_mixers": Seam(
        "transformers", "the layers of Mamba and Mamba-2 models hold their depthwise nn.Conv1d, and return one tensor"
    ),
    "mamba_scan": Seam(
        "transformers",
        "Mamba-2 layers call mamba2_chunk_scan and causal_conv1d_fn of their own module (from 5.24 on)",
    ),
    "mamba_state": Seam(
        "transformers",
        "a Mamba-2 model goes on from its cache, several tokens at a time",
        "compressor.streaming",
    ),
    "whisper_encoder": Seam(
        "transformers",
        "WhisperEncoder is conv1, conv2, embed_positions, dropout, layers(hidden, mask), layer_norm",
        "epo.model.hearing",
    ),
    "tower_patches": Seam("transformers", "vision towers give the patches last, row by row", "epo.model.seeing"),
    "waveform_encoders": Seam(
        "transformers",
        "wav2vec 2.0, HuBERT and WavLM are feature_extractor.conv_layers, feature_projection and encoder(hidden, "
        "attention_mask), and a norm of the first over time is an nn.GroupNorm named layer_norm",
        "epo.model.hearing",
    ),
    "tower_weights": Seam(
        "transformers",
        "CLIP and SigLIP models hold their tower, with its own names, as vision_model",
        "epo.model.parts",
    ),
    "omni_towers": Seam(
        "transformers",
        "Qwen2.5-Omni's thinker gives vectors of sound as last_hidden_state (A, D) and of pictures as pooler_output, a "
        "clip each; its text model is a Qwen2_5OmniThinkerTextModel",
        "epo.model.omni.reply_scores",
    ),
    "omni_positions": Seam(
        "transformers",
        "Qwen2.5-Omni's thinker has get_rope_index: text counts on from the largest position of a clip before it",
        "epo.model.omni.reply_scores",
    ),
    "pil_processors": Seam(
        "transformers",
        "CLIPImageProcessorPil and SiglipImageProcessorPil need no torchvision and save a type that begins with CLIP "
        "or Siglip",
        "epo.model.seeing",
    ),
    "safe_open": Seam(
        "transformers",
        "modeling_utils.safe_open opens each file of weights, and takes backend='pread' as safetensors does",
    ),
    # transformers: Trainer
    "compute_loss": Seam(
        "transformers",
        "Trainer.compute_loss takes (model, inputs, return_outputs, num_items_in_batch)",
        "compressor.scheduled_trainer",
    ),
    "loss_kwargs": Seam(
        "transformers",
        "Trainer divides the loss by the accumulation steps where model_accepts_loss_kwargs is False",
        "compressor.scheduled_trainer",
    ),
    "train_sampler": Seam(
        "transformers",
        "Trainer._get_train_sampler(train_dataset) says the order of training",
        "compressor.scheduled_trainer",
    ),
    "log": Seam(
        "transformers",
        "Trainer.log(logs, start_time) is given the loss of a step and writes what is added to it",
        "compressor.scheduled_trainer",
    ),
    "grad_norm": Seam(
        "transformers",
        "Trainer._get_grad_norm(model, grad_norm) is asked once before each optimizer step, clipped or not",
        "compressor.scheduled_trainer",
    ),
    "batch_samples": Seam(
        "transformers",
        "Trainer.get_batch_samples(epoch_iterator, num_batches, device) gets a step's batches, and what it counts in "
        "them reaches compute_loss as num_items_in_batch",
        "epo.training.trainer",
    ),
    "prediction_step": Seam(
        "transformers",
        "Trainer.prediction_step(model, inputs, prediction_loss_only, ignore_keys) may return (loss, None, None)",
        "compressor.scheduled_trainer",
    ),
    "create_optimizer": Seam(
        "transformers",
        "Trainer.create_optimizer(model) makes self.optimizer, whose groups may be split before the first step",
        "epo.training.sft",
    ),
    "checkpoint_folder": Seam(
        "transformers",
        "Trainer._save_checkpoint(model, trial) writes all of a checkpoint, and deletes old ones, below what "
        "Trainer._get_output_dir(trial) says",
        "compressor.checkpointed_trainer",
    ),
    "operations": Seam(
        "transformers",
        "Trainer.floating_point_ops(inputs) is in proportion to how many numbers the model's main input holds",
        "compressor.scheduled_trainer",
    ),
    "save_and_end_of_step": Seam(
        "transformers",
        "Trainer.train(resume_from_checkpoint, trial, ignore_keys_for_eval) calls on_step_end on every rank, and then "
        "saves",
        "compressor.checkpointed_trainer",
    ),
    "checkpoint_states": Seam(
        "transformers",
        "a checkpoint's states are Trainer._save_optimizer_and_scheduler(output_dir), Trainer._save_rng_state(output_"
        "dir), Trainer._load_optimizer_and_scheduler(checkpoint) and Trainer._load_rng_state(checkpoint)",
        "compressor.checkpointed_trainer",
    ),
    "training_mode": Seam(
        "transformers",
        "Trainer.training_step enters training mode by model.train() and by nothing else",
        "compressor.scheduled_trainer",
    ),
    "sharded_checkpoint": Seam(
        "transformers",
        "Trainer.save_model(output_dir, _internal_call) writes a checkpoint's weights, and "
        "Trainer._load_from_checkpoint(resume_from_checkpoint, model) reads them",
        "compressor.checkpointed_trainer",
    ),
    "accelerator_made": Seam(
        "transformers",
        "Trainer.create_accelerator_and_postprocess() makes self.accelerator and self.is_fsdp_enabled",
        "compressor.checkpointed_trainer",
    ),
    "sync_each_batch": Seam(
        "transformers",
        "Trainer reduces gradients after each micro-batch where accelerator.gradient_state.plugin_kwargs says "
        "sync_each_batch",
    ),
    "training_args_bin": Seam("transformers", "Trainer.save_model writes training_args.bin", "launch.epo"),
    "deepspeed_config": Seam("transformers", "unset_hf_deepspeed_config() lets models load whole under ZeRO-3"),
    "generating_under_fsdp": Seam(
        "transformers",
        "generate() waits for other ranks at each token where a model's _is_fsdp_managed_module is true, as torch sets "
        "it, and not where it is false",
    ),
    "checkpointing_name": Seam(
        "transformers", "gradient_checkpointing is known, and where it has a newer name it is an alias of that"
    ),
    # PEFT
    "lora_names": Seam(
        "peft",
        "LoraModel keeps a layer's weights as base_layer, lora_A.default and lora_B.default",
        "epo.training.lora",
    ),
    "adapter_off": Seam(
        "peft",
        "a layer whose _disable_adapters is set gives what its base layer gives",
        "epo.training.adapter_switch",
    ),
    "lora_variant": Seam(
        "peft",
        "a LoRA's Linear gives what the forward of its lora_variant gives, and merges by it",
        "epo.training.lora_sum",
    ),
    # accelerate
    "use_deepspeed": Seam("accelerate", "accelerate launch says ACCELERATE_USE_DEEPSPEED=true to its ranks"),
    "state_dict": Seam(
        "accelerate", "Accelerator.get_state_dict gives the whole ZeRO-3 model to rank 0, None to the others"
    ),
    "fsdp_on_cpus": Seam(
        "accelerate",
        "an AcceleratorState forgets its FSDP plugin on CPUs, and is one of FSDP2 once plugin and type are set",
    ),
    "fsdp2_prepare": Seam(
        "accelerate",
        "Accelerator.prepare(model, optimizer) under FSDP2 has the model sharded by accelerator.fsdp2_prepare_model("
        "accelerator, model), and gives the optimizer the new parameters of the same names",
    ),
    "offloaded_optimizer": Seam(
        "accelerate",
        "an optimizer whose states DeepSpeed offloads is replaced by DeepSpeed's unless zero_force_ds_cpu_optimizer is "
        "false in state.deepspeed_plugin.deepspeed_config",
    ),
    # DeepSpeed
    "step_hook": Seam(
        "deepspeed", "parameter_offload.fwd_pre_hook is what TRL leaves of a ZeRO-3 model's hooks, and can be removed"
    ),
    "leaf_modules": Seam("deepspeed", "set_z3_leaf_module lets ZeRO-3 gather a module as one"),
    "engine_load": Seam(
        "deepspeed",
        "TorchCheckpointEngine.load(path, map_location) reads each file of a checkpoint, which holds tensors, plain "
        "data and four classes of its own",
        "compressor.checkpoints.deepspeed_states",
    ),
    "load_checkpoint": Seam(
        "deepspeed",
        "DeepSpeedEngine.load_checkpoint(load_dir, ...) fills a fresh engine and returns (path, state); "
        "global_steps, global_samples and skipped_steps are all that the engine itself counts in it",
        "compressor.checkpoints.resharding",
    ),
    "zero_files": Seam(
        "deepspeed",
        "a checkpoint of ZeRO is latest, a zero_pp_rank_N_mp_rank_00_optim_states.pt of each rank, and model states by "
        "which param_shapes names the weights of each flat buffer in their order",
        "compressor.checkpoints.saved_shards",
    ),
    "zero_layouts": Seam(
        "deepspeed",
        "stages 1 and 2 lay a group's weights one after another, pad to a multiple of twice the ranks and cut; stage 3 "
        "pads to a multiple of the ranks and cuts each weight, and lays a rank's parts one after another",
        "compressor.checkpoints.shards",
    ),
    "zero_optimizers": Seam(
        "deepspeed",
        "load_state_dict(states of all ranks) of ZeRO's optimizers reads this rank's alone; their flat masters are "
        "single_partition_of_fp32_groups (1 and 2) and fp32_partitioned_groups_flat (3, by sub_group_to_group_id), and "
        "engine._get_zero_param_shapes() says what lies in them",
        "compressor.checkpoints.resharding",
    ),
    "muon": Seam(
        "deepspeed", "runtime.zero.muon.original_muon, which any start imports, decorates by runtime.compiler.compile()"
    ),
    "shm_operator": Seam(
        "deepspeed", "ops.__compatible_ops__['deepspeed_shm_comm'] = False keeps it from compiling an operator"
    ),
}


__all__ = ["SEAMS", "Seam"]
