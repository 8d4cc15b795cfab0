"""psycopg2's replication cursor: ``consume_stream`` with a function that counts row changes.

Run by `benchmarks.peers` in an environment that has psycopg2: ``… DSN SLOT PUBLICATION ROWS TARGET``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import psycopg2
import psycopg2.extras


def main() -> None:
    """Count until the commit record of the last transaction came; print the count."""
    dsn, slot, publication, _, target = sys.argv[1:6]
    high, _, low = target.partition("/")
    goal = int(high, 16) << 32 | int(low, 16)
    rows = 0

    def take(message: Any) -> None:
        nonlocal rows
        tag = message.payload[:1]
        if tag in (b"I", b"U", b"D"):
            rows += 1
        elif (tag == b"C" and int.from_bytes(message.payload[10:18], "big") >= goal) or message.data_start >= goal:
            raise psycopg2.extras.StopReplication

    connection = psycopg2.connect(dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection)
    cursor = connection.cursor()
    options = {"proto_version": "1", "publication_names": publication, "binary": "true", "messages": "true"}
    cursor.start_replication(slot_name=slot, decode=False, options=options)
    try:
        cursor.consume_stream(take)
    except psycopg2.extras.StopReplication:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
