"""The omni family: Qwen2.5-Omni's thinker, a native model of audio, video and text, as transformers has it."""

from typing import Any

from torch import Tensor, nn
from transformers import Qwen2_5OmniThinkerForConditionalGeneration

from epo.model.attention_masks import prove_flex
from epo.model.checkpoints import load_weights
from epo.model.dropout import switch_dropout_off
from epo.model.family import DialogueProcessor, Family
from epo.model.linears import linears_below
from epo.model.omni.processing import OmniProcessor
from epo.model.omni.reply_scores import CLIP_KEYS, encode_clips, language_model, prepare_scoring
from epo.model.shared_prompt import prove_packing, prove_sharing
from epo.part_names import PartError


class OmniFamily:
    """`Qwen2_5OmniThinkerForConditionalGeneration` with an `OmniProcessor`; the history is text in its prompt."""

    model_class = "Qwen2_5OmniThinkerForConditionalGeneration"
    processor_class = "OmniProcessor"
    model_type = "qwen2_5_omni_thinker"

    def load(self, folder: str, dtype: str, bf16: bool) -> tuple[Any, DialogueProcessor]:
        """Load what `save_pretrained` of a thinker and of its `OmniProcessor` wrote."""
        try:
            processor = OmniProcessor.from_pretrained(folder)
        except (OSError, ValueError, TypeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise PartError(
                f"{folder}: has a thinker but no OmniProcessor ({reason}); make one (docs/families.md), save it there"
            ) from error
        return load_weights(Qwen2_5OmniThinkerForConditionalGeneration, folder, dtype), processor

    def prepare_scoring(self, model: nn.Module) -> None:
        """Give this model a forward that scores labels; its class stays as it is."""
        prepare_scoring(model)

    def encode_once(self, model: nn.Module, batch: dict[str, Any]) -> dict[str, Any]:
        """Run both towers, which policy and reference share, and place the tokens in time."""
        others = {key: value for key, value in batch.items() if key not in CLIP_KEYS}
        return others | {"context": encode_clips(model, batch)}

    def encoded_prompts(self, model: nn.Module, batch: dict[str, Any]) -> list[tuple[Tensor, Tensor]] | None:
        """Return None: where a clip's tokens stand in time is computed from all of a row, replies too."""
        return None

    def share_prompts(self, model: nn.Module, batch: dict[str, Any]) -> str | None:
        """Try it: packed tokens keep the three positions they have in rows of their own."""
        return prove_sharing(model, batch)

    def pack_rows(self, model: nn.Module, batch: dict[str, Any], tokens_per_row: int) -> str | None:
        """Try it: each pair keeps the three positions of its tokens."""
        return prove_packing(model, batch, tokens_per_row)

    def attend_in_blocks(self, model: nn.Module, batch: dict[str, Any]) -> str | None:
        """Try it on the text model."""
        return prove_flex(model, language_model(model)[1], batch)

    def lora_targets(self, model: nn.Module) -> list[str]:
        """Return the linear layers of the text model."""
        return linears_below(model, f"{language_model(model)[0]}.")

    def language_model_weights(self, model: nn.Module) -> list[str]:
        """Return those of the text model and of the head beside it."""
        inside = (f"{language_model(model)[0]}.", "lm_head.")
        return [name for name, _ in model.named_parameters() if name.startswith(inside)]

    def freeze_for_preference(self, model: nn.Module) -> None:
        """Switch dropout off, that of the towers too; there is nothing else at random in it."""
        switch_dropout_off(model)


FAMILY: Family = OmniFamily()
