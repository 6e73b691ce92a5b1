"""Parts of the model by name: a hub name or a folder is loaded, a `.json` file is a config to start from nothing."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPImageProcessorPil,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipImageProcessorPil,
    WhisperFeatureExtractor,
)

from compressor.configuration import MambaCompressorConfig
from compressor.language_model import embedding_std, require_supported, text_part
from compressor.modeling import MambaCompressor
from epo.model.configuration import ExtractorConfig
from epo.model.extractor import EmotionExtractor
from epo.model.tokenizer import train_tokenizer
from launch.recipe import RecipeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_llm(part: str, dtype: str) -> PreTrainedModel:
    """Return a causal language model; of a multimodal checkpoint the part that reads text.

    Raises:
        RecipeError: the part cannot be found or its config is not one.
        LanguageModelError: its family cannot read memories and clips.
    """
    config = _config(part)
    if is_config_file(part):
        llm = AutoModelForCausalLM.from_config(config).to(DTYPES[dtype])
    elif config.get_text_config() is not config:
        llm = text_part(_pretrained(AutoModelForImageTextToText, part, dtype=DTYPES[dtype]))
    else:
        llm = _pretrained(AutoModelForCausalLM, part, dtype=DTYPES[dtype])
    require_supported(llm)
    return llm


def load_tokenizer(part: str, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a part; for a config file, one of its vocabulary size trained on `texts`."""
    if is_config_file(part):
        return train_tokenizer(texts, _config(part).vocab_size)
    return _pretrained(AutoTokenizer, part)


def build_extractor(audio: str, vision: str, sizes: dict[str, Any]) -> tuple[EmotionExtractor, Any, Any]:
    """Join a Whisper-family encoder and a CLIP or SigLIP tower into an untrained-above extractor.

    Args:
        audio: a Whisper model or config file.
        vision: a CLIP or SigLIP model or config file.
        sizes: further fields of `ExtractorConfig`.

    Returns:
        The extractor, its feature extractor and its image processor.
    """
    audio_config, vision_config = _config(audio), _config(vision)
    vision_config = getattr(vision_config, "vision_config", vision_config)
    extractor = EmotionExtractor(ExtractorConfig(audio_config=audio_config, vision_config=vision_config, **sizes))
    if not is_config_file(audio):
        extractor.audio_encoder.load_state_dict(_pretrained(AutoModel, audio).get_encoder().state_dict())
    if not is_config_file(vision):
        tower = _pretrained(AutoModel, vision)
        extractor.vision_tower.load_state_dict(getattr(tower, "vision_model", tower).state_dict(), strict=False)
    return extractor, _feature_extractor(audio, audio_config), _image_processor(vision, vision_config)


def build_compressor(
    part: str, num_memory_tokens: int, llm: PreTrainedModel, system_prompt: str | None = None
) -> MambaCompressor:
    """Put memory slots and a projection for this language model on a Mamba backbone.

    Args:
        part: the backbone.
        num_memory_tokens: k.
        llm: the language model that will read the memories.
        system_prompt: what it reads before them while they are trained, written into the configuration.
    """
    compressor = MambaCompressor(
        MambaCompressorConfig(
            backbone_config=_config(part),
            num_memory_tokens=num_memory_tokens,
            output_size=llm.get_input_embeddings().embedding_dim,
            output_std=embedding_std(llm),
            llm_fingerprint=embedding_fingerprint(llm),
            system_prompt=system_prompt,
        )
    )
    if not is_config_file(part):
        compressor.backbone = _pretrained(AutoModel, part)
    return compressor


def embedding_fingerprint(llm: PreTrainedModel) -> str:
    """Return a hash of the first thousand token embeddings, rounded so that float32 and bfloat16 copies agree."""
    rows = llm.get_input_embeddings().weight.detach()[:1000].to("cpu", torch.bfloat16).view(torch.int16)
    return hashlib.sha256(rows.contiguous().numpy().tobytes()).hexdigest()[:16]


def is_config_file(part: str) -> bool:
    """Tell whether a part is a config to start from nothing."""
    return part.endswith(".json")


def _config(part: str) -> Any:
    if not is_config_file(part):
        return _pretrained(AutoConfig, part)
    try:
        values = json.loads(Path(part).read_text(encoding="utf-8"))
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"{part}: not the config of a part ({error!r}); see recipes/quickstart/parts") from error


def _pretrained(auto: Any, part: str, **kwargs: Any) -> Any:
    try:
        return auto.from_pretrained(part, **kwargs)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(f"{part}: neither a folder nor a reachable hub name holds this part ({reason})") from error


def _feature_extractor(audio: str, config: Any) -> Any:
    if is_config_file(audio):
        return WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    return _pretrained(AutoFeatureExtractor, audio)


def _image_processor(vision: str, config: Any) -> Any:
    # The Pillow processors, because torchvision is no requirement of the project.
    processor = CLIPImageProcessorPil if config.model_type.startswith("clip") else SiglipImageProcessorPil
    if not is_config_file(vision):
        return _pretrained(processor, vision)
    size = {"height": config.image_size, "width": config.image_size}
    return processor(size=size, crop_size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
