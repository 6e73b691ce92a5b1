"""What the training stages share: exact batches, resuming, and how a finished part is saved."""

import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from transformers import PreTrainedTokenizerBase, Trainer, TrainingArguments

from launch import stage
from compressor.chat import chat_format
from compressor.checkpoints.checkpoint_commit import last_checkpoint as last_checkpoint  # part of what a stage offers
from compressor.checkpoints.checkpoint_commit import newest_whole
from compressor.fitting import PromptTooLong
from compressor.scheduled_trainer import ScheduleReader
from compressor.seams import gather_together
from epo.data.descriptions import with_descriptions
from epo.data.dialogue import DataError, Dialogue, Turn, read_dialogues
from epo.data.findings import StopAtFault
from epo.data.replies import Reply
from epo.data.transcripts import with_transcripts
from epo.preferences.pair import PreferencePair, read_pairs
from epo.prompts.layout import Layout
from epo.prompts.marks import refuse_tokens, special_tokens
from epo.prompts.part import Asked
from launch.folder.space import bytes_to_write, require_space
from launch.recipe import RecipeError, accumulation_steps, require_max_steps
from launch.training_progress import show_own_progress


def plan_batches(args: TrainingArguments, global_batch_size: int) -> int:
    """Set accumulation so that the global batch is exact, and return the samples of the whole run.

    Raises:
        RecipeError: the batch does not divide, accelerate would divide it otherwise, or `max_steps` is not set.
    """
    require_max_steps(args.max_steps)
    if args.accelerator_config.split_batches:
        raise RecipeError(
            "accelerator_config: split_batches would deal each micro-batch out over the ranks, and the global batch "
            "would not be global_batch_size; leave it out"
        )
    args.gradient_accumulation_steps = accumulation_steps(
        global_batch_size, args.per_device_train_batch_size, stage.num_ranks()
    )
    return int(args.max_steps) * global_batch_size


def fit(trainer: ScheduleReader) -> dict[str, float]:
    """Train, from the newest checkpoint in the output folder that is whole, and return final metrics.

    Raises:
        CheckpointError: it is spread so that these ranks cannot go on from it.
        SystemExit: a signal ended training, on all ranks together.
    """
    gather_together(trainer.model)
    output_dir = Path(trainer.args.output_dir)
    if stage.rank() == 0:
        require_space(output_dir, _bytes_to_write(trainer))
    show_own_progress(trainer, output_dir.name)
    found = newest_whole(output_dir)
    checkpoint = found.path
    if stage.rank() == 0:
        for note in found.notes:
            print(note)
        if checkpoint is not None:
            print(f"resuming from {checkpoint}")
    if checkpoint is not None:
        trainer.require_resumable(checkpoint)
    try:
        result = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        trainer.stopping.end()
    if trainer.stopping.received is not None:
        if stage.rank() == 0:
            name = signal.Signals(trainer.stopping.received).name
            print(f"{name}: stopped after step {trainer.state.global_step}; the same command goes on from there")
        raise SystemExit(128 + trainer.stopping.received)
    return dict(result.metrics)


def named(split: str, numbers: Mapping[str, float]) -> dict[str, float]:
    """Return numbers under the split that they are about: `train/loss`, `validation/accuracy`.

    transformers calls its own `train_loss`, `train_runtime` and so on.
    """
    return {f"{split}/{name.removeprefix(f'{split}_')}": value for name, value in numbers.items()}


def _bytes_to_write(trainer: Trainer) -> int:
    weights: int = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    trained: int = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return bytes_to_write(trainer.args, weights, trained)


def check_words(tokenizer: PreTrainedTokenizerBase, texts: Iterable[tuple[str, str]]) -> None:
    """Refuse a tokenizer without a fitting chat template and texts with special tokens, before training starts.

    Args:
        tokenizer: the language model's.
        texts: where each stands, such as "dialogues.jsonl: dialogue 'd1', turn 3", and the text.

    Raises:
        DataError: names the place and the token.
        ChatTemplateError: names the tokenizer.
    """
    chat_format(tokenizer)
    special = special_tokens(tokenizer)
    for place, text in texts:
        try:
            refuse_tokens(text, special)
        except DataError as error:
            raise DataError(f"{place}: {error}") from None


def check_lengths(
    path: str, examples: Iterable[Reply], tokenizer: PreTrainedTokenizerBase, layout: Layout, limit: int
) -> None:
    """Refuse turns to answer that alone exceed the limit, before training starts; only long ones are encoded.

    Args:
        path: the dialogues' file, for the message.
        examples: whose current turns to look at; what a clip adds is not counted.
        tokenizer: the language model's.
        layout: of the prompts.
        limit: `max_prompt_tokens`.

    Raises:
        DataError: names the dialogue and the turn.
    """
    chat = chat_format(tokenizer)
    room = limit - len(layout.encode(chat, Asked((), Turn("user", "")), None)[1])
    for example in examples:
        asked = Asked((), example.current)
        if len(layout.fixed(asked).asked.encode()) >= room:  # no token is shorter than a byte
            try:
                layout.encode(chat, asked, limit)
            except PromptTooLong as error:
                place = f"{path}: dialogue {example.dialogue_id!r}, turn {example.turn - 1}"
                raise DataError(f"{place}: {error}") from None


def placed_texts(path: str, dialogues: Iterable[Dialogue]) -> Iterator[tuple[str, str]]:
    """Yield where each turn stands, and its text."""
    for dialogue in dialogues:
        for number, turn in enumerate(dialogue.turns):
            yield f"{path}: dialogue {dialogue.id!r}, turn {number}", turn.text


def open_corpus(path: str, descriptions: str | None = None, transcripts: str | None = None) -> list[Dialogue]:
    """Read and validate a dialogues file, and say what is odd about it.

    Args:
        path: of the dialogues.
        descriptions: a side file of descriptions, put on their turns; None for none.
        transcripts: a side file of transcripts, put in the place of the user's words; None for none.
    """
    findings = StopAtFault()
    dialogues = list(read_dialogues(path, findings))
    _print_notes(path, findings)
    for file, put in ((descriptions, with_descriptions), (transcripts, with_transcripts)):
        if file is not None:
            findings = StopAtFault()
            dialogues = put(dialogues, file, findings)
            _print_notes(file, findings)
    return dialogues


def require_told(descriptions: str | None, prompt_parts: Iterable[str], think: str = "none") -> None:
    """Refuse descriptions that no prompt tells and no thought says.

    Args:
        descriptions: the recipe's key.
        prompt_parts: of the model's prompts.
        think: form of its thoughts.

    Raises:
        RecipeError: names the remedy.
    """
    if descriptions is not None and think != "words" and "description" not in prompt_parts:
        raise RecipeError(
            "descriptions would do nothing: the model's prompts have no part `description`; add it to prompt_parts "
            "where the model is joined from its parts (or set think: words there), or leave descriptions out"
        )


def open_pairs(path: str, dialogues: Mapping[str, Dialogue]) -> list[PreferencePair]:
    """Read and validate the pairs that point into dialogues, by id, and say what is odd about them."""
    findings = StopAtFault()
    pairs = read_pairs(path, dialogues, findings)
    _print_notes(path, findings)
    return pairs


def _print_notes(path: str, findings: StopAtFault) -> None:
    if stage.rank() == 0:
        for kind, count in findings.notes.items():
            print(f"{path}: noted: {count} x {kind}")
