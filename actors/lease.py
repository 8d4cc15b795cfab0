"""A process that lost contact ends itself: Ray leaves zombies behind a hung or partitioned node.

The supervisor pings every actor; each ping renews the lease. Fencing by epoch already keeps a zombie from doing harm,
the lease keeps it from holding a slot or a file for ever.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

EXIT_LEASE_LOST: Final = 75
"""Exit status of an actor process whose lease ran out (EX_TEMPFAIL)."""


class Lease:
    """Ends the process when ``renew`` was not called for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._renewed = time.monotonic()
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

    def renew(self) -> None:
        self._renewed = time.monotonic()

    def _watch(self) -> None:
        while (left := self._renewed + self._seconds - time.monotonic()) > 0:
            threading.Event().wait(left)
        os._exit(EXIT_LEASE_LOST)
