"""A stage's checkup: its parts, parameters, memory, work, kernels and surroundings, and what is wrong with them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from epo.data.dialogue import Dialogue
from epo.data.replies import Reply
from epo.data.selection import held_out_dialogues, held_out_replies, labelled_clips, replies_of_split, with_history
from epo.model.memory_estimate import Parameters, Sharding
from epo.model.quantized import weight_sizes
from epo.model.scaling import Machine, bytes_sent, step_time
from launch.checkup.kernels import kernel_lines
from launch.checkup.lengths import Lengths, Readers, measure_clips, measure_replies, readers_of, unknown_lengths
from launch.checkup.memory import MemoryEstimate, estimate_answering, estimate_training, weigh
from launch.checkup.parts_found import PartFinder, PartFound, compressor_of, extractor_of, local_folder, text_config
from launch.checkup.planned_stages import PlannedStage
from launch.checkup.stage_models import Parts, Precision, StageModel, build_stage, count_parameters
from launch.checkup.surroundings import (
    Device,
    clip_state,
    device_of_ranks,
    free_bytes,
    is_writable,
    missing_media,
    tracking_state,
)
from launch.folder.space import bytes_to_write, size_text
from launch.planning.stage_counts import part_keys
from launch.precision_check import NO_FSDP, NO_ZERO3
from launch.tracking import tracking_uri

_TRAINED = ("extractor.py", "compressor.py", "sft.py", "epo.py")
_LIMITS = ("max_audio_seconds", "max_frames", "max_prompt_tokens", "system_prompt")
"""Keys of the stages that made a model which say how much it reads."""
_SLACK = {True: 1.1, False: 1.5}
"""What Python, torch and the allocator take besides, on a GPU and on a CPU: nearer to the limit is a warning."""


@dataclass
class Checkup:
    """What was found; groups that a stage has nothing of stay empty.

    Attributes:
        name: of the stage.
        title: the stage, its recipe and how it is started.
        parts: it names.
        parameters: by component, trained and frozen.
        device: that a rank computes on.
        memory: of a rank; None where it cannot be told.
        lengths: of its data.
        work: lines about steps, tokens and examples.
        kernels: lines about fast kernels.
        around: lines about disk, tracking and clips.
        problems: why it cannot run, a line each with the remedy.
        warnings: what may be better otherwise.
    """

    name: str
    title: str
    parts: list[PartFound] = field(default_factory=list)
    parameters: dict[str, tuple[int, int]] = field(default_factory=dict)
    device: Device | None = None
    memory: MemoryEstimate | None = None
    lengths: Lengths | None = None
    work: list[str] = field(default_factory=list)
    kernels: list[str] = field(default_factory=list)
    around: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def examine(planned: PlannedStage, root: str | None = None) -> Checkup:
    """Look at a stage.

    Args:
        planned: the stage and what comes before it.
        root: folder of parts; None for what the recipe or the environment says.
    """
    stage, recipe, start = planned.stage, planned.recipe, planned.start
    by = "python" if start.settings is None else f"{start.settings}, {start.num_ranks} processes"
    script = stage.script if stage.verb is None else f"{stage.script} {stage.verb}"
    found = Checkup(stage.name, f"{stage.name}: {script} --config {stage.config} ({by})")
    found.problems += planned.check.errors
    found.warnings += planned.check.warnings
    if recipe is None:
        return found
    found.device = device_of_ranks(start.ranks_here, start.wants_cpu)
    if not start.wants_cpu and not found.device.is_cuda and start.settings is not None:
        found.warnings.append(f"{start.settings} wants GPUs, and there is none here: memory is told as for a CPU")
    finder = PartFinder(planned.files, getattr(recipe, "parts_root", None) if root is None else root)
    _look_for_parts(found, planned, finder)
    dialogues = _quietly(planned.files.dialogues, getattr(recipe, "data", None))
    parts = _parts(planned.script, recipe, found.parts)
    if planned.script in (*_TRAINED, "evaluate.py") and parts is not None:
        _weigh(found, planned, parts, finder, dialogues)
    _count(found, planned)
    _look_around(found, planned, dialogues)
    live, missing = kernel_lines(parts or Parts(), found.device.is_cuda)
    found.kernels += live
    found.warnings += missing
    return found


def _reads_clips(script: str, recipe: Any) -> bool:
    """Tell whether a stage hears and sees: the compressor and text tuning do not."""
    return script in ("extractor.py", "epo.py", "evaluate.py") or (script == "sft.py" and recipe.input != "text")


def _look_for_parts(found: Checkup, planned: PlannedStage, finder: PartFinder) -> None:
    for key in part_keys(planned.script, planned.recipe, planned.stage.verb):
        names = getattr(planned.recipe, key)
        for name in names if isinstance(names, list) else [] if names is None else [names]:
            part = finder.find(key, name)
            found.parts.append(part)
            if part.problem is not None and not any(line.startswith(f"{key}: ") for line in found.problems):
                found.problems.append(part.problem)


def _parts(script: str, recipe: Any, found: Sequence[PartFound]) -> Parts | None:
    """Return the configurations of a stage's model, None where one of them is not known or of another family."""
    configs = {part.key: part.config for part in found if part.config is not None}
    if script == "extractor.py":
        both = [configs.get(key) for key in ("audio_encoder", "vision_tower")]
        return None if None in both else Parts(extractor=extractor_of(recipe, *both))
    if script == "compressor.py":
        both = [configs.get(key) for key in ("llm", "backbone")]
        return None if None in both else Parts(text_config(both[0]), None, compressor_of(recipe, *both))
    if script == "sft.py" and recipe.input == "text":
        return Parts(text_config(configs["llm"])) if "llm" in configs else None
    if script == "sft.py" and recipe.model is None:
        three = [configs.get(key) for key in ("llm", "extractor", "compressor")]
        return None if None in three else Parts(text_config(three[0]), *three[1:])
    whole = next((config for config in configs.values() if config.model_type == "epo"), None)
    return None if whole is None else Parts(whole.text_config, whole.extractor_config, whole.compressor_config)


