"""The whole model from its trained parts, or from one folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from compressor.chat import chat_format
from compressor.language_model import require_supported
from compressor.modeling import MambaCompressor
from epo.model.checkpoints import load_weights
from epo.model.clip_reader import ClipReader
from epo.model.configuration import EpoConfig
from epo.model.extractor import EmotionExtractor
from epo.model.linears import linears_below
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.parts import embedding_fingerprint, load_llm, load_tokenizer
from epo.model.processing import EpoProcessor
from epo.model.quantized import Quantization, quantize_linears, require_quantizer
from epo.part_names import PartError, find_part
from epo.prompts.layout import LAYOUT, LayoutError
from epo.prompts.marks import add_placeholders
from epo.prompts.thought import Think


def join_parts(
    llm: str,
    extractor: str,
    compressor: str,
    *,
    dtype: str = "float32",
    quantize: Quantization = "none",
    max_prompt_tokens: int = 4096,
    system_prompt: str = "",
    prompt_parts: Sequence[str] = LAYOUT,
    think: Think = "none",
) -> tuple[EpoForConditionalGeneration, EpoProcessor]:
    """Join language model, extractor and compressor.

    A head for valence, arousal and dominance stays behind: tuning moves what it reads. The extractor's own folder
    keeps it.

    Args:
        llm: a causal language model: hub name or folder.
        extractor: folder written by launch/extractor.py.
        compressor: folder written by launch/compressor.py.
        dtype: of the language model's weights.
        quantize: how its linear layers are held.
        max_prompt_tokens: oldest turns give way beyond it.
        system_prompt: first message of every prompt, empty for none.
        prompt_parts: what prompts consist of, in order (`epo.prompts.layout`).
        think: what is written of the user before a reply (`epo.prompts.thought`).

    Raises:
        MissingExtraError: the kernels that `quantize` needs are not installed.
        QuantizationError: the language model has no linear layer to quantize.
        PartError: a folder does not hold the part it should, or the compressor was trained for another model or
            after another system prompt.
        ChatTemplateError: the language model's tokenizer has no chat template that fits.
        ModelFitError: the compressor was made for a language model of another width.
    """
    tokenizer = load_tokenizer(llm, ())
    chat = chat_format(tokenizer)  # before anything large is loaded
    language_model = load_llm(llm, dtype, quantize)
    chat.require_table(language_model.get_input_embeddings().num_embeddings)
    hearing = load_part(extractor, EmotionExtractor, "launch/extractor.py")
    hearing.drop_vad_head()  # the states it reads will move, and nothing would train it with them
    memory = load_part(compressor, MambaCompressor, "launch/compressor.py")
    made_for = memory.config.llm_fingerprint
    if made_for and made_for != embedding_fingerprint(language_model):
        raise PartError(
            f"{compressor}: was trained for another language model than {llm}, whose embeddings its "
            "memories would not match; train it anew with launch/compressor.py"
        )
    trained_with = memory.config.system_prompt
    if trained_with is not None and trained_with != system_prompt:
        raise PartError(
            f"system_prompt: {compressor} was trained with {trained_with!r}, this recipe says "
            f"{system_prompt!r}, before which its memories were never read; give both stages the same"
        )
    reader = ClipReader.load(Path(extractor))
    model = EpoForConditionalGeneration.from_parts(
        language_model, hearing, memory, tokenizer, add_placeholders(tokenizer)
    )
    processor = EpoProcessor(
        reader.feature_extractor,
        reader.image_processor,
        tokenizer,
        AutoTokenizer.from_pretrained(compressor),
        history_vocab_size=memory.vocab_size,
        num_memory_tokens=memory.config.num_memory_tokens,
        audio_stack=hearing.config.audio_stack,
        system_prompt=system_prompt,
        max_prompt_tokens=max_prompt_tokens,
        max_audio_seconds=reader.max_audio_seconds,
        video_fps=reader.video_fps,
        max_frames=reader.max_frames,
        face_detector=reader.face_detector,
        prompt_parts=prompt_parts,
        history_emotions=memory.config.history_emotions,
        think=think,
    )
    return model, processor


def load_model(
    folder: str, dtype: str, bf16: bool = False, quantize: Quantization = "none"
) -> tuple[EpoForConditionalGeneration, EpoProcessor]:
    """Load a whole model and its processor from a folder written by launch/sft.py.

    Args:
        folder: of the model, or its name on the hub.
        dtype: of all its weights, whatever they were saved in.
        bf16: whether it will be computed with in bfloat16 whatever its weights are.
        quantize: how its language model's linear layers are held.

    Raises:
        MissingExtraError: the kernels that `quantize` needs are not installed.
        QuantizationError: its language model has no linear layer to quantize.
        PartError: the folder holds no such model or not all of it, or its LoRA was tuned in float32 and would be lost
            in bfloat16, or in few bits.
        LanguageModelError: its language model scores embeddings otherwise than words, or not at all.
    """
    require_quantizer(quantize)
    place = find_part(folder)
    try:
        kind = EpoConfig.get_config_dict(place.source, **place.settings)[0].get("model_type")
        if kind is None:
            raise PartError(f"{folder}: no model of this project (no config.json names one); run launch/sft.py first")
        if kind != EpoConfig.model_type:
            raise PartError(
                f"{folder}: holds a model of type {kind!r}, want one of type {EpoConfig.model_type!r}, as "
                "launch/sft.py writes it; other families are trained by launch/epo.py alone"
            )
        config = EpoConfig.from_pretrained(place.source, **place.settings)
        processor = EpoProcessor.from_pretrained(place.source, **place.settings)
    except OSError as error:
        raise PartError(f"{folder}: no model of this project ({error}); run launch/sft.py first") from error
    except LayoutError as error:
        raise PartError(f"{folder}: {error}") from error
    has_taken_lora_in = config.low_rank is None and config.dtype in ("float32", torch.float32)
    if has_taken_lora_in and (bf16 or dtype == "bfloat16"):
        raise PartError(
            f"{folder}: was tuned in float32, and bfloat16 would round away what it learnt; set dtype: float32 "
            "and bf16: false, or tune it with bf16: true"
        )
    model = load_weights(EpoForConditionalGeneration, folder, dtype, is_ours=True)
    processor.require_fit(model.config)
    require_supported(model.language_model)
    model.has_taken_lora_in = has_taken_lora_in
    if quantize != "none":
        quantize_linears(model, linears_below(model, "language_model."), quantize, folder)
    return model, processor


def load_adapter(model: EpoForConditionalGeneration, folder: str) -> PeftModel:
    """Put the LoRA of a folder written by launch/epo.py on the model that it was trained on, all of it.

    Raises:
        PartError: the folder holds none, or one that lacks weights or has others, which PEFT would only warn of.
    """
    file = Path(folder) / "adapter_model.safetensors"
    if not file.is_file():
        raise PartError(f"{folder}: has no {file.name}; make it with launch/epo.py")
    try:
        policy = PeftModel.from_pretrained(model, folder)
    except (ValueError, RuntimeError) as error:  # layers that are not there, or of another size
        reason = str(error).strip().splitlines()[0]
        raise PartError(f"{folder}: does not fit the model, which it was not trained on ({reason})") from error
    with safe_open(file, "pt") as saved:
        strange = sorted(set(saved.keys()) ^ set(get_peft_model_state_dict(policy, save_embedding_layers=False)))
    if strange:
        raise PartError(
            f"{folder}: {len(strange)} weights are missing or left over ({strange[0]}, ...); train it anew with "
            "launch/epo.py"
        )
    return policy


def continue_adapter(policy: PeftModel, folder: str) -> None:
    """Give a policy's fresh LoRA the weights of one that was trained before, so that training goes on from them.

    The reference stays the model without any LoRA: what all rounds together may change is bounded by one beta.

    Args:
        policy: with a LoRA of the same rank, scale and layers.
        folder: written by launch/epo.py.

    Raises:
        PartError: the folder holds no adapter, or one of another shape, scale or variant.
    """
    file = Path(folder) / "adapter_model.safetensors"
    if not file.is_file():
        raise PartError(f"{folder}: has no {file.name}; make it with launch/epo.py")
    before, now = PeftConfig.from_pretrained(folder).to_dict(), policy.peft_config["default"].to_dict()
    names = {"r": "lora_rank", "lora_alpha": "lora_alpha", "use_rslora": "lora_variant", "use_dora": "lora_variant"}
    for name, key in names.items():
        if before.get(name) != now.get(name):
            raise PartError(
                f"{folder}: was trained with {name} {before.get(name)}, this LoRA has {now.get(name)}; give the recipe "
                f"its {key}"
            )
    weights = load_file(file)
    fresh = get_peft_model_state_dict(policy, save_embedding_layers=False)
    strange = sorted(weights.keys() ^ fresh.keys())
    strange += [name for name in weights.keys() & fresh.keys() if weights[name].shape != fresh[name].shape]
    if strange:
        raise PartError(
            f"{folder}: does not fit the model, which it was not trained on: {len(strange)} weights are missing, left "
            f"over or of another size ({strange[0]}, ...)"
        )
    set_peft_model_state_dict(policy, weights)


def load_part(folder: str, kind: type, made_by: str) -> Any:
    """Return a trained part of ours from its folder.

    Args:
        folder: of the part.
        kind: its class.
        made_by: the script that writes it, for messages.

    Raises:
        PartError: the folder does not hold one.
    """
    try:
        part = load_weights(AutoModel, folder, is_ours=True)
    except ValueError as error:
        raise PartError(f"{folder}: cannot be loaded ({error}); make it with {made_by}") from error
    if not isinstance(part, kind):
        raise PartError(f"{folder}: holds a {type(part).__name__}, want a {kind.__name__} made with {made_by}")
    return part
