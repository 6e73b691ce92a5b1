"""The steps of every training stage on tensors of given sizes: what is held while they run, before there is any data.

Each does what its trainer does to a micro-batch, by the same models and losses, on rows that are all of one length.
Only where placeholders are looked for, which needs values, are vectors and words put side by side instead.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from compressor.language_model import logits_at
from compressor.objectives import mean_over_examples, reply_nll, token_nll
from epo.model.extractor import emotion_loss
from epo.model.family import bare
from epo.model.shared_prompt import recurrent_layers
from epo.model.token_scores import score_rows


@dataclass(frozen=True)
class StepSizes:
    """The sizes of a micro-batch.

    Attributes:
        rows: examples in it; pairs, for preferences.
        tokens: of a row of the language model, prompt and reply.
        reply: of them that are learnt; of a pair those of either reply.
        history: tokens and slots that the compressor reads for a row, 0 where it reads nothing.
        memories: of them that are memory slots.
        text: tokens of a row whose history is written out, for distillation.
        turn: tokens of a row in which a turn is rebuilt.
        mel_frames: of a clip, 0 where none is read.
        video_frames: of a clip.
    """

    rows: int
    tokens: int
    reply: int
    history: int = 0
    memories: int = 0
    text: int = 0
    turn: int = 0
    mel_frames: int = 0
    video_frames: int = 0


def text_step(llm: Any, sizes: StepSizes) -> Tensor:
    """Return the loss of a language model on whole dialogues, as `TextTrainer` has it."""
    labels = _ids(sizes.rows, sizes.tokens)
    nll = token_nll(llm(input_ids=_ids(sizes.rows, sizes.tokens), use_cache=False).logits, labels)
    return mean_over_examples(nll, labels, torch.ones(sizes.rows, sizes.tokens))


def extractor_step(extractor: Any, sizes: StepSizes) -> Tensor:
    """Return the loss of an extractor on labelled clips, as `ExtractorTrainer` has it."""
    return emotion_loss(extractor(**_clips(extractor, sizes)), torch.zeros(sizes.rows, dtype=torch.long))


def compressor_step(
    compressor: Any, llm: Any, sizes: StepSizes, reconstructs: bool = True, distils: bool = True
) -> Tensor:
    """Return the loss of a compressor through a frozen language model, as `CompressorTrainer` has it."""
    memories = _memories(compressor, sizes)
    logits = _memory_logits(llm, memories, sizes.tokens, sizes.reply)
    labels = _ids(sizes.rows, sizes.reply + 1)
    loss = reply_nll(logits, labels)
    if reconstructs:
        one = memories[:, : compressor.config.num_memory_tokens]
        said = max(sizes.turn - one.size(1), 1)
        loss = loss + reply_nll(_memory_logits(llm, one, sizes.turn, said), _ids(sizes.rows, said + 1))
    if distils:
        with torch.no_grad():
            columns = _last(sizes.text, sizes.reply)
            teacher = llm(input_ids=_ids(sizes.rows, sizes.text), use_cache=False, logits_to_keep=columns).logits
        picked = torch.arange(sizes.rows * sizes.reply)  # by index, as the replies' places are picked: a copy each
        student_RV = logits[:, :-1].flatten(0, 1)[picked].float().log_softmax(dim=-1)
        teacher_RV = teacher[:, :-1].flatten(0, 1)[picked].float().log_softmax(dim=-1)
        loss = loss + functional.kl_div(student_RV, teacher_RV, log_target=True, reduction="none").sum(dim=-1).mean()
    return loss


def tuning_step(model: Any, sizes: StepSizes, emotion_weight: float) -> Tensor:
    """Return the loss of the whole model on gold replies, as `SftTrainer` has it."""
    embeds, clips = _embeds(model, sizes, sizes.tokens)
    columns = _last(sizes.tokens, sizes.reply)
    mask = torch.ones(sizes.rows, sizes.tokens, dtype=torch.long)
    logits = logits_at(model.language_model, columns, inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    loss = reply_nll(logits, _ids(sizes.rows, sizes.reply + 1))
    if emotion_weight == 0:
        return loss
    return loss + emotion_weight * emotion_loss(clips, torch.zeros(sizes.rows, dtype=torch.long))


def pair_step(policy: Any, sizes: StepSizes, reads_other: bool = False, tokens_per_row: int | None = None) -> Tensor:
    """Return a loss of preferences, of policy and of the same model without its LoRA, as `EpoTrainer` reads them.

    Args:
        policy: with its LoRA; without one all weights train, and the reference was read before.
        sizes: of a micro-batch.
        reads_other: whether the chosen replies are read under another clip too.
        tokens_per_row: of rows that hold several pairs, None for one pair a row.
    """
    model = bare(policy)
    shares = not recurrent_layers(model.config.text_config)

    def score(vectors: list[Tensor], replies: int) -> Tensor:
        """Score so many replies of each prompt: (pairs x replies x reply,)."""
        rows, packs = replies * sizes.rows, shares and replies == 2
        length = sizes.tokens + sizes.reply if packs else sizes.tokens
        reads: dict[str, Any] = {"attention_mask": torch.ones(rows, length, dtype=torch.long)}
        replies_a_row = replies if packs else 1
        if packs:
            rows = sizes.rows
        else:
            vectors = [one.repeat(replies, 1, 1) for one in vectors]
        embeds = _placed(model.get_input_embeddings()(_ids(rows, length)), vectors)
        if shares and tokens_per_row is not None:
            together = min(max(tokens_per_row // length, 1), rows)
            embeds = (
                functional.pad(embeds, (0, 0, 0, 0, 0, -rows % together)).unflatten(0, (-1, together)).flatten(1, 2)
            )
            rows, length = embeds.shape[:2]
            replies_a_row *= together
        if packs or tokens_per_row is not None and shares:
            mask = torch.zeros(rows, 1, length, length, dtype=model.dtype)
            reads = {"attention_mask": mask, "position_ids": _ids(rows, length)}
        columns = _last(length, replies_a_row * sizes.reply)
        scores = logits_at(model.language_model, columns, inputs_embeds=embeds, use_cache=False, **reads)
        picked = torch.arange(replies * sizes.rows * sizes.reply)
        logits = scores[picked % scores.size(0), picked % scores.size(1)].float()
        log_probs, *_ = score_rows(logits, picked)
        return log_probs

    loss = torch.zeros(())
    for replies in (2, 1) if reads_other else (2,):
        with torch.no_grad():
            context, _ = _context(model, sizes)
        outputs = score(context, replies)
        base = torch.zeros_like(outputs)
        if policy is not model:
            with torch.no_grad(), policy.disable_adapter():
                base = score(context, replies)
        loss = loss + (outputs - base).sum()
    return loss


@torch.no_grad()
def answering_step(model: Any, sizes: StepSizes) -> None:
    """Read prompts and replies once, keeping the cache: what generation holds at its last token."""
    embeds, _ = _embeds(model, sizes, sizes.tokens)
    mask = torch.ones(sizes.rows, sizes.tokens, dtype=torch.long)
    held = model.language_model(inputs_embeds=embeds, attention_mask=mask, use_cache=True, logits_to_keep=1)
    del held


def _embeds(model: Any, sizes: StepSizes, length: int) -> tuple[Tensor, Any]:
    vectors, clips = _context(model, sizes)
    return _placed(model.get_input_embeddings()(_ids(sizes.rows, length)), vectors), clips


def _context(model: Any, sizes: StepSizes) -> tuple[list[Tensor], Any]:
    """Return memories and clips of a batch as vectors, and what the extractor says of the clips."""
    vectors = [_memories(model.compressor, sizes)] if sizes.history else []
    if not sizes.mel_frames and not sizes.video_frames:
        return vectors, None
    encoded = model.encode_context(**_clips(model.extractor, sizes))
    return [*vectors, *(values for values, _ in encoded.vectors.values())], encoded.clips


def _memories(compressor: Any, sizes: StepSizes) -> Tensor:
    """Return (B, M, D), as `MambaCompressor.forward` makes them of slots whose places are known."""
    ids = _ids(sizes.rows, sizes.history)
    if compressor.backprop_tokens is None:
        hidden = compressor.backbone(inputs_embeds=compressor.embed(ids), use_cache=False).last_hidden_state
    else:
        hidden = compressor.read(ids)  # segment by segment
    positions = _ids(sizes.rows, sizes.memories)
    picked = hidden.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden.size(-1)))
    memories: Tensor = compressor.project(picked)
    return memories


def _memory_logits(llm: Any, memories: Tensor, length: int, said: int) -> Tensor:
    embeds = _placed(llm.get_input_embeddings()(_ids(memories.size(0), length)), [memories])
    logits: Tensor = llm(inputs_embeds=embeds, use_cache=False, logits_to_keep=_last(length, said)).logits
    return logits


def _placed(embeds: Tensor, vectors: list[Tensor]) -> Tensor:
    """Put vectors in the place of as many words, at the beginning of each row."""
    for one in vectors:
        embeds = embeds + 0.0 * one.sum().to(embeds.dtype)  # as `fill_placeholders` does
    joined = torch.cat([one.to(embeds.dtype) for one in vectors] or [embeds[:, :0]], dim=1)[:, : embeds.size(1)]
    return torch.cat([joined, embeds[:, joined.size(1) :]], dim=1)


def _clips(extractor: Any, sizes: StepSizes) -> dict[str, Tensor]:
    audio, vision = extractor.config.audio_config, extractor.config.vision_config
    side = vision.image_size
    return {
        "input_features": torch.zeros(sizes.rows, audio.num_mel_bins, max(sizes.mel_frames, 2)),
        "num_mel_frames": torch.zeros(sizes.rows, dtype=torch.long),
        "pixel_values": torch.zeros(sizes.rows, max(sizes.video_frames, 1), 3, side, side),
        "num_video_frames": torch.zeros(sizes.rows, dtype=torch.long),
    }


def _last(length: int, count: int) -> Tensor:
    """Return the last columns that say `count` tokens: each is said by the one before it, and the last says nothing."""
    return torch.arange(max(length - count - 1, 0), length)


def _ids(*sizes: int) -> Tensor:
    return torch.zeros(*sizes, dtype=torch.long)


__all__ = [
    "StepSizes",
    "answering_step",
    "compressor_step",
    "extractor_step",
    "pair_step",
    "text_step",
    "tuning_step",
]
