"""How long to leave a fast stream alone between two looks at the socket.

The walsender sends every change with a system call of its own. A receiver that looks at once is woken for each of them,
and both sides pay; one that lets bytes pile up pays once per pile, and over TCP the server's sends become cheaper too,
because they meet a shut window and are merged. But a pile larger than the buffers between the two stops the walsender:
about 40 KB of small messages on a unix socket, a few megabytes over TCP. Which pile is best depends on the kernel, the
transport, the size of the messages and what is between the two. So it is found by trying: the size in use and another
one are used in turn for short stretches, and the one that brings more bytes per second stays; where neither brings
more, the one for which this side works less. No rest at all is one of the sizes, and it is tried again and again.

A rest is bought with latency. While the server sends what was committed long ago nobody notices; otherwise no rest is
longer than 2 ms. Below 4 MB/s nothing is tried: there is a rest of 2 ms after each look as long as looks follow each
other so closely that the reader would do little else, at a thousand small transactions a second for instance.

What we dislike: speed is judged by the clock, so on a machine with much else to do a difference has to be large to
be found, and until then the size stays that was best on loopback (specs/decisions/0014, 0036). Work is judged by this
thread's processor time, which others hardly change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
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
_FIRST_STRETCH_S: Final = 0.004
_FIRST_LOOKS: Final = 24
_SETTLE_S: Final = 0.030
_JUDGED_S: Final = 0.080
_GOLDEN: Final = 0.618
_GAP_S: Final = 0.100
_DECAY: Final = 0.99
_HOLD_MIN_S: Final = 1.0
_HOLD_MAX_S: Final = 16.0
_SHORT_S: Final = 2.0
_EAGER_EVERY: Final = 5
_EAGER_FIRST: Final = 3
"""No rest at all is dear to try: not among the first trials, so that a short flood is spared."""
_GAIN_MIN: Final = 0.08
_GAIN_MIN_EAGER: Final = 0.02
"""Without rests: there a small gain is enough, because rests are to be no loss."""
_GAIN_PLAIN: Final = 0.5
_LOSS_MAX: Final = 0.01
_LOSS_PLAIN: Final = 0.3
_ERRORS_CLEAR: Final = {3: 9.9, 4: 5.8, 5: 4.6, 6: 4.0, 7: 3.7, 8: 3.5}
"""By how many standard errors a mean of so many comparisons must differ from nothing (Student's t, 99.5 %)."""


class Pace:
    """Bytes and times in, the end of the rest out. Pure: monotonic seconds come in as arguments.

    ``worked``: processor seconds this side has spent so far; asked a few times in each trial.
    """

    def __init__(
        self, *, is_local: bool, is_enabled: bool = True, worked: Callable[[], float] = time.thread_time
    ) -> None:
        self._is_local = is_local
        self._is_enabled = is_enabled
        self._worked = worked
        self._level = _START_LOCAL if is_local else _START_NETWORK
        self._last: float | None = None
        self._is_fast = False
        self._is_busy = False
        self._speed = 0.0
        self._stretch = _Meter()
        self._trial: _Trial | None = None
        self._trials = 0
        self._direction = 1 if is_local else -1
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
        if self._stretch.is_telling(now, is_first=self._speed == 0.0):
            self._judge_speed(now)
        if not (self._is_fast and self.is_behind):
            self._trial = None
        elif self._trial is None:
            if now >= self._hold_until:
                self._begin_trial(now)
        elif (is_better := self._trial.received(count, now)) is not None:
            self._conclude(self._trial, now, is_better=is_better)
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
        was_fast, self._is_fast = self._is_fast, self._speed >= FAST_BYTES_PER_S / (2 if self._is_fast else 1)
        if self._is_local and self._is_fast and not was_fast:
            # A trial of more than the small buffer holds is dear: a short flood is spared all of them.
            self._hold_until = max(self._hold_until, now + _SHORT_S)

    def _rest_s(self, level: int) -> float:
        if not self._is_fast:
            return QUICK_REST_S if self._is_busy else 0.0
        return min(REST_MAX_S if self.is_behind else QUICK_REST_S, PILES[level] / self._speed)

    def _begin_trial(self, now: float) -> None:
        self._trials += 1
        other = self._level + self._direction
        if self._trials % _EAGER_EVERY == _EAGER_FIRST and self._level > 0:
            other = 0
        if 0 <= other < len(PILES) and self._rest_s(other) != self._rest_s(self._level):
            self._trial = _Trial(self._level, other, now, self._worked)
        else:
            self._keep(now)

    def _conclude(self, trial: _Trial, now: float, *, is_better: bool) -> None:
        self._trial = None
        if is_better:
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

    def is_telling(self, now: float, *, is_first: bool) -> bool:
        """Long enough to judge; the first one is, as soon as so many looks brought something."""
        seconds = self.seconds(now)
        return seconds >= _STRETCH_S or (is_first and seconds >= _FIRST_STRETCH_S and self._looks >= _FIRST_LOOKS)

    def per_second(self, seconds: float) -> float:
        """The bytes, over so many seconds of any clock."""
        return max(self._bytes, 1) / max(seconds, 1e-9)

    def looks_per_s(self, now: float) -> float:
        return self._looks / (now - self._since)

    def rate(self, now: float) -> float:
        return self._bytes / (now - self._since)


class _Trial:
    """Base, other, base, other, base …: each stretch of ``other`` is compared with the two around it.

    The first moment after a change is not judged: bytes that piled up before it would be counted to the wrong side.
    """

    def __init__(self, base: int, other: int, now: float, worked: Callable[[], float]) -> None:
        self.base = base
        self.other = other
        self.level = base
        """The size to use now."""
        self._worked = worked
        self._worked_s = 0.0
        self._began = now
        self._is_settled = False
        self._meter = _Meter()
        self._speeds: list[float] = []
        self._thrifts: list[float] = []
        """Logarithms of bytes per second, and per second of this side's work; one of each per stretch."""

    def received(self, count: int, now: float) -> bool | None:
        """None while it goes on; then whether ``other`` has been shown to be better."""
        if not self._is_settled:
            if now - self._began >= _SETTLE_S:
                self._is_settled = True
                self._meter.begin(now)
                self._worked_s = self._worked()
            return None
        self._meter.add(count)
        # Of uneven length: nothing that happens at regular intervals always falls on the same side.
        seconds = self._meter.seconds(now)
        if seconds < _JUDGED_S * (0.75 + (len(self._speeds) * _GOLDEN) % 1 / 2):
            return None
        self._speeds.append(math.log(self._meter.per_second(seconds)))
        self._thrifts.append(math.log(self._meter.per_second(self._worked() - self._worked_s)))
        self.level = self.other if self.level == self.base else self.base
        self._began, self._is_settled = now, False
        return self._verdict() if len(self._speeds) % 2 and len(self._speeds) > 1 else None

    def _verdict(self) -> bool | None:
        speed, thrift = _Gains(self._speeds), _Gains(self._thrifts)
        if speed.count == 1:
            return False if speed.mean < -_LOSS_PLAIN else None
        if speed.is_plain or speed.is_clear(_GAIN_MIN if self.other else _GAIN_MIN_EAGER):
            return True
        if speed.mean <= -max(_LOSS_MAX, speed.error) or max(speed.mean, thrift.mean) <= 0:
            return False  # only a gain needs proof
        if speed.mean > -_LOSS_MAX and thrift.is_clear(_GAIN_MIN):
            return True
        return None if speed.count + 1 in _ERRORS_CLEAR else False


class _Gains:
    """By how much the stretches at odd places exceed the mean of their neighbours, and how sure that is."""

    def __init__(self, logarithms: Sequence[float]) -> None:
        gains = [logarithms[i] - (logarithms[i - 1] + logarithms[i + 1]) / 2 for i in range(1, len(logarithms), 2)]
        count = len(gains)
        self.count = count
        self.mean = sum(gains) / count
        self.is_plain = count == 2 and min(gains) > _GAIN_PLAIN
        self.error = math.sqrt(sum((gain - self.mean) ** 2 for gain in gains) / max(count - 1, 1) / count)

    def is_clear(self, least: float) -> bool:
        """The gain is at least so large, and no accident."""
        return self.count > 2 and self.mean > max(least, _ERRORS_CLEAR[self.count] * self.error)
