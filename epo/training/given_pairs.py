"""Pairs that a script gives to the trainer: whether they are such, in which order they come, and their batches."""

from typing import Any

from compressor.curriculum import ScheduledDataset
from epo.data.cache import ClipCache
from epo.preferences.pair import PreferencePair, with_labels_on_both_or_neither
from epo.training.arguments import EpoArguments
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.schedule import schedule_of


class NotEpoError(ValueError):
    """The trainer was given settings or an order of data with which it would train something else than EPO."""


def in_order(train_dataset: Any, args: EpoArguments, processor: Any) -> tuple[ScheduledDataset, PairCollator]:
    """Return when which pair is learnt, over `max_steps` global batches, and the collator that makes their batches.

    Args:
        train_dataset: the pairs, such as `epo.read_pairs` returns.
        args: say the seed, the steps and the size of a global batch.
        processor: the model's.

    Raises:
        NotEpoError: there is no pair, or something else, or no number of steps.
    """
    strange = next((item for item in train_dataset if not isinstance(item, PreferencePair)), None)
    if strange is not None or not len(train_dataset):
        what = "is empty" if strange is None else f"holds a {type(strange).__name__}"
        raise NotEpoError(f"train_dataset {what}; want pairs, such as epo.read_pairs returns")
    if args.max_steps <= 0:
        raise NotEpoError("max_steps is not set; it says how long to train: every global batch is exact, no pass ends")
    pairs = [with_labels_on_both_or_neither(pair) for pair in train_dataset]
    collator = PairCollator(pairs, PromptBuilder(processor, ClipCache(None)))
    return schedule_of([pair.reply for pair in pairs], args), collator


__all__ = ["NotEpoError", "in_order"]
