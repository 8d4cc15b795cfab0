"""Which lane of a destination a table's changes go to: a stable hash of its name, so that one table has one order."""

from __future__ import annotations

import zlib
from dataclasses import replace

from wallaby.schema import TableName
from wallaby.window import Barrier, Window


def lane_of(table: TableName, lanes: int) -> int:
    """The lane index in ``range(lanes)``; equal on every machine and in every version."""
    return zlib.crc32(f"{table.schema}\0{table.name}".encode()) % lanes


def route(window: Window, lanes: int) -> dict[int, Window]:
    """Lane index → the part of ``window`` that is its own. Lanes without a share are absent.

    A barrier is split by table as well: TRUNCATE of a table happens on the lane that writes it, in order.
    """
    if lanes == 1:
        return {0: window}
    if window.barrier is not None:
        return {
            index: replace(window, barrier=_share(window.barrier, index, lanes))
            for index in sorted({lane_of(table, lanes) for table in window.barrier.tables})
        }
    shares: dict[int, list[int]] = {}
    for i, part in enumerate(window.parts):
        shares.setdefault(lane_of(part.schema.name, lanes), []).append(i)
    return {index: replace(window, parts=tuple(window.parts[i] for i in own)) for index, own in shares.items()}


def _share(barrier: Barrier, index: int, lanes: int) -> Barrier:
    return replace(
        barrier,
        tables=tuple(table for table in barrier.tables if lane_of(table, lanes) == index),
        schemas=tuple(schema for schema in barrier.schemas if lane_of(schema.name, lanes) == index),
    )