def _weigh(
    found: Checkup, planned: PlannedStage, parts: Parts, finder: PartFinder, dialogues: list[Dialogue] | None
) -> None:
    """Count parameters and estimate memory; a family that cannot be built or stepped through is told as such."""
    recipe, script, start = planned.recipe, planned.script, planned.start
    bf16 = getattr(recipe, "bf16", False)
    is_bf16 = script == "epo.py" if bf16 is None else bool(bf16)
    if (start.zero_stage == 3 or start.is_fsdp) and getattr(recipe, "quantize", "none") != "none":
        found.problems.append(NO_FSDP if start.is_fsdp else NO_ZERO3)
    precision = Precision(getattr(recipe, "dtype", "float32"), is_bf16, start.zero_stage is not None)
    try:
        stage = build_stage(script, recipe, parts, precision)
    except Exception as error:  # whatever a family's own code does with a configuration that is not for it
        found.problems.append(f"the model cannot be built from these parts: {' '.join(str(error).split())[:200]}")
        return
    found.parameters = count_parameters(stage)
    found.lengths = _lengths(planned, parts, finder, dialogues)
    try:
        found.memory = _estimate(planned, parts, precision, found)
    except Exception as error:  # likewise: some models look at values, which are not there
        found.warnings.append(
            f"memory cannot be told for this model: {type(error).__name__} {' '.join(str(error).split())[:90]}"
        )
    if found.memory is not None and found.device is not None:
        _compare(found, planned)
    found.warnings += _uncounted(script, recipe)
    if script in _TRAINED:
        _require_disk(found, planned, stage)


