"""What may be set of an EPO run: TRL's settings without those that would make another objective of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from trl import DPOConfig

from compressor.fixed_settings import FIXED_IN_TRAINING, refuse_changed
from epo.training.objective_check import ObjectiveError, check_objective

_LOSS = "EPO fixes the loss; set beta and alpha instead"
_LOSS_TYPE = "EPO's loss is named by preference_loss, in TRL's words, and alpha weighs its sft; set those instead"
_LENGTH = (
    "the processor drops the oldest turns, and a cut would take placeholders or the reply; set max_prompt_tokens in"
)
_REFERENCE = "the reference is the policy without its LoRA, read beside it at each step; leave it out"
_ROWS = "the collator makes the rows; leave it out"
_MODEL = "the recipe's `model` names a folder that is loaded without code from elsewhere; leave it out"


class RowBudgetError(ValueError):
    """A budget of tokens a row that is none."""


@dataclass
class EpoArguments(DPOConfig):
    """Settings of `EpoTrainer`: whatever makes them, they mean EPO.

    Keys of TRL that EPO fixes are refused where they are given another value. Of TRL's defaults those of
    `gradient_checkpointing` and `bf16` (both on) and `learning_rate` (1e-6) stay.

    Raises:
        FixedSettingError: a key was set that EPO fixes; names it and the remedy.
        ObjectiveError: settings of the objective that cannot be, or would do nothing beside the others.
        RowBudgetError: `tokens_per_row` is no number of tokens.
    """

    FIXED: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("loss_type", "loss_weights"), _LOSS_TYPE),
        **dict.fromkeys(("f_divergence_type", "f_alpha_divergence_coef", "ld_alpha", "use_weighting"), _LOSS),
        "router_aux_loss_coef": "EPO's loss has no such term, and routers do not train; leave it out",
        "disable_dropout": "EPO compares policy and reference without dropout; leave it out",
        **dict.fromkeys(("max_length", "truncation_mode"), f"{_LENGTH} the SFT recipe"),
        **dict.fromkeys(("padding_free", "pad_to_multiple_of", "pad_token", "dataset_num_proc"), _ROWS),
        **dict.fromkeys(("precompute_ref_log_probs", "precompute_ref_batch_size"), _REFERENCE),
        **dict.fromkeys(("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"), _REFERENCE),
        **dict.fromkeys(("model_init_kwargs", "trust_remote_code"), _MODEL),
        "activation_offloading": "EPO has not been made to work with it; set gradient_checkpointing instead",
    }

    beta: float = field(default=0.1, metadata={"help": "how far the policy may go from the reference; higher: less"})
    alpha: float = field(default=1.0, metadata={"help": "weight of the gold reply's NLL, in nats a token"})
    preference_loss: str = field(default="sigmoid", metadata={"help": "by TRL's name: docs/training.md, EPO"})
    label_smoothing: float = field(default=0.0, metadata={"help": "of robust, exo_pair, aot: share of flipped pairs"})
    discopop_tau: float = field(default=0.05, metadata={"help": "of discopop: its temperature"})
    length_normalised: bool = field(default=False, metadata={"help": "compare log-probabilities a token"})
    emotion_margin: float = field(
        default=0.0, metadata={"help": "reward margin asked for, a unit of emotional distance"}
    )
    conditional_weight: float = field(default=0.0, metadata={"help": "of: gold likelier under its own clip; 0: off"})
    conditional_swap: Literal["both", "audio", "video"] = field(
        default="both", metadata={"help": "what of the clip is another dialogue's"}
    )
    anchor_weight: float = field(default=0.0, metadata={"help": "of: gold likelier than under the reference; 0: off"})
    anchor_margin: float = field(default=0.0, metadata={"help": "reward that the anchor asks for"})
    extra_terms: dict[str, float] = field(
        default_factory=dict, metadata={"help": "further terms of the objective by name, with their weights"}
    )
    tokens_per_row: int | None = field(
        default=None, metadata={"help": "lay the pairs of a micro-batch in rows of so many tokens; none: one a row"}
    )
    flex_attention: bool = field(
        default=False, metadata={"help": "on CUDA: compute only those blocks of attention that the pairs' masks show"}
    )
    loss_type: list[str] = field(default_factory=lambda: ["sigmoid", "sft"], metadata={"help": "fixed"})
    loss_weights: list[float] | None = field(default=None, metadata={"help": "fixed: 1 and alpha"})
    router_aux_loss_coef: float | None = field(default=0.0, metadata={"help": "fixed"})
    max_length: int | None = field(default=None, metadata={"help": "fixed"})
    pad_to_multiple_of: int | str | None = field(default=None, metadata={"help": "fixed"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "fixed"})

    def __post_init__(self) -> None:
        """Refuse what would not be EPO, and say the rest of the objective in TRL's words."""
        self.check(vars(self))
        weights = [1.0, self.alpha]
        if self.loss_weights == weights:
            self.loss_weights = None
        if self.loss_type == [self.preference_loss, "sft"]:
            self.loss_type = ["sigmoid", "sft"]
        refuse_changed(vars(self), EpoArguments, self.FIXED | FIXED_IN_TRAINING)
        self.loss_type, self.loss_weights = [self.preference_loss, "sft"], weights
        super().__post_init__()

    @staticmethod
    def check(values: Mapping[str, Any]) -> None:
        """Refuse an objective that is none, or rows of no tokens, also where a recipe is only read.

        Args:
            values: settings by name.

        Raises:
            ObjectiveError: names the key.
            RowBudgetError: likewise.
        """
        check_objective(values)
        tokens = values["tokens_per_row"]
        if tokens is not None and (type(tokens) is not int or tokens < 1):
            raise RowBudgetError(
                f"tokens_per_row is {tokens!r}, want a number of tokens, 1 or more; leave it out for one pair a row"
            )


__all__ = ["EpoArguments", "ObjectiveError", "RowBudgetError"]
