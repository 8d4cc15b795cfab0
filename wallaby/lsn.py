"""Log sequence numbers and stream positions: the only two notions of "where" in wallaby.

A slot delivers transactions in the order of their commit records, and PostgreSQL skips, after a restart, exactly the
transactions whose commit record starts before the confirmed LSN (``SnapBuildXactNeedsSkip`` in ``snapbuild.c`` compares
the *start* of the commit record). Two LSNs therefore name a transaction: ``commit_lsn``, where its commit record
starts (known from the Begin message on), and ``end_lsn``, where the record ends (known from the Commit message).
They interleave strictly::

    end_lsn(T1) <= commit_lsn(T2) < end_lsn(T2) <= commit_lsn(T3) ...

so one ordered pair describes every place at which a consumer can stand:

=========================  ====================================================================
``Position(L, 0)``         every transaction whose commit record ends at or before L is applied
``Position(C, n)``, n > 0  additionally the first n changes of the transaction with commit_lsn C
``Position(0, n)``, n > 0  the first n windows of the initial snapshot are applied
``Position(0, 0)``         nothing is applied
=========================  ====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

_LSN_MAX: Final = 2**64 - 1


class Lsn(int):
    """A PostgreSQL write-ahead-log address: an unsigned 64-bit byte offset, printed as ``X/Y`` in hexadecimal."""

    __slots__ = ()

    def __new__(cls, value: int) -> Self:
        """Make an LSN; ValueError when ``value`` does not fit 64 unsigned bits."""
        if not 0 <= value <= _LSN_MAX:
            raise ValueError(f"LSN {value} is outside 0..2^64-1")
        return super().__new__(cls, value)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read PostgreSQL's ``pg_lsn`` text, for example ``16/B374D848``; ValueError otherwise."""
        high, slash, low = text.strip().partition("/")
        if not slash or not (0 < len(high) <= 8 and 0 < len(low) <= 8):
            raise ValueError(f"{text!r} is not an LSN; expected two hexadecimal numbers such as 16/B374D848")
        try:
            return cls((int(high, 16) << 32) | int(low, 16))
        except ValueError:
            raise ValueError(f"{text!r} is not an LSN; expected two hexadecimal numbers such as 16/B374D848") from None

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec) if not spec or spec[-1] in "s<>^0123456789" else format(int(self), spec)

    def __reduce__(self) -> tuple[type[Self], tuple[int]]:
        return type(self), (int(self),)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a flow's stream; see the module's table for what each form means. Ordered, hashable."""

    lsn: Lsn
    ordinal: int = 0

    def __str__(self) -> str:
        """Fixed-width hexadecimal, ``LLLLLLLLLLLLLLLL.OOOOOOOOOOOOOOOO``: text order is stream order."""
        return f"{int(self.lsn):016X}.{self.ordinal:016X}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` printed; ValueError otherwise."""
        lsn, dot, ordinal = text.partition(".")
        if not dot or len(lsn) != 16 or len(ordinal) != 16:
            raise ValueError(f"{text!r} is not a position")
        return cls(Lsn(int(lsn, 16)), int(ordinal, 16))

    @property
    def is_snapshot(self) -> bool:
        """True while the initial copy is being applied (no stream change is applied yet)."""
        return self.lsn == 0 and self.ordinal > 0

    @property
    def is_whole(self) -> bool:
        """True between transactions: nothing of an unfinished transaction is applied."""
        return self.ordinal == 0


START: Final = Position(Lsn(0), 0)
"""Nothing applied at all: what a destination that has never seen the lane reports."""
