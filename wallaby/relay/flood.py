"""Is the stream in flood? Decides how much the relay gathers before it decodes and before it sends.

A trickle is decoded and sent at once: latency is all that matters. In a flood each feed of the decoder and each window
cost the same whether they carry little or much, so both wait a moment to carry much. How long depends on whether the
stream is behind: then nobody notices the moment, since what has just arrived stood in a queue anyway. A fast stream
that keeps up gathers for a few milliseconds, and its windows leave when a lane is free, as those of a trickle do.
"""

from __future__ import annotations

from wallaby.settings import Limits

_STRETCH_MS = 100
"""Speed is judged over at least this long: on a busy machine single reads are small and large by chance."""


class Flood:
    """Bytes per time, in and out of flood. Pure; time comes in as an argument."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._since_ms: int | None = None
        self._waiting_since_ms: int | None = None
        self.is_on = False
        """More bytes come per second than ``Limits.flood_bytes_per_s``."""
        self.is_behind = False
        """What comes was committed more than ``Limits.behind_after_ms`` before it was sent. The relay says so."""

    @property
    def holds_windows(self) -> bool:
        """A window should rather be full than leave as soon as somebody is free to take it."""
        return self.is_on and self.is_behind

    @property
    def decode_within_ms(self) -> int:
        """How long received bytes may wait to be decoded, in a flood."""
        return self._limits.parse_age_max_ms if self.is_behind else self._limits.parse_age_live_max_ms

    def received(self, count: int, now_ms: int) -> None:
        """``count`` more bytes lie in the arena (0 when a turn brought none). A flood ends at half its speed."""
        if self._since_ms is None:
            self._since_ms = now_ms
        self._bytes += count
        if count and self._waiting_since_ms is None:
            self._waiting_since_ms = now_ms
        elapsed_ms = now_ms - self._since_ms
        if elapsed_ms >= _STRETCH_MS:
            enough = self._limits.flood_bytes_per_s // (2 if self.is_on else 1)
            self.is_on = self._bytes * 1000 >= enough * elapsed_ms
            self._bytes, self._since_ms = 0, now_ms

    def is_decoding_due(self, waiting_bytes: int, now_ms: int) -> bool:
        """What waits in the arena should be decoded now."""
        if not waiting_bytes:
            return False
        since = self._waiting_since_ms
        is_old = since is None or now_ms - since >= self.decode_within_ms
        return not self.is_on or is_old or waiting_bytes >= self._limits.parse_bytes

    def decoded(self) -> None:
        """The arena was decoded."""
        self._waiting_since_ms = None
