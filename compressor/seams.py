"""Every reliance on the insides of TRL, transformers, PEFT, accelerate and DeepSpeed: what it is, and the code for it.

A library may change whatever its documentation does not promise, in any release. So such things are done here; where
a subclass has to override a method, or a model to read another one's parts, `compressor.seam_table` says so.

Importing this file costs nothing: what is heavy or optional is imported where it is used.
"""

import contextlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from compressor.fully_sharded import full_state, gathered

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import Trainer


@contextlib.contextmanager
def weights_read_at_once() -> Iterator[None]:
    """Let transformers read weights instead of mapping their files while the block runs.

    It keeps every file mapped until the last weight is there. Where weights change their dtype, that is the whole
    checkpoint in memory beside the model.
    """
    from transformers import modeling_utils

    mapped = modeling_utils.safe_open

    def read(*args: Any, **settings: Any) -> Any:
        return mapped(*args, **(settings | {"backend": "pread"}))

    modeling_utils.safe_open = read
    try:
        yield
    finally:
        modeling_utils.safe_open = mapped


def cache_name(model: "nn.Module") -> str:
    """Return what a model of transformers calls its cache, in its forward's arguments and in its outputs.

    `cache` from transformers 5.24 on, `past_key_values` before, `cache_params` in Mamba models before.
    """
    names = inspect.signature(model.forward).parameters
    return next(name for name in ("cache", "past_key_values", "cache_params") if name in names)


def states_of_cache(cache: Any) -> list["Tensor"]:
    """Return the tensors of a recurrent model's cache, a row a sequence: of each layer convolution, then state."""
    states = [state for layer in cache.layers for state in (layer.conv_states, layer.recurrent_states)]
    return [state[0] if isinstance(state, dict) else state for state in states]  # later versions number them


def cache_of_states(model: "nn.Module", states: Sequence["Tensor"]) -> Any:
    """Return a cache from which a recurrent model goes on, of what `states_of_cache` returned."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    for layer, (convolution, state) in enumerate(zip(states[::2], states[1::2], strict=True)):
        cache.update_conv_state(convolution, layer)
        cache.update_recurrent_state(state, layer)
    return cache


def read_on(model: "nn.Module", embeds: "Tensor", states: Sequence["Tensor"]) -> tuple["Tensor", list["Tensor"]]:
    """Let a recurrent model go on from states, for whose gradients what it reads is kept.

    transformers' caches write the new state over the old one, which the backward pass would then read.

    Args:
        model: of transformers, with a Mamba-2's cache.
        embeds: (B, T, D), T at least 2.
        states: of `states_of_cache`; none at the beginning. They stay as they are.

    Returns:
        Its states of all positions, (B, T, D), and the states after them, without gradient.
    """
    name, cache = cache_name(model), None
    last: dict[int, Tensor] = {}
    if states:
        cache = cache_of_states(model, states)

        def keep(state: "Tensor", layer_idx: int, **settings: Any) -> "Tensor":
            last[layer_idx] = state
            return state

        cache.update_recurrent_state = keep
    output = model(inputs_embeds=embeds, use_cache=True, **{name: cache})
    after = [state.detach().clone() for state in states_of_cache(output[name])]
    for layer, state in last.items():
        after[2 * layer + 1] = state.detach()
    return output.last_hidden_state, after


def use_own_forward(model: "nn.Module") -> None:
    """Undo TRL's replacement of a model's forward: TRL would score by a copy of a few families' heads.

    Args:
        model: whose class scores labels itself, under the names TRL reads.
    """
    vars(model).pop("forward", None)


@contextlib.contextmanager
def no_second_model() -> Iterator[None]:
    """Let TRL make no reference model while the block runs: of a policy without a LoRA it would load a second one."""
    from trl.trainer import dpo_trainer

    load = dpo_trainer.create_model_from_path
    dpo_trainer.create_model_from_path = lambda *_, **__: None
    try:
        yield
    finally:
        dpo_trainer.create_model_from_path = load


def silence_renames() -> None:
    """Keep quiet about a new name that no one here can use yet.

    transformers 5.24 renamed `gradient_checkpointing`; TRL 1.16 asks by the old name at every step, and recipes say it
    because it is the one that all supported versions know.
    """
    warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing", FutureWarning)


def use_own_scan() -> None:
    """Let transformers' Mamba-2 call `compressor.scan` where no CUDA kernels are installed: its numbers, half the time.

    Versions of transformers that keep the scan inside the layer go on with that.
    """
    import importlib.util

    from transformers.models.mamba2 import modeling_mamba2

    from compressor.scan import causal_convolution, chunk_scan

    for package, name, function in (
        ("mamba_ssm", "mamba2_chunk_scan", chunk_scan),
        ("causal_conv1d", "causal_conv1d_fn", causal_convolution),
    ):
        if importlib.util.find_spec(package) is None and hasattr(modeling_mamba2, name):
            setattr(modeling_mamba2, name, function)


def load_models_whole() -> None:
    """Let no model be sharded before it is trained: parts are measured and joined first.

    Under ZeRO-3 `TrainingArguments` makes transformers shard each model as it is loaded; the trainer shards what it
    trains all the same, later.
    """
    from transformers.integrations import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def is_under_deepspeed() -> bool:
    """Tell whether `accelerate launch` started this process for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"


