"""How long to leave a fast stream alone between two looks at the socket.

The walsender sends every change with a system call of its own. A receiver that looks at once is woken for each of them,
and both sides pay; one that lets bytes pile up pays once per pile, and over TCP the server's sends become cheaper too,
because they meet a shut window and are merged. But a pile larger than the buffers between the two stops the walsender:
about 40 KB of small messages on a unix socket, a few megabytes over TCP. Which pile is best depends on the kernel, the
transport, the size of the messages and what is between the two. So it is found by trying: the size in use and another
one are used in turn for short stretches, and the one that brings more bytes per second stays. No rest at all is one of
the sizes, and it is tried again and again.

A rest is bought with latency. While the server sends what was committed long ago nobody notices; otherwise no rest is
longer than 2 ms. Below 4 MB/s nothing is tried: there is a rest of 2 ms after each look as long as looks follow each
other so closely that the reader would do little else, at a thousand small transactions a second for instance.

What we dislike: a stretch is judged by the clock, so on a machine with much else to do a difference has to be large to
be found, and until then the size stays that was best on loopback (specs/decisions/0014).
"""

from __future__ import annotations

import math
from typing import Final

PILES: Final = (0, 8 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)
"""Bytes to let pile up; a rest is the time the stream needs for them."""
REST_MAX_S: Final = 0.030
QUICK_REST_S: Final = 0.002
"""The longest rest while the stream is not behind or not fast."""
FAST_BYTES_PER_S: Final = 4 << 20
"""From this speed on piles are counted; that ends some seconds after it fell to half of it."""
BUSY_LOOKS_PER_S: Final = 300.0
"""From so many looks that bring something on, a slower stream gets quick rests; they end at half of it."""

_START_NETWORK: Final = 4
_START_LOCAL: Final = 0
_STRETCH_S: Final = 0.020
_SETTLE_S: Final = 0.030
_JUDGED_S: Final = 0.080
_GOLDEN: Final = 0.618
_GAP_S: Final = 0.100
_DECAY: Final = 0.99
_HOLD_MIN_S: Final = 1.0
_HOLD_MAX_S: Final = 16.0
_FALLBACK_EVERY: Final = 5
_GAIN_MIN: Final = 0.08
_GAIN_PLAIN: Final = 0.5
_ERRORS_CLEAR: Final = {3: 9.9, 4: 5.8, 5: 4.6, 6: 4.0, 7: 3.7, 8: 3.5}
"""By how many standard errors a mean of so many comparisons must differ from nothing (Student's t, 99.5 %)."""


