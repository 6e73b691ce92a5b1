"""The tally of a split's candidates: how many were asked for, what each check let through, and what was refused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from epo.preferences.verification import CHECKS, Examined, Examiner


@dataclass
class Tally:
    """Counts over the candidates of a split.

    Attributes:
        asked: replies for which the source was asked.
        candidates: what it offered for them, all together.
        accepted: candidates that may become a pair; several may be of one reply.
        passed: candidates that passed each check, by its name.
        measured: candidates of which that could be told.
        refused: candidates by the first reason that spoke against them.
        dropping: names of the checks that drop candidates of this source; the others are only measured.
    """

    asked: int = 0
    candidates: int = 0
    accepted: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    measured: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dropping: frozenset[str] = frozenset()

    def count(self, found: Sequence[Examined], examiner: Examiner) -> None:
        """Count the candidates of one reply."""
        self.dropping = frozenset(check.name for check in CHECKS if examiner.drops(check))
        self.asked += 1
        self.candidates += len(found)
        for one in found:
            self.accepted += one.reason is None
            if one.reason is not None:
                self.refused[one.reason] += 1
            self.measured.update(name for name, passed in one.passed.items() if passed is not None)
            self.passed.update(name for name, passed in one.passed.items() if passed)

    def report(self, num_pairs: int) -> dict[str, Any]:
        """Return what a report says of them, ready for JSON.

        Args:
            num_pairs: that were kept.

        Returns:
            asked, candidates, accepted; yield, kept pairs over replies asked for, None where none was; checks, each
            with how many candidates it was `measured` of, how many `passed`, and whether it `drops`; refused.
        """
        return {
            "asked": self.asked,
            "candidates": self.candidates,
            "accepted": self.accepted,
            "yield": num_pairs / self.asked if self.asked else None,
            "checks": {
                check.name: {
                    "passed": self.passed[check.name],
                    "measured": self.measured[check.name],
                    "drops": check.name in self.dropping,
                }
                for check in CHECKS
            },
            "refused": dict(self.refused.most_common()),
        }


__all__ = ["Tally"]
