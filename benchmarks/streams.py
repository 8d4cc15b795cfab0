"""How many messages per second do four consumers of one group pull and acknowledge, and how fast are they published?

Each consumer is a process of its own over the core (`wallaby.streams.Streams`), pulling 500 messages of about 300 bytes
at a time and acknowledging them by their claims; the server is durable as delivered. Timed from the moment all have
started until the last message is acknowledged; every message must have been acknowledged exactly once. ``ordered`` is
the same with a group that keeps the order of its keys (10,000 keys). Publishing is one COPY of 10,000 messages per
transaction, encoding included. Wanted: 10,000 messages/s pulled and acknowledged.

``rows per CPU s`` counts the CPU of the consumers and of the server's processes that serve them: on a machine that is
busy with other things it says what the wall clock cannot.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import Line, Run, cpu_seconds, main, summarise
from benchmarks.servers import DATABASE, measuring_server
from wallaby.streams import Claim, Retention, Streams, schema
from wallaby.streams.publish import MESSAGE_SCHEMA, Publisher
from wallaby.streams.schema import Tables

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
        with psycopg.connect(dsn, autocommit=True) as connection:
            for number in range(words.runs):
                published.append(_publish(connection, count))
                plain.append(_consume(connection, dsn, f"plain {number}", count, is_ordered=False))
                ordered.append(_consume(connection, dsn, f"ordered {number}", count, is_ordered=True))
                connection.execute("DROP SCHEMA wallaby CASCADE")
        yield summarise("streams", f"{_CONSUMERS} consumers, pulled and acked", plain, is_peer=True)
        yield summarise("streams", f"{_CONSUMERS} consumers, ordered by key", ordered)
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
    spawn = multiprocessing.get_context("spawn")
    barrier, spent = spawn.Barrier(_CONSUMERS + 1), spawn.SimpleQueue()
    consumers = [spawn.Process(target=consume, args=(dsn, group, f"c{n}", barrier, spent)) for n in range(_CONSUMERS)]
    for consumer in consumers:
        consumer.start()
    try:
        barrier.wait(_TIMEOUT_S)
        start = time.perf_counter()
        for consumer in consumers:
            consumer.join(_TIMEOUT_S)
        wall_s = time.perf_counter() - start
        assert [consumer.exitcode for consumer in consumers] == [0] * _CONSUMERS, "a consumer failed"
    finally:
        for consumer in consumers:
            consumer.kill()
    [[acked, claims]] = connection.execute(
        "SELECT count(*), sum(attempts) FROM wallaby.stream_deliveries WHERE consumer_group = %s AND status = 'acked'",
        [group],
    ).fetchall()
    assert (acked, claims) == (count, count), f"{acked} of {count} acknowledged, {claims} claims"
    streams.close()
    return Run(rows=count, wall_s=wall_s, cpu_s=sum(spent.get() for _ in consumers))


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


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
