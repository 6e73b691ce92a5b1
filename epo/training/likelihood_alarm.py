"""An alarm: the gold replies become steadily less likely, while their margin over the rejected ones may still grow."""

from statistics import correlation

MIN_FALL = 0.1
"""Nats a token: each of a gold reply's tokens a tenth less likely. Our choice."""
_MIN_VALUES, _TREND = 9, -0.5


class LikelihoodAlarm:
    """Watches by how many nats a token the gold replies are likelier than under the reference.

    That difference takes out which replies a batch holds: it starts at 0 and falls only where the policy does.

    Known of DPO: it lowers the chosen likelihood with the rejected one (Pal et al. 2024, arXiv 2402.13228; Razin et al.
    2024, arXiv 2410.08847). What counts as a steady fall is our choice.
    """

    def __init__(self) -> None:
        self._values: list[float] = []
        self._has_rung = False

    def add(self, shift: float) -> str | None:
        """Take the mean since the last log, and return a warning the first time that one is due.

        It is due after nine values or more, where the mean of their last third lies below that of the first by
        `MIN_FALL`, the middle third lies between, and values and time correlate at -0.5 or below.

        Args:
            shift: log-probability under the policy less that under the reference, of the gold replies, in nats a token.
        """
        self._values.append(shift)
        if self._has_rung or len(self._values) < _MIN_VALUES:
            return None
        third = len(self._values) // 3
        parts = self._values[:third], self._values[third:-third], self._values[-third:]
        first, middle, last = (sum(part) / len(part) for part in parts)
        falls = first > middle > last and first - last > MIN_FALL
        self._has_rung = falls and correlation(self._values, range(len(self._values))) <= _TREND
        if not self._has_rung:
            return None
        return (
            f"warning: the chosen replies' log-probability falls: by {first - last:.2f} nats a token against the "
            f"reference from the first third of {len(self._values)} logged values to the last; the margin grows by "
            "making both replies unlikely, and answers may suffer: raise alpha or anchor_weight, or lower learning_rate"
        )


__all__ = ["MIN_FALL", "LikelihoodAlarm"]
