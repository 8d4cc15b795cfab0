"""How many messages per second do four consumers of one group pull and acknowledge, and how fast are they published?

Each consumer is a process of its own over the core (`wallaby.streams.Streams`), pulling 500 messages of about 300 bytes
at a time and acknowledging them by their claims; the server is durable as delivered. Timed from the moment all have
started until the last message is acknowledged; every message must have been acknowledged exactly once. ``ordered`` is
the same with a group that keeps the order of its keys (10,000 keys). Publishing is one COPY of 10,000 messages per
transaction, encoding included. ``over gRPC`` is the same with consumers that are clients of one API process. Wanted:
10,000 messages/s pulled and acknowledged, by either.

``rows per CPU s`` counts the CPU of the consumers, of the API and of the server's processes that serve them: on a
machine that is busy with other things it says what the wall clock cannot.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from typing import Any, Final

import grpc
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import Line, Run, cpu_seconds, main, summarise
from benchmarks.servers import DATABASE, measuring_server
from wallaby.streams import Claim, Retention, Streams, schema
from wallaby.streams.publish import MESSAGE_SCHEMA, Publisher
from wallaby.streams.schema import Tables
from wallaby.v1 import stream_pb2, stream_pb2_grpc

_CONSUMERS: Final = 4
_PULL: Final = 500
_BATCH: Final = 10_000
_KEYS: Final = 10_000
_STREAM: Final = "bench"
_TIMEOUT_S: Final = 600


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """A tenth of the rows as messages."""
    count = max(_BATCH, words.rows // 10)
    with measuring_server() as server:
        dsn = server.dsn(DATABASE)
        published: list[Run] = []
        plain: list[Run] = []
        ordered: list[Run] = []
        remote: list[Run] = []
        with psycopg.connect(dsn, autocommit=True) as connection:
            for number in range(words.runs):
                published.append(_publish(connection, count))
                plain.append(_consume(connection, dsn, f"plain {number}", count, is_ordered=False))
                ordered.append(_consume(connection, dsn, f"ordered {number}", count, is_ordered=True))
                remote.append(_consume_remotely(connection, dsn, f"remote {number}", count))
                connection.execute("DROP SCHEMA wallaby CASCADE")
        first = summarise("streams", f"{_CONSUMERS} consumers, pulled and acked", plain, is_peer=True)
        yield first
        yield summarise("streams", f"{_CONSUMERS} consumers, ordered by key", ordered)
        yield summarise("streams", f"{_CONSUMERS} consumers over gRPC", remote, peer=first)
        yield summarise("streams", "one publisher", published)


def _publish(connection: psycopg.Connection[Any], count: int) -> Run:
    tables = Tables("wallaby")
    schema.create(connection, tables)
    publisher = Publisher(tables, _STREAM, "json")
    publisher.ensure(connection, Retention())
    payload = '{"table":"orders","namespace":"public","operation":"insert","after":{"note":"' + "x" * 200 + '","id":'
    start, start_cpu_s = time.perf_counter(), time.process_time()
    server_cpu_s = cpu_seconds(connection.info.backend_pid)
    for first in range(0, count, _BATCH):
        ids = pa.array(range(first, first + _BATCH)).cast(pa.large_string())
        keys = pa.array([f'{{"id":{n % _KEYS}}}' for n in range(first, first + _BATCH)], pa.large_string())
        constant = {"namespace": "public", "table_name": "orders", "operation": "insert", "lsn": first + 1}
        pieces = [pa.scalar(text, pa.large_string()) for text in (payload, "}}", "")]
        columns = {"key": keys, "payload": pc.binary_join_element_wise(pieces[0], ids, pieces[1], pieces[2])}
        arrays = [
            columns[field.name]
            if field.name in columns
            else pa.repeat(pa.scalar(constant[field.name], field.type), _BATCH)
            for field in MESSAGE_SCHEMA
        ]
        with connection.transaction():
            publisher.publish(connection, pa.Table.from_arrays(arrays, schema=MESSAGE_SCHEMA))
    wall_s = time.perf_counter() - start
    cpu_s = time.process_time() - start_cpu_s + cpu_seconds(connection.info.backend_pid) - server_cpu_s
    return Run(rows=count, wall_s=wall_s, cpu_s=cpu_s)


def _consume(connection: psycopg.Connection[Any], dsn: str, group: str, count: int, *, is_ordered: bool) -> Run:
    streams = Streams(dsn)
    streams.configure(_STREAM, group, is_ordered=is_ordered)
    wall_s, cpu_s = _timed(consume, dsn, group)
    _require_acked_once(connection, group, count)
    streams.close()
    return Run(rows=count, wall_s=wall_s, cpu_s=cpu_s)


def _consume_remotely(connection: psycopg.Connection[Any], dsn: str, group: str, count: int) -> Run:
    streams = Streams(dsn)
    streams.configure(_STREAM, group)
    streams.close()
    with (
        tempfile.TemporaryDirectory() as directory,
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.served", directory, dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        assert server.stdin is not None
        address = server.stdout.readline().strip()
        api_cpu_s = cpu_seconds(server.pid)
        wall_s, cpu_s = _timed(consume_remotely, address, group)
        cpu_s += cpu_seconds(server.pid) - api_cpu_s
        named = "SELECT pid FROM pg_stat_activity WHERE application_name = 'wallaby streams'"
        cpu_s += sum(cpu_seconds(pid) for (pid,) in connection.execute(named))
        server.stdin.close()
    _require_acked_once(connection, group, count)
    return Run(rows=count, wall_s=wall_s, cpu_s=cpu_s)


def _timed(consumer: Any, place: str, group: str) -> tuple[float, float]:
    """Seconds from when all consumers have started until all are done, and the CPU seconds they say they cost."""
    spawn = multiprocessing.get_context("spawn")
    barrier, spent = spawn.Barrier(_CONSUMERS + 1), spawn.SimpleQueue()
    work = [(place, group, f"c{number}", barrier, spent) for number in range(_CONSUMERS)]
    consumers = [spawn.Process(target=consumer, args=words) for words in work]
    for process in consumers:
        process.start()
    try:
        barrier.wait(_TIMEOUT_S)
        start = time.perf_counter()
        for process in consumers:
            process.join(_TIMEOUT_S)
        wall_s = time.perf_counter() - start
        assert [process.exitcode for process in consumers] == [0] * _CONSUMERS, "a consumer failed"
    finally:
        for process in consumers:
            process.kill()
    return wall_s, sum(spent.get() for _ in consumers)


def _require_acked_once(connection: psycopg.Connection[Any], group: str, count: int) -> None:
    [[acked, claims]] = connection.execute(
        "SELECT count(*), sum(attempts) FROM wallaby.stream_deliveries WHERE consumer_group = %s AND status = 'acked'",
        [group],
    ).fetchall()
    assert (acked, claims) == (count, count), f"{acked} of {count} acknowledged, {claims} claims"


def consume(dsn: str, group: str, name: str, barrier: Barrier, spent: Any) -> None:
    """Pull and acknowledge until nothing is left, in a process of its own; puts the CPU seconds it cost."""
    streams = Streams(dsn)
    streams.groups(_STREAM, group)
    server = streams.backend_pid
    barrier.wait(_TIMEOUT_S)
    start_s, server_start_s = time.process_time(), cpu_seconds(server)
    while True:
        found = streams.pull(_STREAM, group, max_messages=_PULL, visibility_s=300, consumer=name)
        if found:
            claim = Claim(tuple(d.id for d in found), tuple(d.claim for d in found))
            assert streams.ack(_STREAM, group, claim).stale == ()
        elif streams.groups(_STREAM, group)[0].lag_messages == 0:
            spent.put(time.process_time() - start_s + cpu_seconds(server) - server_start_s)
            return


def consume_remotely(address: str, group: str, name: str, barrier: Barrier, spent: Any) -> None:
    """As `consume`, as a client of the API at ``address``; the CPU seconds are those of this process."""
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        service = stream_pb2_grpc.StreamServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        mine: dict[str, Any] = {"stream": _STREAM, "consumer_group": group}
        service.GetLag(stream_pb2.StreamGetLagRequest(**mine))
        pull = stream_pb2.StreamPullRequest(
            **mine, max_messages=_PULL, visibility_timeout_seconds=300, consumer_id=name
        )
        barrier.wait(_TIMEOUT_S)
        start_s = time.process_time()
        while True:
            found = service.Pull(pull).messages
            if found:
                ack = stream_pb2.StreamAckRequest(**mine, ids=[m.id for m in found], claims=[m.claim for m in found])
                assert not service.Ack(ack).stale_ids
            elif service.GetLag(stream_pb2.StreamGetLagRequest(**mine)).groups[0].messages == 0:
                spent.put(time.process_time() - start_s)
                return


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
