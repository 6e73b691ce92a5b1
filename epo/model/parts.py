"""Parts of the model by name: a hub name or a folder is loaded, a `.json` file is a config to start from nothing."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from compressor.configuration import forget_dtype
from compressor.kinds import KINDS, sizes_of, take_over
from compressor.language_model import embedding_std, require_supported, text_part
from compressor.modeling import MambaCompressor
from compressor.precision import cast_weights
from epo.model.checkpoints import DTYPES, copy_weights, load_weights
from epo.model.configuration import ExtractorConfig
from epo.model.extractor import EmotionExtractor
from epo.model.hearing import hearing_of
from epo.model.linears import linears_below
from epo.model.quantized import Quantization, quantize_linears, require_quantizer
from epo.model.seeing import seeing_of, tower_config
from epo.model.tokenizer import train_tokenizer
from epo.part_names import PartError, find_part, read_part


def load_llm(part: str, dtype: str, quantize: Quantization = "none") -> PreTrainedModel:
    """Return a causal language model that memories and clips can be given to; else as `load_text_model`.

    Raises:
        MissingExtraError: the kernels that `quantize` needs are not installed.
        QuantizationError: it has no linear layer to quantize.
        PartError: the part cannot be found, its config is not one, or weights are missing.
        LanguageModelError: its family cannot read memories and clips.
    """
    llm = load_text_model(part, dtype, quantize)
    require_supported(llm)
    return llm


def load_text_model(part: str, dtype: str, quantize: Quantization = "none") -> PreTrainedModel:
    """Return a causal language model; of a multimodal checkpoint the part that reads text.

    Args:
        part: hub name (`epo.part_names`), folder or config file.
        dtype: of its weights, whatever they were saved in.
        quantize: how its linear layers are held; the head and the embeddings stay as they are.

    Raises:
        MissingExtraError: the kernels that `quantize` needs are not installed.
        QuantizationError: it has no linear layer to quantize.
        PartError: the part cannot be found, its config is not one, or weights are missing.
    """
    require_quantizer(quantize)
    config = _config(part)
    _require_causal(config, part)
    if is_config_file(part):
        llm = cast_weights(AutoModelForCausalLM.from_config(config), DTYPES[dtype])
    elif config.get_text_config() is not config:
        llm = text_part(load_weights(AutoModelForImageTextToText, part, dtype))
    else:
        llm = load_weights(AutoModelForCausalLM, part, dtype)
    if quantize != "none":
        quantize_linears(llm, linears_below(llm, ""), quantize, part)
    return llm


def load_tokenizer(part: str, texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a part; for a config file, one of its vocabulary size trained on `texts`."""
    if is_config_file(part):
        return train_tokenizer(texts, _config(part).vocab_size)
    return _pretrained(AutoTokenizer, part)


def build_extractor(audio: str, vision: str, sizes: dict[str, Any]) -> tuple[EmotionExtractor, Any, Any]:
    """Join an audio encoder and a vision tower into an untrained-above extractor.

    Args:
        audio: a model that `epo.model.hearing` knows, or its config file.
        vision: a model that `epo.model.seeing` knows, or its config file.
        sizes: further fields of `ExtractorConfig`.

    Returns:
        The extractor, its feature extractor and its image processor.

    Raises:
        PartError: a part is not there, not whole, or of a family that is not supported.
    """
    audio_config, vision_config = _config(audio), tower_config(_config(vision))
    hearing, seeing = _kind(hearing_of, audio_config, audio), _kind(seeing_of, vision_config, vision)
    feature_extractor = (
        hearing.make_processor(audio_config) if is_config_file(audio) else _pretrained(AutoFeatureExtractor, audio)
    )
    image_processor = (
        seeing.make_processor(vision_config)
        if is_config_file(vision)
        else seeing.load_processor(lambda kind: _pretrained(kind, vision), vision_config)
    )
    extractor = EmotionExtractor(ExtractorConfig(audio_config=audio_config, vision_config=vision_config, **sizes))
    if not is_config_file(audio):
        copy_weights(hearing.inside(load_weights(AutoModel, audio)), extractor.audio_encoder, audio)
    if not is_config_file(vision):
        tower = load_weights(AutoModel, vision, **dict(seeing.settings))
        copy_weights(getattr(tower, "vision_model", tower), extractor.vision_tower, vision)
    return extractor, feature_extractor, image_processor


def build_compressor(
    part: str, num_memory_tokens: int, llm: PreTrainedModel, system_prompt: str | None = None, kind: str = "mamba"
) -> MambaCompressor:
    """Put memory slots and a projection for this language model on a Mamba backbone, or on what stands in for one.

    Args:
        part: the backbone; a kind that is none takes its sizes, and starts from nothing.
        num_memory_tokens: k.
        llm: the language model that will read the memories.
        system_prompt: what it reads before them while they are trained, written into the configuration.
        kind: of `compressor.kinds.KINDS`.

    Raises:
        CompressorDataError: the kind is the language model itself, whose weights are held in few bits.
    """
    kind_of, table = KINDS[kind], llm.get_input_embeddings()
    compressor = kind_of(
        kind_of.config_class(
            num_memory_tokens=num_memory_tokens,
            output_size=table.embedding_dim,
            output_std=embedding_std(llm),
            llm_fingerprint=embedding_fingerprint(llm),
            system_prompt=system_prompt,
            **sizes_of(kind, _config(part), llm.config, table.num_embeddings),
        )
    )
    if kind == "mamba" and not is_config_file(part):
        compressor.backbone = load_weights(AutoModel, part)
    take_over(compressor, llm)
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
        return forget_dtype(_pretrained(AutoConfig, part))
    try:
        values = json.loads(Path(part).read_text(encoding="utf-8"))
        kind = type(AutoConfig.for_model(values["model_type"]))
        return forget_dtype(kind.from_json_file(part))  # which reads an infinity as transformers writes it
    except (OSError, KeyError, TypeError, ValueError, StrictDataclassError) as error:
        raise PartError(f"{part}: not the config of a part ({error!r}); see recipes/quickstart/parts") from error


def _pretrained(auto: Any, part: str, **settings: Any) -> Any:
    return read_part(auto.from_pretrained, find_part(part), **settings)


def _require_causal(config: Any, part: str) -> None:
    """Refuse a configuration whose model does not score the next token, before its weights are read.

    Raises:
        PartError: names its family.
    """
    kinds = {type(config), type(config.get_text_config())}
    is_causal = any(kind in MODEL_FOR_CAUSAL_LM_MAPPING for kind in kinds)
    is_masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if not is_causal or is_masked or config.is_encoder_decoder:
        raise PartError(
            f"{part}: is of family {config.model_type!r}, which is no causal language model; name one of those in "
            "docs/families.md"
        )


def _kind(find: Any, config: Any, part: str) -> Any:
    try:
        return find(config)
    except PartError as error:
        raise PartError(f"{part}: {error}") from None
