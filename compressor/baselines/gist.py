"""Gist: the language model itself reads the history, with a LoRA that learns; memories are its states at the slots."""

import math
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, Conv1D, PreTrainedModel

from compressor.configuration import MambaCompressorConfig
from compressor.modeling import MambaCompressor
from compressor.text import CompressorDataError

_SCALE = 2.0
"""Of the change, LoRA's alpha over its rank."""
_DOWN, _UP = "gist_down", "gist_up"


class GistConfig(MambaCompressorConfig):
    """Configuration of `Gist`; its backbone's is that of the language model.

    Attributes:
        rank: of the LoRA on each of its linear layers.
    """

    model_type = "gist_compressor"

    rank: int = 16


class Gist(MambaCompressor):
    """A copy of the language model, without its head, in Mamba's place.

    Its weights stand still; a LoRA on each of its linear layers learns, and so do slots, LayerNorm and projection. It
    reads the language model's own tokens, from left to right, so that no memory knows of later turns. Source: gist
    tokens, Mu et al. 2023, arXiv 2304.08467, and the in-context autoencoder, Ge et al. 2023, arXiv 2307.06945; LoRA, Hu
    et al. 2021, arXiv 2106.09685. Slots after each turn, LayerNorm and projection are our choice, as in Mamba's place.
    """

    config_class = GistConfig

    @staticmethod
    def make_backbone(config: Any) -> nn.Module:
        """Return the language model's body with a LoRA that changes nothing yet; its weights come by `take_weights`."""
        backbone: Any = AutoModel.from_config(config.backbone_config)
        if backbone.get_input_embeddings().embedding_dim != config.backbone_config.hidden_size:
            raise CompressorDataError(
                f"kind gist: this {config.backbone_config.model_type} has embeddings of another width than its states, "
                "between which memory slots would not fit; take another kind, or another language model"
            )
        layers = [layer for layer in backbone.modules() if isinstance(layer, (nn.Linear, Conv1D))]
        if not layers:
            raise CompressorDataError(
                f"kind gist: a {config.backbone_config.model_type} has no linear layer that a LoRA could change; take "
                "another kind, or another language model"
            )
        for layer in layers:
            _add_lora(layer, config.rank)
        body: nn.Module = backbone
        return body

    def __init__(self, config: GistConfig) -> None:
        super().__init__(config)
        self.hold_still()

    def hold_still(self) -> None:
        """Let nothing train of the language model's own weights."""
        for name, weight in self.backbone.named_parameters():
            weight.requires_grad_(name.endswith((_DOWN, _UP)))

    def take_weights(self, llm: PreTrainedModel) -> None:
        """Copy a language model's own weights.

        Raises:
            CompressorDataError: it has others than its configuration says, as where they are held in few bits.
        """
        found = self.backbone.load_state_dict(llm.base_model.state_dict(), strict=False)
        missing = [name for name in found.missing_keys if not name.endswith((_DOWN, _UP))]
        if missing or found.unexpected_keys:
            name = [*missing, *found.unexpected_keys][0]
            raise CompressorDataError(
                f"kind gist: the language model's weights are not those of its configuration ({name}); it reads with a "
                "copy of plain ones: leave quantize out"
            )

    def read(self, input_ids: Tensor) -> Tensor:
        """Return the states of all positions, (B, T) int64 to (B, T, width); right padding changes none before it.

        Raises:
            CompressorDataError: a history is longer than the language model was made for.
        """
        limit = getattr(self.config.backbone_config, "max_position_embeddings", None)
        if limit is not None and input_ids.size(1) > limit:
            raise CompressorDataError(
                f"kind gist: a history of {input_ids.size(1)} tokens, and the language model knows {limit} positions; "
                "lower max_prompt_tokens so that older turns give way, or take kind mamba, which knows no limit"
            )
        embeds = self.embed(input_ids).to(self.backbone.get_input_embeddings().weight.dtype)
        hidden: Tensor = self.backbone(inputs_embeds=embeds, use_cache=False).last_hidden_state
        return hidden


def _add_lora(layer: Any, rank: int) -> None:
    """Put a low-rank change on a linear layer, in place: y = W x + b + s up (down x), `up` zero at first.

    Beside the weight under names of its own, not by PEFT: a later LoRA on the whole model would take this one for its
    own, and switch it off with itself.
    """
    sizes = (layer.nx, layer.nf) if isinstance(layer, Conv1D) else (layer.in_features, layer.out_features)
    down, up = (layer.weight.new_zeros(size) for size in ((rank, sizes[0]), (sizes[1], rank)))
    nn.init.normal_(down, std=1 / math.sqrt(sizes[0]))
    layer.register_parameter(_DOWN, nn.Parameter(down))
    layer.register_parameter(_UP, nn.Parameter(up))
    layer.register_forward_hook(_change)


def _change(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    narrow = functional.linear(inputs[0].to(layer.gist_down.dtype), layer.gist_down)
    return output + (_SCALE * functional.linear(narrow, layer.gist_up)).to(output.dtype)


__all__ = ["Gist", "GistConfig"]
