"""The composed family: a language model, an extractor for clips and a MambaCompressor for the history, joined."""

from typing import Any, cast

from torch import Tensor, nn

from compressor.seams import use_own_forward
from epo.model.attention_masks import prove_flex
from epo.model.dropout import switch_dropout_off
from epo.model.family import DialogueProcessor, Family
from epo.model.linears import linears_below
from epo.model.loading import load_model
from epo.model.modeling import encode_once
from epo.model.shared_prompt import prove_packing, prove_sharing


class ComposedFamily:
    """`EpoForConditionalGeneration` with its `EpoProcessor`."""

    model_class = "EpoForConditionalGeneration"
    processor_class = "EpoProcessor"
    model_type = "epo"

    def load(self, folder: str, dtype: str, bf16: bool) -> tuple[Any, DialogueProcessor]:
        """Load what launch/sft.py wrote."""
        return load_model(folder, dtype, bf16)

    def prepare_scoring(self, model: nn.Module) -> None:
        """Take the model's own forward, which scores labels."""
        use_own_forward(model)

    def encode_once(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Any]:
        """Run extractor and compressor, which policy and reference share."""
        return encode_once(model, batch)

    def encoded_prompts(self, model: nn.Module, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]] | None:
        """Return memories and clips as the language model reads them."""
        lengths, language_model = batch["prompt_lengths"].tolist(), cast(Any, model).get_input_embeddings()
        prompts = [ids[:length] for ids, length in zip(batch["input_ids"], lengths, strict=False)]  # chosen rows first
        placed: list[tuple[Tensor, Tensor]] = batch["context"].placed(prompts, language_model.weight.dtype)
        return placed

    def share_prompts(self, model: nn.Module, batch: dict[str, Any]) -> str | None:
        """Try it, as `prove_sharing` does."""
        return prove_sharing(model, batch)

    def pack_rows(self, model: nn.Module, batch: dict[str, Any], tokens_per_row: int) -> str | None:
        """Try it, as `prove_packing` does."""
        return prove_packing(model, batch, tokens_per_row)

    def attend_in_blocks(self, model: nn.Module, batch: dict[str, Any]) -> str | None:
        """Try it, as `prove_flex` does."""
        return prove_flex(model, model.language_model, batch)

    def lora_targets(self, model: nn.Module) -> list[str]:
        """Return the linear layers of the language model."""
        return linears_below(model, "language_model.")

    def language_model_weights(self, model: nn.Module) -> list[str]:
        """Return all that lies below `language_model`, its head too."""
        return [name for name, _ in model.named_parameters() if name.startswith("language_model.")]

    def freeze_for_preference(self, model: nn.Module) -> None:
        """Switch dropout off; frozen parts of extractor and compressor leave training mode by themselves."""
        switch_dropout_off(model)


FAMILY: Family = ComposedFamily()
