"""Removing what a stream need not keep, in pages, so that nobody waits long."""

from __future__ import annotations

from typing import Any

import psycopg

from wallaby.settings import Limits
from wallaby.streams.statements import Statements


def retain(connection: psycopg.Connection[Any], sql: Statements, stream: str, limits: Limits) -> int:
    """Remove messages the stream's policy lets go; returns how many.

    At most ``stream_retention_pages_max`` pages at once: what is left goes the next time. While a page is removed the
    stream's groups pull nothing. Nothing happens when a publisher holds the stream at the moment, or without a policy.
    """
    raw = psycopg.RawCursor(connection)
    if raw.execute(sql.begin_retention, (stream,)).fetchone() is None:
        return 0
    removed, last_id = 0, 0
    for _ in range(limits.stream_retention_pages_max):
        with connection.transaction():
            raw.execute(sql.lock_groups, (stream,))
            row = raw.execute(sql.retain_page, (stream, last_id, limits.stream_retention_page)).fetchone()
            assert row is not None, "an aggregate has one row"
            last_id, looked_at, has_young, gone = row
            removed += gone
            if gone:
                for (group,) in raw.execute(sql.ordered_groups, (stream,)).fetchall():
                    raw.execute(sql.promote_orphans, (stream, group))
        if has_young or looked_at < limits.stream_retention_page:
            break
    return removed
