"""Tables with deletion vectors, from the outside: what several modules of tests share."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from sinks.delta.sink import DeltaSink
from sinks.delta.vectors import FOLDER
from tests.sinks.delta.conftest import target_path
from wallaby.schema import TableSchema
from wallaby.testing.changes import insert, table
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
TEN = [(ORDERS, insert(n, "a")) for n in range(10)]
MakeSink = Callable[..., DeltaSink]
Delta = Callable[[TableSchema], DeltaTable]
Check = Callable[[TableSchema, pa.Table], None]


def actions_of(root: Path, schema: TableSchema) -> list[dict[str, Any]]:
    """The newest entry of a target's log."""
    newest = max((Path(target_path(root, schema.name)) / "_delta_log").glob("*.json"))
    return [json.loads(line) for line in newest.read_text().splitlines()]


def files_of(root: Path, schema: TableSchema) -> set[str]:
    return {file.name for file in Path(target_path(root, schema.name)).glob("*.parquet")}


def vectors_of(root: Path, schema: TableSchema) -> list[Path]:
    return sorted((Path(target_path(root, schema.name)) / FOLDER).glob("*"))


@contextmanager
def compacting(path: str) -> Iterator[None]:
    """A user who compacts the table the whole time, and whom losing a race does not keep from it."""
    is_done = threading.Event()
    compactions: list[str] = []

    def compact() -> None:
        while not is_done.is_set() or not compactions:
            try:
                DeltaTable(path).optimize.compact()
                compactions.append("done")
            except Exception:  # noqa: BLE001 - whatever the engine says to the loser
                compactions.append("lost")

    user = threading.Thread(target=compact)
    user.start()
    try:
        yield
    finally:
        is_done.set()
        user.join()
