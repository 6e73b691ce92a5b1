"""Rewards: on held-out pairs, how often a model prefers the gold reply more than its reference does."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from epo.evaluation.scoring import scored
from epo.evaluation.suite import Answers, Column, Suite, Task, Values
from epo.evaluation.variants import can_vary
from epo.preferences.pair import PreferencePair
from epo.ranks import gather_shares, share

if TYPE_CHECKING:
    from torch import Tensor

    from epo.evaluation.contestants import Contestant


def score(task: Task, answers: Answers) -> Values:
    """Return accuracy and margin of the held-out rewards, each pair's mean over the draws of the variant."""
    import torch

    from epo.evaluation.rewards import reward_margins, wins

    contestant, replies = answers.contestant, [pair.reply for pair in task.pairs]
    if contestant is None or not contestant.has_reference or not can_vary(contestant.variant, replies):
        return {}
    draws = []
    for seed in range(task.seed, task.seed + contestant.num_draws):
        changed = contestant.variant(replies, seed)
        drawn = [replace(pair, reply=reply) for reply, pair in zip(changed, task.pairs, strict=True)]
        draws.append(reward_margins(*_gathered_logps(contestant, drawn)))
    margins_DN = torch.stack(draws)
    won_N = torch.tensor([wins(margins_N) for margins_N in margins_DN]).mean(dim=0)
    dialogues = [reply.dialogue_id for reply in replies]
    return scored("reward_accuracy", won_N.tolist(), dialogues) | scored(
        "reward_margin", margins_DN.mean(dim=0).tolist(), dialogues
    )


def _gathered_logps(
    contestant: "Contestant", pairs: list[PreferencePair]
) -> tuple[tuple["Tensor", "Tensor"], tuple["Tensor", "Tensor"]]:
    """Return what policy and reference make of chosen and rejected replies, each rank having done its share."""
    import torch
    from peft import PeftModel

    from epo.evaluation.rewards import adapter_logps, pair_logps

    model: Any = contestant.model
    mine, build, label = share(pairs), contestant.build, f"{contestant.name}: rewards"
    if isinstance(model, PeftModel):
        policy, base = adapter_logps(model, mine, build, label=label)
    else:
        policy = pair_logps(model, mine, build, label=label)
        is_itself = contestant.reference is model
        base = policy if is_itself else pair_logps(contestant.reference, mine, build, label=label)
    policy_chosen, policy_rejected, base_chosen, base_rejected = torch.tensor(
        gather_shares(torch.stack([*policy, *base]).T.tolist())
    ).T
    return (policy_chosen, policy_rejected), (base_chosen, base_rejected)


SUITE = Suite(
    place=60,
    needs=("model", "pairs", "reference"),
    columns=(
        Column(
            "reward_accuracy",
            "Reward accuracy",
            "Share of held-out pairs where the policy prefers the gold reply over the counter-emotional one more than "
            "the reference does. With shuffled clips (mean of five shuffles) 0.5 says that a pair cannot be told apart "
            "without its clip; the reference itself scores 0.5 by definition.",
            has_interval=True,
        ),
        Column(
            "reward_margin",
            "Reward margin",
            "By how many nats more than the reference the policy prefers the gold reply, mean over the same pairs; "
            "without the loss's beta, so that runs with different ones can be compared.",
            digits=2,
            has_interval=True,
            in_console=False,
        ),
    ),
    score=score,
)