def _uncounted(script: str, recipe: Any) -> list[str]:
    """Return what an extractor is taught through, which parameters and memory above do not hold."""
    if script != "extractor.py":
        return []
    through = ["the frozen language model that descriptions are learnt through"] if recipe.descriptions else []
    through += ["a pretrained Whisper's decoder, which words are learnt through"] if recipe.asr_weight > 0 else []
    return [f"memory: {one} is not counted; leave room for its weights and activations" for one in through]


def _estimate(planned: PlannedStage, parts: Parts, precision: Precision, found: Checkup) -> MemoryEstimate:
    recipe, start = planned.recipe, planned.start
    assert found.lengths is not None and found.device is not None
    if planned.script == "evaluate.py":
        tested = sum(part.key in ("sft", "control", "models") for part in found.parts)
        return estimate_answering(recipe, parts, precision, found.lengths.longest, min(max(tested, 1), 3))
    sharding = Sharding(start.num_ranks, start.zero_stage, found.device.is_cuda, start.is_fsdp)
    micro = recipe.per_device_train_batch_size * start.num_ranks
    accumulates = recipe.global_batch_size > micro
    return estimate_training(planned.script, recipe, parts, precision, sharding, found.lengths.longest, accumulates)


def _compare(found: Checkup, planned: PlannedStage) -> None:
    """Set an estimate against the device, with what would make it smaller."""
    assert found.memory is not None and found.device is not None
    wanted, there = found.memory.peak, found.device.memory
    smaller = "per_device_train_batch_size" if planned.script in _TRAINED else "batch_size"
    hints = [f"lower {smaller} or max_prompt_tokens"]
    if planned.script in _TRAINED and not getattr(planned.recipe, "gradient_checkpointing", False):
        hints.append("set gradient_checkpointing: true")
    if getattr(planned.recipe, "dtype", None) == "float32" and planned.script != "evaluate.py":
        hints.append("set dtype: bfloat16 and bf16: true")
    if getattr(planned.recipe, "tune", "lora") == "all":
        hints.append("set tune: lora")
    elif getattr(planned.recipe, "quantize", None) == "none":
        hints.append("set quantize: 4bit")
    if planned.start.zero_stage != 3 and not planned.start.is_fsdp and planned.start.num_ranks > 1:
        hints.append("start by zero3.yaml")
    text = f"memory: about {size_text(wanted)} are wanted and {size_text(there)} there"
    if not planned.start.wants_cpu and not found.device.is_cuda:
        return
    if wanted > there:
        found.problems.append(f"{text}; {', or '.join(hints)}")
    elif _SLACK[found.device.is_cuda] * wanted > there:
        found.warnings.append(f"{text}, which may be too tight; {', or '.join(hints)}")


def _require_disk(found: Checkup, planned: PlannedStage, stage: StageModel) -> None:
    """Set what a run writes against what is free."""
    # What is held in few bits is written as what it stands for.
    plain = 2 if getattr(planned.recipe, "dtype", None) == "bfloat16" else 4
    weights = sum(
        size * (p.element_size() if p.is_floating_point() else plain) for _, p, size in weight_sizes(stage.model)
    )
    wanted = bytes_to_write(planned.recipe, weights, weigh(stage).trained)
    free = free_bytes(Path(planned.recipe.output_dir))
    found.around.append(f"disk: up to {size_text(wanted)} of checkpoints and weights, {size_text(free)} free")
    if wanted > free:
        found.problems.append(
            f"disk: {size_text(free)} are free at {planned.recipe.output_dir}, and up to {size_text(wanted)} are "
            "written; free some, lower save_total_limit, or set output_dir on another file system"
        )


