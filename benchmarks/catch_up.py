"""Would a backlog be read faster by SQL (``pg_logical_slot_peek_binary_changes``) than from the walsender?

A prototype of what wallaby does *not* do (specs/decisions/0013): COPY of peeked changes, one range of WAL at a time,
made frames again by a compiled loop and decoded; the slot is advanced after each range, as confirmations would. Against
the paced replication stream, by turns, from copies of one slot; both decode every row. ``server`` is the CPU of the one
database process that served the run, advancing included.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Final

import psycopg

from benchmarks.measure import Line, Run, main, summarise, us_per_row
from benchmarks.pacing import receive, stream
from benchmarks.servers import (
    DATABASE,
    Content,
    bank_transactions,
    measuring_server,
    narrow_inserts,
    wide_inserts,
)

_WINDOWS: Final = {"whole backlog": 0, "256 MB": 256 << 20, "64 MB": 64 << 20, "16 MB": 16 << 20}


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Three contents; several sizes of the range."""
    with measuring_server() as server:
        dsn = server.dsn(DATABASE)
        for content in (
            narrow_inserts(server, words.rows),
            bank_transactions(server, words.rows // 2),
            wide_inserts(server, words.rows // 5),
        ):
            yield from _compare(f"backlog, {content.tables[-1]}", content, dsn, words.runs)
            content.drop()


def _compare(name: str, content: Content, dsn: str, count: int) -> Iterator[Line]:
    streamed: list[Run] = []
    peeked: dict[str, list[tuple[Run, dict[str, Any]]]] = {title: [] for title in _WINDOWS}
    for _ in range(count):
        with content.copied_slot() as slot:
            streamed.append(stream(content, slot, dsn, "paced"))
        for title, window in _WINDOWS.items():
            with content.copied_slot() as slot:
                before = _spilled_bytes(dsn)
                said = receive(content, slot, dsn, "peek", window)
                said["spilled_bytes"] = _spilled_bytes(dsn) - before
            run = Run(rows=content.rows, wall_s=said["wall_s"], cpu_s=said["cpu_s"], server_cpu_s=said["server_cpu_s"])
            peeked[title].append((run, said))
    server = us_per_row(streamed, lambda run: run.server_cpu_s)
    peer = summarise(name, "walsender, paced", streamed, is_peer=True, note=f"server {server:.2f} µs/row")
    yield peer
    for title, found in peeked.items():
        runs = [run for run, _ in found]
        server = us_per_row(runs, lambda run: run.server_cpu_s)
        last = found[-1][1]
        yield summarise(
            name,
            f"peek, {title}",
            runs,
            peer=peer,
            note=f"server {server:.2f} µs/row; first byte after {last['first_byte_s']:.2f} s at worst;"
            f" {last['spilled_bytes'] >> 20} MB of temporary files; {last['windows']} ranges",
            extra={"server_us_per_row": server, **{key: last[key] for key in ("first_byte_s", "windows")}},
        )


def _spilled_bytes(dsn: str) -> int:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        query = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
        [count] = connection.execute(query).fetchone() or [0]
        return int(count)


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
