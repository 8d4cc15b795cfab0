"""Care for a destination's tables as Ray tasks: each one job in a process of its own, which ends with it or is killed.

Killed at any moment a keeper leaves files nobody knows and never half a version (`wallaby.care.Keeper.do`), so a stop
does not wait for it.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wallaby.care import Keeper, KeeperFactory, Turn, take_turn
from wallaby.endpoints import sink_factory
from wallaby.schema import TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A flow's destination. ``options`` have their secrets resolved; relative paths in them are meant from
    ``directory``."""

    kind: str
    options: dict[str, Any]
    directory: str
    flow: str
    destination: str

    def __repr__(self) -> str:
        return f"Place({self.flow}/{self.destination}, {self.kind})"


def list_tables(place: Place) -> tuple[TableName, ...]:
    """The tables there are to look after."""
    with closing(_keeper(place)) as keeper:
        return keeper.tables()


def turn_of(place: Place, table: TableName) -> Turn | None:
    """One table's turn; see `wallaby.care.take_turn`."""
    with closing(_keeper(place)) as keeper:
        return take_turn(keeper, table, now=datetime.now(UTC))


def _keeper(place: Place) -> Keeper:
    if os.path.isdir(place.directory):
        os.chdir(place.directory)
    factory = sink_factory(place.kind)
    assert isinstance(factory, KeeperFactory), f"{place.kind} has tables nobody looks after"
    return factory.keeper(place.options, flow=place.flow, destination=place.destination)


__all__ = ["Place", "list_tables", "turn_of"]