def _lengths(planned: PlannedStage, parts: Parts, finder: PartFinder, dialogues: list[Dialogue] | None) -> Lengths:
    recipe, script = planned.recipe, planned.script
    trains = script in _TRAINED
    rows = recipe.per_device_train_batch_size if trains else recipe.batch_size
    recipe = _with_limits(planned)
    if script == "extractor.py":
        clips = [] if dialogues is None else [clip for clip, _ in labelled_clips(dialogues)]
        return measure_clips(recipe, parts, clips, rows)
    replies = None if dialogues is None else _quietly(_replies, planned, dialogues)
    if not replies:
        return unknown_lengths(recipe, parts, rows)
    kind = "compressor" if script == "compressor.py" else "whole"
    kind = "text" if script == "sft.py" and recipe.input == "text" else kind
    lengths = measure_replies(recipe, parts, _readers(planned, finder, dialogues), replies, rows, kind)
    if trains:
        return lengths
    sizes = replace(lengths.longest, tokens=lengths.longest.tokens + recipe.max_new_tokens)
    return replace(lengths, longest=sizes)


def _with_limits(planned: PlannedStage) -> Any:
    """Return a stage's recipe with how much its model reads, as the stages that make it say."""
    recipe, known = planned.recipe, dict[str, Any]()
    for name in _chain(planned, "extractor"):
        for file in (Path(name, "clip_reader.json"), Path(name, "processor_config.json")):
            if file.is_file():
                known = json.loads(file.read_text(encoding="utf-8")) | known
        writer = planned.files.writer(name)
        if writer is not None and writer.recipe is not None:
            known = vars(writer.recipe) | known
    limits = {key: known[key] for key in _LIMITS if key in known}
    return SimpleNamespace(**(limits | vars(recipe)))


def _replies(planned: PlannedStage, dialogues: list[Dialogue]) -> Sequence[Reply] | None:
    """Return the replies that a stage learns from or is tested on."""
    recipe, script = planned.recipe, planned.script
    if script == "evaluate.py":
        held_out = held_out_dialogues(dialogues, recipe.split, recipe.data)
        return held_out_replies(held_out, recipe.split, recipe.data, recipe.replies)
    if script == "epo.py" or (script == "sft.py" and recipe.pairs is not None):
        pairs = planned.files.pairs(recipe.pairs, recipe.data, True)
        return None if pairs is None else pairs["train"]
    replies = replies_of_split(dialogues, "train", recipe.data, recipe.replies, getattr(recipe, "require_clip", False))
    return with_history(replies, "train", recipe.data) if script == "compressor.py" else replies


def _readers(planned: PlannedStage, finder: PartFinder, dialogues: list[Dialogue] | None) -> Readers:
    """Return the tokenizers of a stage: of its own parts, or of those that its parts will be made from."""
    places: list[str | None] = []
    for key in ("llm", "backbone"):
        name = _origin(planned, key)
        folder = None if name is None else local_folder(name, finder.root)
        is_config = folder is None and name is not None and name.endswith(".json")
        places.append(name if is_config else None if folder is None else str(folder))
    return readers_of(places[0], places[1], dialogues)


def _origin(planned: PlannedStage, wanted: str) -> str | None:
    """Return the folder, hub name or config that a part begins with."""
    return next(reversed(_chain(planned, wanted)), None)


def _chain(planned: PlannedStage, wanted: str) -> list[str]:
    """Follow a part through the stages that will make it: what each of them names."""
    recipe, names = planned.recipe, list[str]()
    for _ in range(8):  # a chain of stages is short; a circle would never end
        keys = (wanted, "compressor" if wanted == "backbone" else wanted, "model", "sft", "epo")
        name = next((getattr(recipe, key) for key in keys if getattr(recipe, key, None) is not None), None)
        writer = None if name is None else planned.files.writer(name)
        names += [] if name is None else [name]
        if name is None or Path(name, "config.json").is_file() or writer is None or writer.recipe is None:
            break
        recipe = writer.recipe
    return names


