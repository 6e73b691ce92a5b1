"""Held-out rewards: how often the policy prefers the gold reply more than the reference does."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from compressor.data import IGNORE
from epo.training.collate import PairCollator, PromptBuilder
from epo.training.examples import PairExample
from epo.training.losses import implicit_reward, sequence_logps


@torch.no_grad()
def pair_logps(
    model: Any, pairs: Sequence[PairExample], build: PromptBuilder, batch_size: int = 25
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of chosen and of rejected replies, float32 (N,) each, in nats."""
    model.eval()
    collate = PairCollator(pairs, build)
    parts = []
    for start in range(0, len(pairs), batch_size):
        rows = [{"index": i} for i in range(start, min(start + batch_size, len(pairs)))]
        batch = {name: tensor.to(model.device) for name, tensor in collate(rows).items()}
        labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORE)
        parts.append(sequence_logps(model(**batch).logits, labels).cpu().view(2, -1))
    chosen, rejected = torch.cat(parts, dim=1) if parts else torch.zeros(2, 0)
    return chosen, rejected


def reward_report(
    policy: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], pairs: Sequence[PairExample], beta: float
) -> dict[str, float]:
    """Summarise rewards on held-out pairs.

    Args:
        policy: of `pair_logps` under the policy.
        reference: the same under the reference.
        pairs: the pairs behind them.
        beta: of the loss.

    Returns:
        `reward_accuracy`, the share of pairs whose gold reply has the higher reward, a tie counting half (so the
        reference itself scores exactly 0.5); the mean `reward_margin`; and `reward_accuracy/EMOTION` by the user's
        emotion. Empty where there are no pairs.
    """
    if not pairs:
        return {}
    chosen, rejected = (implicit_reward(p, r, beta) for p, r in zip(policy, reference, strict=True))
    wins = ((chosen > rejected).float() + 0.5 * (chosen == rejected).float()).tolist()
    by_emotion: dict[str, list[float]] = defaultdict(list)
    for pair, win in zip(pairs, wins, strict=True):
        by_emotion[str(pair.example.current.emotion)].append(win)
    return {
        "reward_accuracy": sum(wins) / len(wins),
        "reward_margin": (chosen - rejected).mean().item(),
        **{f"reward_accuracy/{emotion}": sum(group) / len(group) for emotion, group in sorted(by_emotion.items())},
    }
