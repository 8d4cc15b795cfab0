"""How fast does wallaby read a slot, compared with ``pg_recvlogical -f /dev/null`` and others on the same content?

A flow into the ``blackhole`` destination through Ray (receive, decode, Arrow, IPC, object store, sink actor) against
pg_recvlogical, which decodes nothing, psycopg2's replication cursor, which gives bytes to Python, and Debezium's engine
and LaminarDB, which make JSON of each change (`benchmarks.peers`). All read copies of one slot over TCP, by turns; all
are timed from the start of their walsender to its end. ``client`` is the process that receives: the source actor with
everything it does, decoding and encoding included, or the peer. A run in which a subject did not get every row fails;
pg_recvlogical writes no rows, and is held to ending by itself at the last transaction. A peer that cannot be had is
listed as not measured. Wanted: 1.2 times pg_recvlogical's wall throughput, and at most 25 % of its CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks.flows import SINK, SOURCE, Flows
from benchmarks.measure import Line, Run, main, not_measured, summarise, us_per_row
from benchmarks.peers import PEERS, Missing, Peer
from benchmarks.processes import Watch
from benchmarks.servers import Content, bank_transactions, measuring_server, narrow_inserts, program

_RECEIVE_TIMEOUT_S = 600


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Narrow inserts and pgbench's mix, both subjects."""
    with measuring_server() as server, Flows() as flows:
        yield from _compare("stream, narrow inserts", narrow_inserts(server, words.rows), flows, words.runs)
        yield from _compare("stream, pgbench mix", bank_transactions(server, words.rows // 2), flows, words.runs)


def _compare(name: str, content: Content, flows: Flows, runs: int) -> Iterator[Line]:
    theirs: list[Run] = []
    ours: list[Run] = []
    sinks: list[Run] = []
    others: dict[Peer, list[Run]] = {peer: [] for peer in PEERS}
    missing: dict[Peer, str] = {}
    for number in range(runs):
        theirs.append(_receive(content))
        for peer, found in others.items():
            if peer in missing or number >= peer.runs_max:
                continue
            try:
                found.append(read_by_peer(content, peer))
            except Missing as error:
                missing[peer] = str(error)
        run, sink_cpu_s = _stream(content, flows)
        ours.append(run)
        sinks.append(Run(rows=run.rows, wall_s=run.wall_s, cpu_s=sink_cpu_s))
    content.drop()
    first = summarise(name, "pg_recvlogical", theirs, is_peer=True, **_cpu(theirs))
    yield first
    for peer, found in others.items():
        if peer in missing:
            yield not_measured(name, peer.name, missing[peer])
        else:
            figures = _cpu(found)
            figures["note"] += f" ({peer.does})"
            yield summarise(name, peer.name, found, peer=first, **figures)
    sink_us = us_per_row(sinks, lambda run: run.cpu_s)
    yield summarise(name, "wallaby → blackhole", ours, peer=first, **_cpu(ours, sink_us))


def _cpu(runs: list[Run], sink_us: float | None = None) -> dict[str, Any]:
    client, walsender = us_per_row(runs, lambda run: run.cpu_s), us_per_row(runs, lambda run: run.server_cpu_s)
    share = client / walsender
    note = f"CPU µs/row: client {client:.2f} = {share:.0%} of walsender {walsender:.2f}"
    extra = {"client_us_per_row": client, "walsender_us_per_row": walsender, "client_share_of_walsender": share}
    if sink_us is not None:
        note += f"; sink {sink_us:.2f}"
        extra["sink_us_per_row"] = sink_us
    return {"note": note, "extra": extra}


def _receive(content: Content) -> Run:
    with content.copied_slot() as slot, Watch(content.dsn, slot, content.target, until_confirmed=False) as watch:
        options = {"proto_version": "1", "publication_names": content.publication, "binary": "true", "messages": "true"}
        command = [str(program("pg_recvlogical")), "-d", content.dsn, "--slot", slot, "--start", "-f", "/dev/null"]
        command += ["--no-loop", "--endpos", str(content.target)]
        command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        process = subprocess.Popen(command)
        try:
            watch.follow("client", process.pid)
            watch.wait()
            if process.wait(_RECEIVE_TIMEOUT_S):
                raise RuntimeError("pg_recvlogical failed")
        finally:
            process.kill()
            process.wait()
        return Run(
            rows=content.rows, wall_s=watch.wall_s, cpu_s=watch.cpu_s("client"), server_cpu_s=watch.walsender_cpu_s
        )


def read_by_peer(content: Content, peer: Peer, *more: str) -> Run:
    """`Missing` when it cannot be started; RuntimeError when it fails or does not get exactly the rows there are.

    ``more``: words for the peer's script beyond those all readers get.
    """
    with content.copied_slot() as slot:
        words = (content.dsn, slot, content.publication, str(content.rows), str(content.target))
        command = peer.command(*words, *more)
        with (
            Watch(content.dsn, slot, content.target, until_confirmed=False) as watch,
            tempfile.TemporaryDirectory() as directory,
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=directory) as process,
        ):
            try:
                watch.follow("client", process.pid)
                said, _ = process.communicate(timeout=_RECEIVE_TIMEOUT_S)
            finally:
                process.kill()
            if process.returncode:
                raise RuntimeError(f"{peer.name} failed with exit code {process.returncode}")
            watch.wait()
        rows = json.loads(said.splitlines()[-1])["rows"]
        if rows != content.rows:
            raise RuntimeError(f"{peer.name} got {rows} rows of {content.rows}")
        return Run(rows=rows, wall_s=watch.wall_s, cpu_s=watch.cpu_s("client"), server_cpu_s=watch.walsender_cpu_s)


def _stream(content: Content, flows: Flows) -> tuple[Run, float]:
    with content.copied_slot() as slot, Watch(content.dsn, slot, content.target, until_confirmed=False) as watch:
        status = flows.drain(content, slot, {"type": "blackhole"}, watch)
        watch.wait()
        assert status.rows == content.rows, f"{status.rows} rows of {content.rows} were streamed"
        run = Run(rows=content.rows, wall_s=watch.wall_s, cpu_s=watch.cpu_s(SOURCE), server_cpu_s=watch.walsender_cpu_s)
        return run, watch.cpu_s(SINK)


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
