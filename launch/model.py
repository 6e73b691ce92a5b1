"""The whole model from its trained parts, or from one folder."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModel, AutoTokenizer

from compressor.chat import chat_format
from compressor.language_model import require_supported
from compressor.modeling import MambaCompressor
from epo.model.clip_reader import ClipReader
from epo.model.configuration import EpoConfig
from epo.model.extractor import EmotionExtractor
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.processing import EpoProcessor, add_placeholders
from launch.parts import embedding_fingerprint, load_llm, load_tokenizer, load_weights
from launch.recipe import RecipeError


def join_parts(recipe: Any) -> tuple[EpoForConditionalGeneration, EpoProcessor]:
    """Join language model, extractor and compressor.

    Args:
        recipe: has `llm`, `extractor`, `compressor`, `dtype`, `max_prompt_tokens`, `system_prompt`.

    Raises:
        RecipeError: a folder does not hold the part it should, or the compressor was trained for another model or
            after another system prompt.
        ChatTemplateError: the language model's tokenizer has no chat template that fits.
        ModelFitError: the compressor was made for a language model of another width.
    """
    tokenizer = load_tokenizer(recipe.llm, ())
    chat = chat_format(tokenizer)  # before anything large is loaded
    llm = load_llm(recipe.llm, recipe.dtype)
    chat.require_table(llm.get_input_embeddings().num_embeddings)
    extractor = _part(recipe.extractor, EmotionExtractor, "launch/extractor.py")
    compressor = _part(recipe.compressor, MambaCompressor, "launch/compressor.py")
    made_for = compressor.config.llm_fingerprint
    if made_for and made_for != embedding_fingerprint(llm):
        raise RecipeError(
            f"{recipe.compressor}: was trained for another language model than {recipe.llm}, whose embeddings its "
            "memories would not match; train it anew with launch/compressor.py"
        )
    trained_with = compressor.config.system_prompt
    if trained_with is not None and trained_with != recipe.system_prompt:
        raise RecipeError(
            f"system_prompt: {recipe.compressor} was trained with {trained_with!r}, this recipe says "
            f"{recipe.system_prompt!r}, before which its memories were never read; give both stages the same"
        )
    reader = ClipReader.load(Path(recipe.extractor))
    model = EpoForConditionalGeneration.from_parts(llm, extractor, compressor, tokenizer, add_placeholders(tokenizer))
    processor = EpoProcessor(
        reader.feature_extractor,
        reader.image_processor,
        tokenizer,
        AutoTokenizer.from_pretrained(recipe.compressor),
        history_vocab_size=compressor.vocab_size,
        num_memory_tokens=compressor.config.num_memory_tokens,
        audio_stack=extractor.config.audio_stack,
        system_prompt=recipe.system_prompt,
        max_prompt_tokens=recipe.max_prompt_tokens,
        max_audio_seconds=reader.max_audio_seconds,
        video_fps=reader.video_fps,
        max_frames=reader.max_frames,
        face_detector=reader.face_detector,
    )
    return model, processor


def load_model(folder: str, dtype: str, bf16: bool = False) -> tuple[EpoForConditionalGeneration, EpoProcessor]:
    """Load a whole model and its processor from a folder written by launch/sft.py.

    Args:
        folder: of the model.
        dtype: of all its weights, whatever they were saved in.
        bf16: whether it will be computed with in bfloat16 whatever its weights are.

    Raises:
        RecipeError: the folder holds no such model or not all of it, or its LoRA was tuned in float32 and would be lost
            in bfloat16.
        LanguageModelError: its language model scores embeddings otherwise than words, or not at all.
    """
    try:
        config = EpoConfig.from_pretrained(folder)
        processor = EpoProcessor.from_pretrained(folder)
    except OSError as error:
        raise RecipeError(f"{folder}: no model of this project ({error}); run launch/sft.py first") from error
    is_rounded = bf16 or dtype == "bfloat16"
    if is_rounded and config.low_rank is None and config.dtype in ("float32", torch.float32):
        raise RecipeError(
            f"{folder}: was tuned in float32, and bfloat16 would round away what its LoRA learnt; set dtype: float32 "
            "and bf16: false, or tune it with bf16: true"
        )
    model = load_weights(EpoForConditionalGeneration, folder, dtype, is_ours=True)
    processor.require_fit(model.config)
    require_supported(model.language_model)
    return model, processor


def load_adapter(model: EpoForConditionalGeneration, folder: str) -> PeftModel:
    """Put the LoRA of a folder written by launch/epo.py on the model that it was trained on, all of it.

    Raises:
        RecipeError: the folder holds none, or one that lacks weights or has others, which PEFT would only warn of.
    """
    file = Path(folder) / "adapter_model.safetensors"
    if not file.is_file():
        raise RecipeError(f"{folder}: has no {file.name}; make it with launch/epo.py")
    try:
        policy = PeftModel.from_pretrained(model, folder)
    except (ValueError, RuntimeError) as error:  # layers that are not there, or of another size
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(f"{folder}: does not fit the model, which it was not trained on ({reason})") from error
    with safe_open(file, "pt") as saved:
        strange = sorted(set(saved.keys()) ^ set(get_peft_model_state_dict(policy)))
    if strange:
        raise RecipeError(
            f"{folder}: {len(strange)} weights are missing or left over ({strange[0]}, ...); train it anew with "
            "launch/epo.py"
        )
    return policy


def _part(folder: str, kind: type, made_by: str) -> Any:
    try:
        part = load_weights(AutoModel, folder, is_ours=True)
    except ValueError as error:
        raise RecipeError(f"{folder}: cannot be loaded ({error}); make it with {made_by}") from error
    if not isinstance(part, kind):
        raise RecipeError(f"{folder}: holds a {type(part).__name__}, want a {kind.__name__} made with {made_by}")
    return part
