"""Which faults happen, and when: drawn from a seed, so that a failing run can be repeated.

A fault comes after so many more rows have reached the destinations, never after a time: a slow machine sees the same
history of progress. Few rows mean that it strikes while the flow still recovers from the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final


class Fault(StrEnum):
    """What can go wrong. The victim's role follows the word that names it."""

    KILL_SOURCE = "SIGKILL source"
    KILL_POSTGRES_SINK = "SIGKILL sink/postgres"
    KILL_DUCKDB_SINK = "SIGKILL sink/duckdb"
    KILL_FILES_SINK = "SIGKILL sink/parquet"
    KILL_COORDINATOR = "SIGKILL coordinator"
    KILL_DRIVER = "SIGKILL driver"
    FREEZE_POSTGRES_SINK = "SIGSTOP sink/postgres"
    FREEZE_DUCKDB_SINK = "SIGSTOP sink/duckdb"
    FREEZE_FILES_SINK = "SIGSTOP sink/parquet"
    RESTART_SOURCE_SERVER = "restart source server"
    KILL_SOURCE_SERVER = "SIGKILL source server"
    RESTART_TARGET_SERVER = "restart target server"
    KILL_TARGET_SERVER = "SIGKILL target server"
    CUT_SOURCE = "reset source connections"
    CUT_TARGET = "reset target connections"
    BLACK_HOLE_TARGET = "black hole target connections"
    HANG_SOURCE = "hang source"
    HANG_POSTGRES_SINK = "hang sink/postgres"
    HANG_DUCKDB_SINK = "hang sink/duckdb"

    @property
    def verb(self) -> str:
        """The first word."""
        return self.partition(" ")[0]

    @property
    def victim(self) -> str:
        """Everything after the first word."""
        return self.partition(" ")[2]


DURING_COPY: Final = (
    Fault.KILL_SOURCE,
    Fault.KILL_POSTGRES_SINK,
    Fault.KILL_DUCKDB_SINK,
    Fault.KILL_FILES_SINK,
    Fault.KILL_COORDINATOR,
    Fault.KILL_DRIVER,
    Fault.KILL_SOURCE_SERVER,
    Fault.KILL_TARGET_SERVER,
    Fault.CUT_SOURCE,
)
"""Faults that make sense while tables are copied: each ends the attempt."""

HANGS: Final = (Fault.HANG_SOURCE, Fault.HANG_POSTGRES_SINK, Fault.HANG_DUCKDB_SINK)
"""SIGSTOP until the flow goes on without the process, then SIGCONT: the zombie wakes. These take the time that the
supervisor needs to give a silent process up, so they have a test of their own."""

_SOON_SHARE: Final = 0.25
_SOON_ROWS: Final = 50


@dataclass(frozen=True, slots=True)
class Act:
    """``fault``, once ``rows`` more rows have reached the destinations (all of them together)."""

    fault: Fault
    rows: int
    lasts_rows: int
    """A freeze or black hole ends once the other destinations have taken so many rows."""

    def __str__(self) -> str:
        return f"after {self.rows:,} rows: {self.fault}"


def stream_schedule(seed: int, count: int, *, rows_max: int) -> list[Act]:
    """``count`` faults; each kind once before any kind comes again."""
    return _acts(Random(f"stream/{seed}"), [fault for fault in Fault if fault not in HANGS], count, rows_max)


def copy_schedule(seed: int, count: int, *, rows_max: int) -> list[Act]:
    """``count`` faults for the initial copy, spread over it."""
    return _acts(Random(f"copy/{seed}"), list(DURING_COPY), count, rows_max)


def _acts(random: Random, kinds: list[Fault], count: int, rows_max: int) -> list[Act]:
    drawn: list[Fault] = []
    while len(drawn) < count:
        drawn += random.sample(kinds, len(kinds))
    acts = []
    for fault in drawn[:count]:
        limit = _SOON_ROWS if random.random() < _SOON_SHARE else rows_max
        acts.append(Act(fault, random.randint(0, limit), random.randint(200, 2_000)))
    return acts
