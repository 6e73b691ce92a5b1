"""Emotional Preference Optimization: a thin subclass of TRL's DPOTrainer for batches with memories and clips."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel
from trl import DPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from compressor.curriculum import ScheduledDataset
from compressor.fully_sharded import gather_rest
from compressor.precision import keep_trained_in_float32
from compressor.scheduled_trainer import ScheduleReader, require_finite
from compressor.seams import no_second_model
from epo.model.attention_masks import require_flex
from epo.model.family import bare, family_of, require_processor
from epo.model.token_scores import TokenScores
from epo.preferences.pair import PreferencePair
from epo.training.adapter_switch import AdapterSwitch
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, labelled
from epo.training.conditional import with_other_clips
from epo.training.encoder_cache import EncoderCache
from epo.training.full_tuning import (
    FullTuningError,
    Tune,
    known_tune,
    prepare_for_full_tuning,
    require_full_tuning,
    save_fully_tuned,
)
from epo.training.given_pairs import NotEpoError, in_order
from epo.training.kept_prompts import require_kept
from epo.training.kept_tables import KeptTables
from epo.training.likelihood_alarm import LikelihoodAlarm
from epo.training.lora import language_model_layers, lora_config
from epo.training.lora_sum import add_in_place
from epo.training.objective import PairScores, needs_other, objective
from epo.training.other_clips import ClipDraw
from epo.training.pair_facts import PairFacts, TrainingPairCollator, split_batch
from epo.training.pair_groups import GroupNumbers, group_sums
from epo.training.pair_numbers import pair_sums
from epo.training.reading import settle_reading
from epo.training.reference_cache import ReferenceCache
from epo.training.schedule import schedule_rows
from epo.training.term_needs import require_for_terms, require_kept_reference


class ReferenceDriftError(ValueError):
    """Weights beside those that `tune` names would train; the reference reads with them, and must not move."""


class EpoTrainer(ScheduleReader, DPOTrainer):
    """Sigmoid DPO loss plus weighted NLL of the gold reply; the policy without its LoRA is the reference.

    Or, with `tune` "all", all weights of the language model train, and the reference is what the model as it was given
    said of the pairs, scored before the first step (`epo.training.full_tuning`).

    What differs from TRL: rows are indices that the collator turns into prompts, memories and clips, so there is
    nothing to tokenise beforehand; they come in the order of a schedule, in exact global batches; the NLL is the mean
    over the tokens of the global batch, however it is spread; every prompt is read once a pair (`prompt_lengths`),
    every history and clip once for policy and reference together; there is no dropout of any kind; what is not finite
    stops all ranks; anything else that is trainable is refused.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        args: EpoArguments,
        train_dataset: Sequence[PreferencePair] | ScheduledDataset,
        processing_class: Any = None,
        data_collator: Any = None,
        peft_config: Any = None,
        reference_cache: ReferenceCache | None = None,
        encoder_cache: EncoderCache | None = None,
        tune: Tune = "lora",
        held_out: Sequence[PreferencePair] = (),
        **kwargs: Any,
    ) -> None:
        """Make a trainer.

        Args:
            model: of any model family (`epo.model.family`), such as `EpoForConditionalGeneration`; PEFT's LoRA may be
                on it already.
            args: the settings; `beta` and `alpha` are the objective's.
            train_dataset: the pairs to learn, in an order that the seed decides; or a schedule of indices into the
                pairs of `data_collator`.
            processing_class: the model's processor.
            data_collator: a `PairCollator`; pairs bring their own.
            peft_config: of the LoRA; None for one of rank 16 on every linear layer of the language model.
            reference_cache: keeps the reference's log-probabilities of the pairs; None scores them at each step.
            encoder_cache: keeps what extractor and compressor make of the pairs' prompts; None runs them at each step.
            tune: what trains of the language model; "all" wants a `reference_cache`.
            held_out: further pairs that the reference scores into the cache before the first step, for
                `reference_of_held_out`.
            kwargs: of TRL's `DPOTrainer`: `callbacks`, `optimizers`, `ref_model`, ...

        Raises:
            NotEpoError: settings or data are of TRL's own kinds, or no number of steps is set.
            FamilyError: the model is of no family, or the processor, or the collator's, of another one.
            ReferenceDriftError: weights beside the LoRA would train.
            EncoderCacheError: of this family, or with a `ref_model`, what is encoded cannot be kept.
            ReferenceCacheError: the weights, by which what is kept is found, cannot be told from others.
            FlexAttentionError: `flex_attention` is asked for on a CPU.
            FullTuningError: `tune` is "all", and there is a LoRA, a weight in few bits, or no reference that stays.
            TermNeedError: pairs, batches or the kept reference lack what a term asks for.
        """
        if not isinstance(args, EpoArguments):
            raise NotEpoError(
                f"args is a {type(args).__name__}, with which this would be plain DPO; want "
                "epo.training.arguments.EpoArguments, which says what EPO minimises"
            )
        if held_out and reference_cache is None:
            raise NotEpoError("held_out would do nothing: its reference scores lie in reference_cache; give one")
        self._family = family_of(model)
        for processor in filter(None, (processing_class, getattr(data_collator, "processor", None))):
            require_processor(self._family, processor)
        if not isinstance(train_dataset, ScheduledDataset):
            train_dataset, data_collator = in_order(train_dataset, args, processing_class)
        plain = data_collator
        if isinstance(data_collator, PairCollator):
            require_for_terms(data_collator.pairs, args)
            data_collator = self._training_collator(data_collator, args)
        self._tune = known_tune(tune)
        if tune == "all":
            self._prepare_all(model, args, peft_config, reference_cache, kwargs.get("ref_model"))
        elif peft_config is None and not isinstance(model, PeftModel):
            peft_config = lora_config(model, rank=16, alpha=32, dropout=0.0)
        with no_second_model() if tune == "all" else contextlib.nullcontext():
            super().__init__(
                model,
                args=args,
                train_dataset=schedule_rows(train_dataset, with_seeds=needs_other(args)),
                processing_class=processing_class,
                data_collator=data_collator,
                peft_config=peft_config,
                **kwargs,
            )
        for model in filter(None, (self.model, self.ref_model)):
            self._family.prepare_scoring(bare(model))
        keep_trained_in_float32(self.model)
        self._require_still()
        self._family.freeze_for_preference(bare(self.model))
        add_in_place(self.model)
        self._adapter = AdapterSwitch(self.model) if isinstance(self.model, PeftModel) else None
        self._groups, self._alarm = GroupNumbers(), LikelihoodAlarm()
        self._settle_reading(is_kept=encoder_cache is not None)
        caches, reference = (encoder_cache, reference_cache), self.model if self.ref_model is None else self.ref_model
        self._kept = KeptTables.of(caches, reference, self.accelerator.mixed_precision, plain, held_out)

    @staticmethod
    def _prepare_all(model: Any, args: EpoArguments, peft_config: Any, reference_cache: Any, ref_model: Any) -> None:
        """Let all weights of the language model train, where the reference stays without them."""
        require_full_tuning(model, peft_config is not None, reference_cache is not None or ref_model is not None)
        if ref_model is None:
            require_kept_reference(args)
        prepare_for_full_tuning(model, in_float32=not args.bf16)

    def _require_still(self) -> None:
        """Refuse a policy that would move what the reference reads with."""
        if self._tune == "all" or self.ref_model is not None:
            return
        moving = [name for name, p in self.model.named_parameters() if p.requires_grad and ".lora_" not in name]
        if moving:
            raise ReferenceDriftError(
                f"{len(moving)} weights beside the LoRA are trainable ({moving[0]}, ...); with the adapter off they "
                "are the reference and would move it. Train them in launch/sft.py, and only LoRA here, or give tune: "
                "all for the whole language model"
            )

    @staticmethod
    def _training_collator(plain: PairCollator, args: EpoArguments) -> TrainingPairCollator:
        """Let batches tell what terms and numbers need of their pairs, and say which pairs a term passes over."""
        if not needs_other(args):
            return TrainingPairCollator(plain)
        draw = ClipDraw(plain.pairs, args.conditional_swap)
        without = draw.num_without()
        if without and args.process_index == 0:
            print(f"conditional term: {without} of {len(plain.pairs)} pairs have no other clip and take no part")
        return TrainingPairCollator(plain, draw)

    def _settle_reading(self, is_kept: bool) -> None:
        """Read two pairs in each way that spares work, and go on with those that change nothing."""
        if self.args.flex_attention:
            require_flex(self.accelerator.device)
        model = bare(self.model)
        batch, *_ = split_batch(self.data_collator(self.data_collator.longest(2)))
        here = next(model.parameters()).device  # to be sharded it is not yet on the rank's own
        batch = {key: value.to(here) if isinstance(value, Tensor) else value for key, value in batch.items()}
        model.eval()
        batch = self._family.encode_once(model, batch)
        if is_kept:
            require_kept(self._family, model, batch, self.ref_model)
        for line in settle_reading(self._family, model, batch, self.args):
            if self.accelerator.is_main_process:
                print(line)

    def layers_to_gather(self) -> list[torch.nn.Module]:
        """Return the language model's layers."""
        return language_model_layers(self.model)

    def _prepare_dataset(self, dataset: Dataset, processing_class: Any, args: Any, dataset_name: str) -> Dataset:
        """Leave rows as they are: the collator reads the dialogues."""
        return dataset

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | None]:
        """Get the batches of a step, and count the gold tokens in them and in those of the other ranks."""
        if self._kept.prompts is not None:  # before the first batch is made, which takes its prompts from there
            self._kept.prompts.fill_once(self._encode_for_the_cache, self.args.per_device_train_batch_size)
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        num_tokens = torch.stack([_num_gold_tokens(batch) for batch in batches]).sum().to(device)
        return batches, self.accelerator.reduce(num_tokens, reduction="sum")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of a batch after making sure that it is finite on every rank.

        Args:
            model: policy.
            inputs: a batch of `PairCollator`, or of `TrainingPairCollator` where a term asks for more than its words.
            return_outputs: whether to return the scores too.
            num_items_in_batch: gold tokens of the whole step, None where this batch is all there is.
        """
        inputs, facts, other = split_batch(inputs)
        self._keep_reference()  # before the policy reads: its activations would lie beside
        inputs = self._encode_context_once(inputs)
        scores, outputs = self._score_pairs(model, inputs, facts)
        chosen, rejected = inputs["completion_mask"].sum(dim=1).chunk(2)
        scores = replace(scores, chosen_lengths=chosen, rejected_lengths=rejected)
        if facts is not None:
            scores = replace(scores, emotion_distances=facts.distances())
        if other is not None:
            scores = with_other_clips(scores, model, self._encode_context_once(other), self._let_reference_read)
        loss, terms = objective(scores, self.args, self._token_weight(inputs, num_items_in_batch))
        require_finite(loss, self.state.global_step)
        self._count(scores, outputs, inputs, terms, facts)
        return (loss, outputs) if return_outputs else loss

    def _score_pairs(
        self, model: Any, inputs: dict[str, Any], facts: PairFacts | None
    ) -> tuple[PairScores, TokenScores]:
        """Let policy and reference read a batch; the reference is the policy as it was when the trainer was made."""
        outputs: TokenScores = model(**labelled(inputs))
        assert outputs.log_probs is not None
        chosen, rejected = outputs.log_probs.sum(dim=1).chunk(2)
        base_chosen, base_rejected = self._reference_logps(inputs, facts)
        is_chosen = inputs["completion_mask"][:, 1:].chunk(2)[0].bool()
        tokens = outputs.log_probs.chunk(2)[0][is_chosen]
        return PairScores(chosen, rejected, base_chosen, base_rejected, tokens), outputs

    def _reference_logps(self, inputs: dict[str, Any], facts: PairFacts | None) -> tuple[Tensor, Tensor]:
        """Return the reference's log-probabilities of a batch's replies, (B,) each: found, or scored now."""
        if self._kept.reference is not None and facts is not None:
            return self._kept.reference.of(facts.indices)
        chosen, rejected = self._let_reference_read(inputs).chunk(2)
        return chosen, rejected

    def _keep_reference(self) -> None:
        """Find or score what the reference says of all pairs, unless that is done; every rank takes part."""
        for scores in filter(None, (self._kept.reference, self._kept.held_out)):
            scores.fill_once(self._read_for_the_cache, self.args.per_device_train_batch_size, self._moved_at())

    def _moved_at(self) -> int | None:
        """Return the step up to which training has moved the reference itself, None where it stands still."""
        stands = self._tune == "lora" or self.ref_model is not None or self.state.global_step == 0
        return None if stands else self.state.global_step

    def reference_of_held_out(self) -> tuple[Tensor, Tensor]:
        """Return the reference's log-probabilities of both replies of the held-out pairs, float32 (N,) each, in nats.

        Every rank must call it.
        """
        self._keep_reference()
        if self._kept.held_out is None:
            return torch.zeros(0), torch.zeros(0)
        return self._kept.held_out.of_all()

    def save_tuned(self, folder: str | Path, processor: Any) -> None:
        """Write the whole model of which all weights of the language model trained, as `epo.load_model` reads it.

        What a LoRA learnt is written by `save_model`. Every rank must call it; the first one writes.

        Raises:
            FullTuningError: a LoRA trained.
        """
        if self._tune != "all":
            raise FullTuningError("a LoRA trained, not the model's own weights: write it by save_model")
        save_fully_tuned(self, folder, processor)

    def _read_for_the_cache(self, batch: dict[str, Tensor]) -> Tensor:
        return self._let_reference_read(self._encode_context_once(self._prepare_inputs(batch)))

    def _encode_for_the_cache(self, batch: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        inputs = self._encode_context_once(self._prepare_inputs(batch))
        return self._family.encoded_prompts(bare(self.model), inputs) or []

    @torch.no_grad()
    def _let_reference_read(self, inputs: dict[str, Any]) -> Tensor:
        """Return the log-probabilities of a batch's replies under the reference, one a row."""
        batch, moved_at = labelled(inputs), self._moved_at()
        if moved_at is not None:
            raise FullTuningError(f"the reference is gone: {moved_at} steps have moved the weights that it read with")
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            if self.ref_model is not None:
                base = self.ref_model(**batch)
            elif self._adapter is not None:
                with self._adapter.reference():
                    base = self.model(**batch)
            else:  # nothing has trained yet
                base = self.model(**batch)
        logps: Tensor = base.log_probs.sum(dim=1)
        return logps

    def _token_weight(self, inputs: dict[str, Any], num_tokens: Any) -> Callable[[float], Any]:
        """Return what makes the average of batches' means over tokens the mean over the tokens of all batches.

        A mean is weighted by its batch's share of all tokens of the step, times the number of batches averaged.
        """
        if num_tokens is None:
            return float
        num_batches = self.current_gradient_accumulation_steps * self.args.world_size
        return lambda weight: weight * num_batches * _num_gold_tokens(inputs) / num_tokens

    def _count(
        self,
        scores: PairScores,
        outputs: TokenScores,
        inputs: dict[str, Any],
        terms: dict[str, Tensor],
        facts: PairFacts | None,
    ) -> None:
        """Add a batch's numbers to those that `log` averages, over all ranks, under TRL's names and the terms' own."""
        mode = "train" if self.model.training else "eval"
        one = torch.ones((), device=scores.chosen_logps.device)
        with torch.no_grad():
            sums = pair_sums(scores, outputs, inputs, self.args.beta)
            sums |= {f"terms/{name}": (value, one) for name, value in terms.items()}
            sums["num_tokens"] = (inputs["attention_mask"].sum().float(), one)
            groups = group_sums(scores, facts, self.args.beta)
            flat = torch.cat([torch.stack([torch.stack(pair) for pair in sums.values()]).flatten(), groups.flatten()])
            totals = self.accelerator.reduce(flat, "sum")
        pairs = totals[: 2 * len(sums)].view(-1, 2).tolist()
        for name, (value, count) in zip(sums, pairs, strict=True):
            if count > 0:
                self._metrics[mode][name].append(value / count)
        if mode == "train":
            self._total_train_tokens += round(pairs[-1][0])
            self._groups.add(totals[2 * len(sums) :].view(groups.shape))
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the numbers of groups of pairs, and warn once where the gold replies become steadily less likely."""
        shifts = self._metrics["train"].get("logps/chosen_shift")
        if shifts:
            logs |= self._groups.pop()
            warning = self._alarm.add(sum(shifts) / len(shifts))
            if warning is not None and self.accelerator.is_main_process:
                print(warning, flush=True)
        super().log(logs, start_time)

    def _encode_context_once(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Encode clips and histories once for policy and reference: what is frozen gives both the same."""
        if self.ref_model is not None:
            return inputs
        if self.is_fsdp_enabled:
            gather_rest(self.model)
        with self.compute_loss_context_manager():
            return self._family.encode_once(bare(self.model), inputs)


def _num_gold_tokens(batch: dict[str, Any]) -> Tensor:
    """Return the tokens of a batch's gold replies, int64 (); chosen rows come first."""
    count: Tensor = batch["completion_mask"].chunk(2)[0].sum()
    return count
