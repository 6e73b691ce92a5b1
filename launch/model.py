"""The whole model from its trained parts, or from one folder."""

from pathlib import Path
from typing import Any

from transformers import AutoModel, AutoTokenizer

from compressor.chat import chat_format
from compressor.modeling import MambaCompressor
from epo.model.clip_reader import ClipReader
from epo.model.extractor import EmotionExtractor
from epo.model.modeling import EpoForConditionalGeneration
from epo.model.processing import EpoProcessor, add_placeholders
from launch.parts import DTYPES, embedding_fingerprint, load_llm, load_tokenizer
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


def load_model(folder: str, dtype: str) -> tuple[EpoForConditionalGeneration, EpoProcessor]:
    """Load a whole model and its processor from a folder written by launch/sft.py.

    Raises:
        RecipeError: the folder holds no such model.
    """
    try:
        model = EpoForConditionalGeneration.from_pretrained(folder, dtype=DTYPES[dtype])
        processor = EpoProcessor.from_pretrained(folder)
    except OSError as error:
        raise RecipeError(f"{folder}: no model of this project ({error}); run launch/sft.py first") from error
    processor.require_fit(model.config)
    return model, processor


def _part(folder: str, kind: type, made_by: str) -> Any:
    try:
        part = AutoModel.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{folder}: cannot be loaded ({error}); make it with {made_by}") from error
    if not isinstance(part, kind):
        raise RecipeError(f"{folder}: holds a {type(part).__name__}, want a {kind.__name__} made with {made_by}")
    return part
