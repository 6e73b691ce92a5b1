"""The order of training on replies: exact global batches, those with histories of like length together."""

from collections.abc import Sequence

from datasets import Dataset
from transformers import TrainingArguments

from compressor.curriculum import ScheduledDataset
from epo.data.replies import Reply


def schedule_of(replies: Sequence[Reply], args: TrainingArguments) -> ScheduledDataset:
    """Return which reply is learnt when, over `max_steps` global batches.

    Args:
        replies: what is learnt, or the chosen replies of pairs.
        args: say the seed, the steps, and by micro-batch, accumulation and ranks the size of a global batch.
    """
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    lengths = [sum(len(turn.text) for turn in reply.history) for reply in replies]
    return ScheduledDataset(len(replies), args.max_steps * batch, args.seed, lengths, batch)


def schedule_rows(schedule: ScheduledDataset, with_seeds: bool = False) -> Dataset:
    """Return a schedule as TRL wants it: one row a position, with its seed where something is drawn by it."""
    rows = [schedule[position] for position in range(len(schedule))]
    keys = ("index", "seed") if with_seeds else ("index",)
    return Dataset.from_dict({key: [row[key] for row in rows] for key in keys})


__all__ = ["schedule_of", "schedule_rows"]
