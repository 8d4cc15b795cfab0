"""What the flows of one driver share: places to start processes at, and questions per second to them.

With one flow nobody notices. With hundreds, all starting at once would make each slower than a process may take to
start, and asking each four times a second would cost more than what they carry.
"""

from __future__ import annotations

import asyncio

from wallaby.settings import Limits


class Share:
    """One per driver; belongs to its event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._running = 0
        self.starting = asyncio.Semaphore(limits.flows_starting_max)
        """Held while processes of a flow come up, in the order of asking; never while anything outside is waited for:
        neither a flow in back-off nor one whose destination is away keeps others from starting."""
        self.caring = asyncio.Semaphore(limits.care_jobs_max)
        """Held by each job of care for tables."""

    def enter(self) -> None:
        """One more flow runs."""
        self._running += 1

    def leave(self) -> None:
        """One flow less runs."""
        self._running -= 1
        assert self._running >= 0, f"{self._running} flows run"

    @property
    def poll_interval_s(self) -> float:
        """How often a flow is asked for its status: the more flows, the less often each."""
        return max(self._limits.status_poll_ms / 1000, self._running / self._limits.status_polls_per_s_max)
