"""Token buckets: how many calls each caller may make. Pure: time is an argument."""

from __future__ import annotations

from collections import OrderedDict


class Rates:
    """One bucket per caller: ``burst`` calls at once, ``per_s`` in the long run."""

    def __init__(self, *, per_s: float, burst: int, callers_max: int) -> None:
        assert min(per_s, burst, callers_max) > 0, f"not a rate: {per_s}/s, {burst}, {callers_max}"
        self._per_s = per_s
        self._burst = burst
        self._callers_max = callers_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str, now_s: float) -> bool:
        """True when ``caller`` may make one call more; it is counted then."""
        left, at_s = self._buckets.get(caller, (float(self._burst), now_s))
        left = min(float(self._burst), left + max(0.0, now_s - at_s) * self._per_s)
        is_allowed = left >= 1
        self._buckets[caller] = (left - 1 if is_allowed else left, max(at_s, now_s))
        self._buckets.move_to_end(caller)
        if len(self._buckets) > self._callers_max:
            self._buckets.popitem(last=False)
        return is_allowed