def skip_unused_operator() -> None:
    """Let DeepSpeed not compile, at its start on CPUs, a reduction that only tensor-parallel inference calls."""
    if not is_under_deepspeed():
        return
    is_first = "mlflow" not in sys.modules
    if is_first:
        leave_out_mlflow()
    from deepspeed.ops import __compatible_ops__

    __compatible_ops__["deepspeed_shm_comm"] = False
    if is_first:
        del sys.modules["mlflow"]  # rank 0 logs to it


def keep_own_optimizer(trainer: "Trainer") -> None:
    """Let a trainer under DeepSpeed keep its optimizer where the states are offloaded.

    accelerate puts DeepSpeed's Adam in the place of whatever there is, plain SGD too. That one is quicker for AdamW
    beside a GPU, and stays there; on CPUs it would be compiled for two minutes, to do what torch does. A DeepSpeed
    configuration that says itself what it wants is left alone.
    """
    import torch

    if not (torch.cuda.is_available() and str(trainer.args.optim).rsplit(".", 1)[-1].lower().startswith("adamw_torch")):
        trainer.accelerator.state.deepspeed_plugin.deepspeed_config.setdefault("zero_force_ds_cpu_optimizer", False)


def put_off_compiling() -> None:
    """Let DeepSpeed give the functions of its optimizer Muon to torch's compiler when they are called, if ever.

    To know whether an optimizer is one of those it shards, DeepSpeed imports Muon, and to decorate its functions
    loads the compiler: a second of each rank's start.
    """
    import functools

    from deepspeed.runtime import compiler

    at_once = compiler.compile

    def when_called(*settings: Any, **named: Any) -> Any:
        def decorate(function: Any) -> Any:
            compiled = functools.cache(lambda: at_once(*settings, **named)(function))
            return functools.wraps(function)(lambda *args, **kwargs: compiled()(*args, **kwargs))

        return decorate

    compiler.compile = when_called
    try:
        import deepspeed.runtime.zero.muon.original_muon  # noqa: F401
    finally:
        compiler.compile = at_once


def leave_out_mlflow() -> None:
    """Let imports of MLflow fail as if it was not installed, as `None` in `sys.modules` does.

    Half of what DeepSpeed's import costs is MLflow's, for an autotuner that nobody here calls.
    """
    sys.modules["mlflow"] = None  # type: ignore[assignment]


def gather_together(model: "nn.Module") -> None:
    """Let ZeRO-3 gather as one each module that reads weights of modules below it without calling them.

    ZeRO-3 gathers a module's weights when it is called, and reduces a leaf's gradients in a backward hook, which torch
    fires only where the leaf returns tensors: a leaf that returns a `ModelOutput` would never train. So leaves are
    small: torch's transformer encoders and attention (their fast path, `out_proj`), and layers with a depthwise
    convolution over time of their own, as those of Mamba and of transformers' other recurrent models are built.

    Args:
        model: before it is sharded.
    """
    if not is_under_deepspeed():
        return
    from deepspeed.utils import set_z3_leaf_module
    from torch import nn

    kinds = (nn.TransformerEncoder, nn.MultiheadAttention)
    pending: list[nn.Module] = [model]
    while pending:
        module = pending.pop()
        children = list(module.children())
        if isinstance(module, kinds) or any(isinstance(c, nn.Conv1d) and c.groups > 1 for c in children):
            set_z3_leaf_module(module, True)
        else:
            pending.extend(children)


