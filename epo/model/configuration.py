"""Configurations of the Audio-Visual Emotion Extractor and of the whole dialogue model."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from compressor.configuration import forget_dtype
from epo.emotions import EMOTIONS
from epo.model.hearing import hearing_of


def _as_config(value: Any, default_type: str) -> PreTrainedConfig:
    """Return a config object, without a dtype of its own, for a dict that may name its `model_type`."""
    if isinstance(value, PreTrainedConfig):
        return forget_dtype(value)
    values = {} if value is None else dict(value)
    return forget_dtype(AutoConfig.for_model(values.pop("model_type", default_type), **values))


class ExtractorConfig(PreTrainedConfig):
    """Sizes of the `EmotionExtractor`.

    Attributes:
        audio_config: configuration of an audio encoder (`epo.model.hearing`); of Whisper only the encoder is built.
        vision_config: configuration of a vision tower (`epo.model.seeing`).
        hidden_size: width of the fusion.
        num_heads: attention heads of the temporal and fusion layers.
        num_temporal_layers: layers over the frames.
        num_fusion_layers: layers over audio and video together.
        audio_stack: encoder frames (50 a second) joined into one token; 8 gives 6.25 tokens a second.
        patch_grid: a frame's patches are averaged over a grid of this many cells a side, then joined to one token.
        max_frames: longest video, in sampled frames.
        dropout: dropout of the temporal and fusion layers while training.
        augmentation: strength of `epo.model.augmentation` while training, 0 to switch it off.
        has_vad: whether there is a head for valence, arousal and dominance, too.
    """

    model_type = "epo_extractor"
    sub_configs = {"audio_config": AutoConfig, "vision_config": AutoConfig}

    audio_config: Any = None
    vision_config: Any = None
    hidden_size: int = 128
    num_heads: int = 4
    num_temporal_layers: int = 1
    num_fusion_layers: int = 1
    audio_stack: int = 8
    patch_grid: int = 2
    max_frames: int = 64
    dropout: float = 0.1
    augmentation: float = 1.0
    has_vad: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the sub-configurations and name the labels."""
        self.audio_config = _as_config(self.audio_config, "whisper")
        self.vision_config = _as_config(self.vision_config, "siglip_vision_model")
        kwargs.setdefault("id2label", dict(enumerate(EMOTIONS)))
        kwargs.setdefault("label2id", {name: index for index, name in enumerate(EMOTIONS)})
        super().__post_init__(**kwargs)

    def num_audio_tokens(self, num_steps: int) -> int:
        """Return the tokens of a clip with this many steps, such as mel frames (100 a second); 0 for no audio."""
        return -(-hearing_of(self.audio_config).num_states(num_steps) // self.audio_stack)


class EpoConfig(PreTrainedConfig):
    """Configuration of `EpoForConditionalGeneration`: a language model, an extractor, a compressor.

    Attributes:
        text_config: configuration of any causal language model.
        extractor_config: an `ExtractorConfig`.
        compressor_config: a `MambaCompressorConfig`, or that of another kind (`compressor.kinds`).
        audio_token_id: id that stands for one audio token in a prompt; likewise the other three. They may lie
            beyond the language model's vocabulary.
        video_token_id: see `audio_token_id`.
        emotion_token_id: see `audio_token_id`.
        memory_token_id: see `audio_token_id`.
        embedding_std: standard deviation of the language model's embeddings, the scale of projected clips.
        low_rank: full name of each linear layer that has a low-rank change beside it, and the rank of that
            (`epo.model.low_rank`); None for no such layer.
    """

    model_type = "epo"
    sub_configs = {
        "text_config": AutoConfig,
        "extractor_config": ExtractorConfig,
        "compressor_config": AutoConfig,
    }

    text_config: Any = None
    extractor_config: Any = None
    compressor_config: Any = None
    audio_token_id: int = 0
    video_token_id: int = 0
    emotion_token_id: int = 0
    memory_token_id: int = 0
    embedding_std: float = 0.02
    low_rank: dict[str, int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Build the sub-configurations; whether input and output embeddings are tied is the language model's say."""
        self.text_config = _as_config(self.text_config, "qwen3")
        self.extractor_config = _as_config(self.extractor_config, "epo_extractor")
        self.compressor_config = _as_config(self.compressor_config, "mamba_compressor")
        kwargs["tie_word_embeddings"] = self.text_config.tie_word_embeddings
        super().__post_init__(**kwargs)


AutoConfig.register("epo_extractor", ExtractorConfig)
AutoConfig.register("epo", EpoConfig)
