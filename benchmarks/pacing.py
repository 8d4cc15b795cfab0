"""What do rests of the receiver bring, over TCP and over unix sockets, for rows of different shape?

One process receives, decodes and throws away (`benchmarks.receiver`), with rests (``paced``) and without (``eager``),
by turns, from copies of one slot. Every run must have decoded every row. Wanted: never fewer rows per second than
without, and less CPU per row on both sides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.measure import Line, Run, main, summarise, us_per_row
from benchmarks.processes import Watch
from benchmarks.servers import (
    DATABASE,
    Content,
    bank_transactions,
    document_inserts,
    measuring_server,
    narrow_inserts,
    single_inserts,
    wide_inserts,
)

_TIMEOUT_S: Final = 600


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Five contents, two transports."""
    with measuring_server() as server:
        for content in (
            narrow_inserts(server, words.rows),
            single_inserts(server, words.rows // 4),
            bank_transactions(server, words.rows // 2),
            document_inserts(server, words.rows // 4),
            wide_inserts(server, words.rows // 5),
        ):
            for transport in ("TCP", "unix socket"):
                dsn = server.dsn(DATABASE, unix_socket=transport != "TCP")
                yield from _compare(f"receive {content.tables[-1]}, {transport}", content, dsn, words.runs)
            content.drop()


def _compare(name: str, content: Content, dsn: str, count: int) -> Iterator[Line]:
    runs: dict[str, list[Run]] = {"eager": [], "paced": []}
    for _ in range(count):
        for how, found in runs.items():
            with content.copied_slot() as slot:
                found.append(stream(content, slot, dsn, how))
    peer = None
    for how, found in runs.items():
        client, walsender = (us_per_row(found, clock) for clock in (lambda r: r.cpu_s, lambda r: r.server_cpu_s))
        line = summarise(
            name,
            how,
            found,
            peer=peer,
            is_peer=peer is None,
            note=f"CPU µs/row: client {client:.2f} = {client / walsender:.0%} of walsender {walsender:.2f}",
            extra={"client_us_per_row": client, "walsender_us_per_row": walsender},
        )
        peer = peer or line
        yield line


def stream(content: Content, slot: str, dsn: str, how: str) -> Run:
    """One run of ``paced`` or ``eager`` by the replication protocol."""
    with Watch(content.dsn, slot, content.target, until_confirmed=False) as watch:
        said = receive(content, slot, dsn, how)
        watch.wait()
    return Run(rows=content.rows, wall_s=said["wall_s"], cpu_s=said["cpu_s"], server_cpu_s=watch.walsender_cpu_s)


def receive(content: Content, slot: str, dsn: str, how: str, window: int = 0) -> dict[str, Any]:
    """Run `benchmarks.receiver`; returns what it says. AssertionError when it missed a row."""
    words = [how, dsn, slot, content.publication, str(content.target), str(window)]
    command = [sys.executable, "-m", "benchmarks.receiver", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_TIMEOUT_S)
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["rows"] == content.rows, f"{said['rows']} rows of {content.rows} were received"
    return said


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
