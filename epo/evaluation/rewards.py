"""Held-out rewards: how often the policy prefers the gold reply more than the reference does."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from compressor.progress import Progress
from compressor.text import IGNORE
from epo.data.replies import Reply
from epo.model.family import bare, family_of
from epo.preferences.pair import PreferencePair
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.objective import implicit_reward
from epo.training.pair_groups import groups_of

Logps = tuple[Tensor, Tensor]
"""Log-probabilities of chosen and of rejected replies, float32 (N,) each, in nats."""


@torch.no_grad()
def pair_logps(
    model: Any, pairs: Sequence[PreferencePair], build: PromptBuilder, batch_size: int = 25, label: str | None = None
) -> Logps:
    """Return the log-probabilities of the replies of pairs under one model.

    Args:
        model: of any model family.
        pairs: whose replies.
        build: makes their prompts.
        batch_size: pairs at a time, of which those of one length stand together.
        label: under which name progress is shown where it takes long; none shows none.
    """
    model.eval()
    found = torch.zeros(2, len(pairs))
    for places, inputs, labels in _batches(model, pairs, build, batch_size, label):
        found[:, places] = _logps(model, inputs, labels)
    return found[0], found[1]


@torch.no_grad()
def adapter_logps(
    policy: PeftModel,
    pairs: Sequence[PreferencePair],
    build: PromptBuilder,
    batch_size: int = 25,
    label: str | None = None,
) -> tuple[Logps, Logps]:
    """Return the log-probabilities under a policy, and under the policy without its LoRA, its reference.

    Clips and histories are run once for both. Arguments are those of `pair_logps`.
    """
    policy.eval()
    with_lora, without = torch.zeros(2, 2, len(pairs))
    family, model = family_of(policy), bare(policy)
    for places, inputs, labels in _batches(policy, pairs, build, batch_size, label):
        shared = family.encode_once(model, inputs)
        with_lora[:, places] = _logps(policy, shared, labels)
        with policy.disable_adapter():
            without[:, places] = _logps(policy, shared, labels)
    return (with_lora[0], with_lora[1]), (without[0], without[1])


@torch.no_grad()
def reply_nll(
    model: Any, replies: Sequence[Reply], build: PromptBuilder, batch_size: int = 25, label: str | None = None
) -> Tensor:
    """Return the negative log-likelihood of replies under a model, float32 (N,), in nats a token, label included.

    Arguments are those of `pair_logps`.
    """
    model.eval()
    found = torch.zeros(len(replies))
    pairs = [PreferencePair(reply, reply.text, reply.emotion) for reply in replies]  # the same reply on both sides
    for places, inputs, labels in _batches(model, pairs, build, batch_size, label):
        count = (labels[: len(places), 1:] != IGNORE).sum(dim=1).cpu()
        found[places] = -_logps(model, inputs, labels)[0] / count
    return found


def _batches(
    model: Any, pairs: Sequence[PreferencePair], build: PromptBuilder, batch_size: int, label: str | None
) -> Iterator[tuple[list[int], dict[str, Tensor], Tensor]]:
    """Yield places of pairs, the longest first, the model's inputs and the labels of their replies."""
    collate = PairCollator(pairs, build)
    family, base = family_of(model), bare(model)
    family.prepare_scoring(base)
    if pairs and getattr(base, "shares_prompts", None) is None:
        tried = collate(collate.longest(2))
        family.share_prompts(base, {name: tensor.to(model.device) for name, tensor in tried.items()})
    rows = collate.longest(len(pairs))
    progress = Progress(label or "", len(pairs), "pairs", is_shown=label is not None, is_brief_told=False)
    for start in range(0, len(pairs), batch_size):
        part = rows[start : start + batch_size]
        batch = {name: tensor.to(model.device) for name, tensor in collate(part).items()}
        labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)
        yield [row["index"] for row in part], batch, labels
        progress.advance(len(part))
    progress.close()


def _logps(model: Any, inputs: dict[str, Any], labels: Tensor) -> Tensor:
    """Return float32 (2, B), of chosen and of rejected replies."""
    logps: Tensor = model(**inputs, labels=labels, fused_lm_head=True).log_probs.sum(dim=1).float().cpu().view(2, -1)
    return logps


def reward_margins(policy: Logps, reference: Logps) -> Tensor:
    """Return by how much more than the reference the policy prefers each chosen reply: float32 (N,), in nats.

    It is the difference of the two implicit rewards without the loss's beta, which scales them all alike.
    """
    chosen, rejected = (implicit_reward(p, r, 1.0) for p, r in zip(policy, reference, strict=True))
    return chosen - rejected


def wins(margins_N: Tensor) -> list[float]:
    """Return 1 for each margin above 0, one half for a tie, else 0: the reference against itself is one half."""
    return ((margins_N > 0).float() + 0.5 * (margins_N == 0).float()).tolist()


def reward_report(policy: Logps, reference: Logps, pairs: Sequence[PreferencePair], beta: float) -> dict[str, float]:
    """Summarise rewards on held-out pairs.

    Args:
        policy: of `pair_logps` under the policy.
        reference: the same under the reference.
        pairs: the pairs behind them.
        beta: of the loss.

    Returns:
        `reward_accuracy`, the share of pairs whose gold reply has the higher reward, a tie counting half (so the
        reference itself scores exactly 0.5); the mean `reward_margin`; `reward_accuracy/EMOTION` by the user's
        emotion; both numbers by kind of pair, `.../kind/neutral`, and by the emotions of (chosen, rejected),
        `.../sad-happy`. Empty where there are no pairs.
    """
    if not pairs:
        return {}
    margins = reward_margins(policy, reference)
    won = wins(margins)
    by_group: dict[str, list[float]] = defaultdict(list)
    for pair, win, margin in zip(pairs, won, (beta * margins).tolist(), strict=True):
        by_group[f"reward_accuracy/{pair.reply.current.emotion}"].append(win)
        for group in groups_of(pair):
            by_group[f"reward_accuracy/{group}"].append(win)
            by_group[f"reward_margin/{group}"].append(margin)
    return {
        "reward_accuracy": sum(won) / len(won),
        "reward_margin": beta * margins.mean().item(),
        **{name: sum(group) / len(group) for name, group in sorted(by_group.items())},
    }
