"""What does a lane pay, while no row is refused, to be able to find one: its copy of what is not committed yet?

Windows of about 8 MB through the ``blackhole`` sink, a commit every fourth, nothing else runs. ``stop`` keeps nothing
and is the peer; ``park`` keeps the windows until the commit (``skip`` does the same).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.measure import Line, Run, main, summarise, us_per_row
from sinks.blackhole import FACTORY
from wallaby.flow import DeadLetterPolicy, DeadLetters
from wallaby.lane import Lane
from wallaby.letter import Aside
from wallaby.lsn import Lsn, Position
from wallaby.set_aside import SetAside
from wallaby.settings import Limits
from wallaby.testing.changes import bulk, part, table
from wallaby.window import LaneId, TablePart, Window

_ROWS: Final = 100_000
_LANE: Final = LaneId("bench", "blackhole")
_EVENTS: Final = table("public.events", {"id": "int8", "note": "text"}, key=["id"])


class _Nothing:
    """A dead-letter store that never has any."""

    def begin(self, *_: Any) -> Aside:
        return Aside()

    def replays(self, *_: Any) -> tuple[()]:
        return ()


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """The same windows under either policy."""
    rows = bulk(_EVENTS, [pa.array(np.arange(_ROWS)), pa.array(["some text of a row"] * _ROWS)])
    events, windows = part(_EVENTS, rows), max(8, words.rows // _ROWS)
    found: dict[DeadLetterPolicy, list[Run]] = {DeadLetterPolicy.STOP: [], DeadLetterPolicy.PARK: []}
    for _ in range(words.runs):
        for policy, runs in found.items():
            runs.append(_passed(policy, events, windows))
    peer: Line | None = None
    for policy, runs in found.items():
        note = f"{1000 * us_per_row(runs, lambda run: run.cpu_s):.1f} ns CPU per row"
        line = summarise("lane", policy.value, runs, peer=peer, is_peer=peer is None, note=note)
        peer = peer or line
        yield line


def _passed(policy: DeadLetterPolicy, events: TablePart, windows: int) -> Run:
    letters: Any = _Nothing()
    aside = SetAside(letters, _LANE, 1, rules=DeadLetters(policy=policy), limits=Limits())
    lane = Lane(FACTORY.create({}, destination="blackhole"), _LANE, 1, set_aside=aside)
    after = lane.recover()
    wall, cpu = time.perf_counter(), time.process_time()
    for number in range(1, windows + 1):
        window = Window(after, Position(Lsn(number + 1)), (events,))
        lane.write(window, commit=number % 4 == 0)
        after = window.upto
    return Run(rows=windows * _ROWS, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