def is_under_fsdp() -> bool:
    """Tell whether `accelerate launch` started this process for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def use_fsdp(trainer: "Trainer") -> None:
    """Let a trainer that was launched for FSDP2 know of it on CPUs too, and reduce gradients at each micro-batch.

    accelerate makes FSDP's settings on CPUs as well, and then forgets them: DistributedDataParallel would train. And
    gradients that are reduced at the end of a step alone would lie whole on each rank until then.
    """
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    state = trainer.accelerator.state
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.fsdp_plugin = FullyShardedDataParallelPlugin()
        state.distributed_type = DistributedType.FSDP
        trainer.is_fsdp_enabled = True
    if trainer.is_fsdp_enabled:
        trainer.accelerator.gradient_state.plugin_kwargs["sync_each_batch"] = True


@contextlib.contextmanager
def sharded_by(shard: Callable[[Any, "nn.Module"], "nn.Module"]) -> Iterator[None]:
    """Let a model that accelerate prepares for FSDP2 while the block runs be sharded by a function of ours.

    accelerate would tell the parts of our models by class names alone, and compute losses in bfloat16.

    Args:
        shard: given the accelerator and the model, spreads it in place and returns it.
    """
    from accelerate import accelerator

    theirs = accelerator.fsdp2_prepare_model
    accelerator.fsdp2_prepare_model = shard
    try:
        yield
    finally:
        accelerator.fsdp2_prepare_model = theirs


def gathered_state(trainer: "Trainer") -> dict[str, Any]:
    """Return the full state dict on rank 0, gathered where ZeRO-3 or FSDP2 spread it, and anything elsewhere.

    Every rank must call it.
    """
    if trainer.is_fsdp_enabled:
        return full_state(trainer.model)
    if _is_untouched(trainer):
        return dict(trainer.model.state_dict())
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if state is None:  # ZeRO-3 gives it to rank 0 alone
        return {}
    # ZeRO-3 also hands out pieces of one large buffer, which safetensors would take for tied weights.
    return {name: tensor if _owns_storage(tensor) else tensor.clone() for name, tensor in state.items()}


@contextlib.contextmanager
def _generating_alone(model: "nn.Module") -> Iterator[None]:
    """Keep `generate` from waiting for the other ranks at each token, as it does where it knows of FSDP."""
    marked = [module for module in model.modules() if vars(module).get("_is_fsdp_managed_module", False)]
    for module in marked:
        module._is_fsdp_managed_module = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in marked:
            module._is_fsdp_managed_module = True  # type: ignore[assignment]


def _is_untouched(trainer: "Trainer") -> bool:
    """Tell whether DeepSpeed was to spread a trainer's model, and nothing was trained."""
    return trainer.is_deepspeed_enabled and trainer.model_wrapped is trainer.model


def _owns_storage(tensor: "Tensor") -> bool:
    return tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


@contextlib.contextmanager
def whole_model(trainer: "Trainer") -> Iterator[None]:
    """Let one rank alone use the trained model, gathered where it is spread. Every rank must enter."""
    if trainer.is_fsdp_enabled:
        with gathered(trainer.model), _generating_alone(trainer.model):
            yield
        return
    if _is_untouched(trainer):
        yield
        return
    from trl.models.utils import unwrap_model_for_generation

    offload = getattr(getattr(trainer.model_wrapped, "optimizer", None), "parameter_offload", None)
    if offload is not None:  # ZeRO-3: TRL leaves one hook, by which ranks compare notes at each forward
        offload.fwd_pre_hook.remove()
    load_models_whole()  # the trainer set it again; `generate` would wait for the other ranks at each token
    with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator):
        yield
