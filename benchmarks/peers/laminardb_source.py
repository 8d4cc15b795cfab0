"""LaminarDB's ``postgres-cdc`` source into a stream that a subscription counts.

Run by `benchmarks.peers` in an environment that has laminardb: ``… DSN SLOT PUBLICATION ROWS TARGET``. It gives changes
as JSON text in an envelope. It has no notion of an end, so it ends when it has as many events as there are rows.
"""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import urlparse

import laminardb


def main() -> None:
    """Count, print, and leave."""
    dsn, slot, publication, rows, _ = sys.argv[1:6]
    url = urlparse(dsn)
    options = {
        "host": url.hostname,
        "port": str(url.port),
        "database": url.path.strip("/"),
        "username": url.username,
        "ssl.mode": "disable",
        "slot.name": slot,
        "publication": publication,
        "snapshot.mode": "never",
        "max.poll.records": "10000",
    }
    listed = ", ".join(f"'{name}' = '{value}'" for name, value in options.items())
    connection = laminardb.open(":memory:")
    connection.execute(
        "CREATE SOURCE changes (_table VARCHAR NOT NULL, _op VARCHAR NOT NULL, _lsn BIGINT NOT NULL,"
        f" _ts_ms BIGINT NOT NULL, _before VARCHAR, _after VARCHAR) WITH (connector = 'postgres-cdc', {listed})"
    )
    connection.execute("CREATE STREAM passed AS SELECT _op, _after FROM changes")
    subscription = connection.subscribe_stream("passed")
    connection.start()
    count = 0
    while count < int(rows):
        found = subscription.next_timeout(1000)
        if found is not None:
            count += found.num_rows
    print(json.dumps({"rows": count}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
