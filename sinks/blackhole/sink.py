"""Takes every window, counts it, forgets it. Its position lives in the process: after a restart it has none.

Delivery is therefore "at least once" by derivation, and a flow whose blackhole has restarted is refused like one
whose destination went back in time. Use it with ``--once``, or give the flow a new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sinks.blackhole.config import BlackholeOptions
from sinks.blackhole.writer import BlackholeWriter
from wallaby.lsn import START, Position
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Capabilities, Finding, WriteMode
from wallaby.window import LaneId

CAPABILITIES: Final = Capabilities(
    modes=frozenset(WriteMode),
    atomic_position=False,
    keyed_upsert=False,
    whole_transactions=False,
    truncate=True,
    parallel_lanes=True,
    exact_outliers=False,
)


class BlackholeSink:
    """A sink without a destination."""

    def __init__(self, options: BlackholeOptions) -> None:
        self._options = options

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def commit_interval_ms(self) -> int:
        return round(self._options.commit_interval.total_seconds() * 1000)

    def open(self) -> None:
        return

    def close(self) -> None:
        return

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Finding]:
        return []

    def ensure_table(self, schema: TableSchema) -> None:
        return

    def reset_table(self, table: TableName, lane: LaneId, epoch: int) -> None:
        return

    def recover(self, lane: LaneId, epoch: int) -> Position:
        return START

    def reset_lane(self, lane: LaneId, epoch: int) -> None:
        return

    def writer(self, lane: LaneId, epoch: int) -> BlackholeWriter:
        return BlackholeWriter(lane)


class BlackholeFactory:
    """See `wallaby.sink.SinkFactory`."""

    name = "blackhole"
    options_model = BlackholeOptions

    def describe(self, options: Mapping[str, Any]) -> Capabilities:
        BlackholeOptions.parse(options)
        return CAPABILITIES

    def create(self, options: Mapping[str, Any], *, destination: str) -> BlackholeSink:
        return BlackholeSink(BlackholeOptions.parse(options))


FACTORY: Final = BlackholeFactory()