class Pace:
    """Bytes and times in, the end of the rest out. Pure: monotonic seconds come in as arguments."""

    def __init__(self, *, is_local: bool, is_enabled: bool = True) -> None:
        self._is_enabled = is_enabled
        self._level = _START_LOCAL if is_local else _START_NETWORK
        self._last: float | None = None
        self._is_fast = False
        self._is_busy = False
        self._speed = 0.0
        self._stretch = _Meter()
        self._trial: _Trial | None = None
        self._trials = 0
        self._direction = -1
        self._losses = 0
        self._hold_s = _HOLD_MIN_S
        self._hold_until = 0.0
        self.is_behind = False
        """What the server sends was committed a while ago: latency is no concern. The reader sets it."""
        self.rest_until = 0.0
        """Monotonic seconds before which it is better not to look at the socket."""

    @property
    def pile_bytes(self) -> int:
        """The pile found best so far; 0 means no rest."""
        return PILES[self._level]

    @property
    def is_trying(self) -> bool:
        """True while two sizes are being compared."""
        return self._trial is not None

    def received(self, count: int, now: float) -> None:
        """The socket was emptied at ``now`` and gave ``count`` bytes; sets `rest_until`."""
        if not self._is_enabled:
            return
        if self._last is None or now - self._last > _GAP_S:
            # The reader was elsewhere, or there was nothing to read: neither that time nor what came in it counts.
            self._begin(now)
        else:
            self._stretch.add(count)
        self._last = now
        if self._stretch.seconds(now) >= _STRETCH_S:
            self._judge_speed(now)
        if not (self._is_fast and self.is_behind):
            self._trial = None
        elif self._trial is None:
            if now >= self._hold_until:
                self._begin_trial(now)
        elif (gain := self._trial.received(count, now)) is not None:
            self._conclude(self._trial, gain, now)
        self.rest_until = now + self._rest_s(self._level if self._trial is None else self._trial.level)

    def _begin(self, now: float) -> None:
        self._stretch.begin(now)
        self._is_fast = self._is_busy = False
        self._speed = 0.0
        self._trial = None

    def _judge_speed(self, now: float) -> None:
        rate = self._stretch.rate(now)
        self._is_busy = self._stretch.looks_per_s(now) >= BUSY_LOOKS_PER_S / (2 if self._is_busy else 1)
        self._stretch.begin(now)
        # Not the rate itself: a pile too large lowers it, which would lengthen the rest for the same pile further; and
        # on a busy machine the walsender stands still now and then.
        self._speed = max(rate, self._speed * _DECAY)
        self._is_fast = self._speed >= FAST_BYTES_PER_S / (2 if self._is_fast else 1)

    def _rest_s(self, level: int) -> float:
        if not self._is_fast:
            return QUICK_REST_S if self._is_busy else 0.0
        return min(REST_MAX_S if self.is_behind else QUICK_REST_S, PILES[level] / self._speed)

    def _begin_trial(self, now: float) -> None:
        self._trials += 1
        other = self._level + self._direction
        if self._trials % _FALLBACK_EVERY == 1 and self._level > 0:
            other = 0
        if 0 <= other < len(PILES) and self._rest_s(other) != self._rest_s(self._level):
            self._trial = _Trial(self._level, other, now)
        else:
            self._keep(now)

    def _conclude(self, trial: _Trial, gain: float, now: float) -> None:
        self._trial = None
        if gain > 0:
            self._level = trial.other
            self._losses, self._hold_s, self._hold_until = 0, _HOLD_MIN_S, now
        else:
            self._keep(now)

    def _keep(self, now: float) -> None:
        """The size in use stays; the next trial goes the other way, and comes later each time both ways were tried."""
        self._direction = -self._direction
        self._hold_until = now + self._hold_s
        self._losses += 1
        if self._losses % 2 == 0:
            self._hold_s = min(_HOLD_MAX_S, self._hold_s * 2)


class _Meter:
    """Bytes, and looks that brought any, over time."""

    def __init__(self) -> None:
        self._bytes = self._looks = 0
        self._since = 0.0

    def begin(self, now: float) -> None:
        self._bytes, self._looks, self._since = 0, 0, now

    def add(self, count: int) -> None:
        self._bytes += count
        self._looks += count > 0

    def seconds(self, now: float) -> float:
        return now - self._since

    def looks_per_s(self, now: float) -> float:
        return self._looks / (now - self._since)

    def rate(self, now: float) -> float:
        return self._bytes / (now - self._since)


class _Trial:
    """Base, other, base, other, base …: each stretch of ``other`` is compared with the two around it.

    The first moment after a change is not judged: bytes that piled up before it would be counted to the wrong side.
    """

    def __init__(self, base: int, other: int, now: float) -> None:
        self.base = base
        self.other = other
        self.level = base
        """The size to use now."""
        self._began = now
        self._is_settled = False
        self._meter = _Meter()
        self._rates: list[float] = []

    def received(self, count: int, now: float) -> float | None:
        """None while it goes on; then the logarithm of how many times faster ``other`` is, 0 when that is not shown."""
        if not self._is_settled:
            if now - self._began >= _SETTLE_S:
                self._is_settled = True
                self._meter.begin(now)
            return None
        self._meter.add(count)
        # Of uneven length: nothing that happens at regular intervals always falls on the same side.
        if self._meter.seconds(now) < _JUDGED_S * (0.75 + (len(self._rates) * _GOLDEN) % 1 / 2):
            return None
        self._rates.append(math.log(max(self._meter.rate(now), 1.0)))
        self.level = self.other if self.level == self.base else self.base
        self._began, self._is_settled = now, False
        return self._verdict() if len(self._rates) % 2 and len(self._rates) > 3 else None

    def _verdict(self) -> float | None:
        rates = self._rates
        gains = [rates[i] - (rates[i - 1] + rates[i + 1]) / 2 for i in range(1, len(rates), 2)]
        count, mean = len(gains), sum(gains) / len(gains)
        if mean <= 0:
            return 0.0  # only a gain needs proof
        if count == 2:
            return mean if min(gains) > _GAIN_PLAIN else None
        error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (count - 1) / count)
        if mean > max(_GAIN_MIN, _ERRORS_CLEAR[count] * error):
            return mean
        return None if count + 1 in _ERRORS_CLEAR else 0.0