def _count(found: Checkup, planned: PlannedStage) -> None:
    """Say how much there is to learn from, and how much a step reads."""
    recipe, check = planned.recipe, planned.check
    counts = [(name, getattr(check, name)) for name in ("training", "validation", "test")]
    said = ", ".join(f"{name} {count:,}" for name, count in counts if count is not None)
    waits = "" if check.waits_for in (None, check.stage) else f"counted after stage {check.waits_for}"
    known = f"{'at most ' if check.is_upper_bound and said else ''}{said}"
    found.work.append(f"{check.unit}: {'; '.join(text for text in (known, waits) if text) or 'not counted'}")
    if not hasattr(recipe, "max_steps"):
        return
    seen = recipe.max_steps * recipe.global_batch_size
    passes = f", {seen / check.training:.2g} passes" if check.training else ""
    found.work.append(f"{recipe.max_steps:,} steps of {recipe.global_batch_size}: {seen:,} examples{passes}")
    if found.lengths is not None and found.lengths.mean_tokens is not None:
        rows = 2 if planned.script == "epo.py" else 1
        tokens = found.lengths.mean_tokens * recipe.global_batch_size * rows
        found.work.append(f"about {tokens:,.0f} tokens a step, {found.lengths.mean_tokens:,.0f} a row")
        if found.parameters and planned.start.num_ranks > 1 and not planned.start.wants_cpu:
            found.work.append(_on_paper(found, planned, round(tokens)))


def _on_paper(found: Checkup, planned: PlannedStage, tokens: int) -> str:
    """Say what devices would send and how long it would take, on machines that nobody has measured."""
    trained, frozen = (sum(pair[place] for pair in found.parameters.values()) for place in (0, 1))
    recipe, start, machine = planned.recipe, planned.start, Machine()
    parameters = Parameters(trained, frozen, 4 if start.is_fsdp else 2, 2)
    accumulation = max(1, recipe.global_batch_size // (recipe.per_device_train_batch_size * start.num_ranks))
    sharding = Sharding(start.num_ranks, start.zero_stage, is_cuda=True, is_fsdp=start.is_fsdp)
    again = bool(getattr(recipe, "gradient_checkpointing", False))
    seconds = step_time(parameters, sharding, tokens, machine, accumulation, again).total
    sent = bytes_sent(parameters, sharding, accumulation)
    return (
        f"on paper, {start.num_ranks} devices each send {size_text(sent)} a step and take {seconds:.2g} s, "
        f"{seconds * recipe.max_steps / 3600:.2g} h in all: {machine.flops_per_s / 1e12:.0f} TFLOP/s used to "
        f"{machine.utilisation:.0%}, {machine.devices_per_node} a node, {machine.network_bytes_per_s / 1e9:.0f} GB/s "
        "between nodes (docs/scaling.md)"
    )


def _look_around(found: Checkup, planned: PlannedStage, dialogues: list[Dialogue] | None) -> None:
    out = Path(planned.recipe.output_dir)
    if not is_writable(out):
        found.problems.append(f"output_dir: {out} cannot be written to; change its permissions, or name another folder")
    if not found.around:
        found.around.append(f"disk: {size_text(free_bytes(out))} free")
    state, wrong = tracking_state(tracking_uri(out))
    found.around.append(f"MLflow: {state}")
    found.warnings += [] if wrong is None else [wrong]
    data = Path(str(getattr(planned.recipe, "data", "")))
    if not data.is_file() or not _reads_clips(planned.script, planned.recipe):
        return
    missing = missing_media(data)
    if missing:
        found.problems.append(
            f"clips: {len(missing):,} media files of {data} are missing, such as {missing[0]}; import the corpus anew"
        )
    if dialogues is not None and not missing:
        state, problems = clip_state(dialogues)
        found.around.append(state)
        found.problems += problems


def _quietly(action: Any, *arguments: Any) -> Any:
    """Return what an action returns, None where it raises what the stage's counts have told already."""
    if None in arguments:
        return None
    try:
        return action(*arguments)
    except ValueError:
        return None


__all__ = ["Checkup", "examine"]
