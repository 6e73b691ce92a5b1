"""Configuration of the MambaCompressor."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig


def forget_dtype(config: PreTrainedConfig) -> PreTrainedConfig:
    """Drop the dtypes that a part's configuration and those inside it were saved with, in place; returns it.

    transformers makes each part of a model in the dtype that its own configuration says, whatever was asked of the
    whole. The dtype of a part is the whole's.
    """
    config.dtype = None
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, PreTrainedConfig):
            forget_dtype(part)
    return config


class MambaCompressorConfig(PreTrainedConfig):
    """Sizes of a `MambaCompressor`.

    Attributes:
        backbone_config: configuration of the Mamba backbone, as a dict with `model_type` or a config object.
        num_memory_tokens: k, memory tokens a turn.
        output_size: width of the language model's embeddings.
        output_std: standard deviation of the language model's embeddings, which fresh memories start with; 1.0
            would drown out its words.
        llm_fingerprint: of the language model's embeddings the compressor was trained for; empty where unknown.
        system_prompt: first message of every prompt it was trained with, empty for none; None where unknown.
        history_emotions: whether the turns it was trained on tell their emotion: `user (sad): I lost my keys.`.
    """

    model_type = "mamba_compressor"
    sub_configs = {"backbone_config": AutoConfig}

    backbone_config: Any = None
    num_memory_tokens: int = 2
    output_size: int = 128
    output_std: float = 0.02
    llm_fingerprint: str = ""
    system_prompt: str | None = None
    history_emotions: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Turn a plain dict into the backbone's own config class; Mamba-2 where it names none."""
        if not isinstance(self.backbone_config, PreTrainedConfig):
            values = {} if self.backbone_config is None else dict(self.backbone_config)
            self.backbone_config = AutoConfig.for_model(values.pop("model_type", "mamba2"), **values)
        forget_dtype(self.backbone_config)
        super().__post_init__(**kwargs)
