"""How fast does one core turn the replication stream into Arrow batches?

Streams made by our own writer, fed from memory in pieces of 2 MB as the receive arena does; nothing else runs in the
measured loop. All rates, ratios and spreads are of CPU seconds of this process, because a machine shared with others
makes wall time worthless; even so a neighbour takes caches and turns, and the best run says more than the median.

Wanted: narrow and pgbench-like 8 M rows/s, transactions of one row 6 M, 40 mixed columns 1.5 M, json of 1 KB 2.5 GB/s,
text at most twice as long as binary; one transaction of four tables per feed, where nothing but the fixed cost of a
batch counts, 50 µs per batch. ``ratio`` compares text with its binary sibling, ``of wanted`` is 1 where the wish is
met; ``--json`` has both as fields.
"""

from __future__ import annotations

import argparse
import random
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Line, Run, main, summarise
from wallaby.pgoutput.decoder import Decoder, Segment
from wallaby.pgoutput.relations import Relation
from wallaby.pgtypes.types import builtin_type
from wallaby.schema import Column, ReplicaIdentity, TableName, TableSchema
from wallaby.testing import pgoutput_writer as w

_FEED_BYTES: Final = 2 << 20
_STREAM_BYTES: Final = 32 << 20
"""A stream is repeated until it is about so long, then fed as often as ``--rows`` asks for."""

_INT2, _INT4, _INT8, _FLOAT8, _TEXT, _BOOL, _NUMERIC, _TIMESTAMP, _DATE, _UUID, _JSONB, _TIMESTAMPTZ = (
    21, 23, 20, 701, 25, 16, 1700, 1114, 1082, 2950, 3802, 1184,
)  # fmt: skip
_PRICE: Final = (12 << 16 | 2) + 4


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A wish in words, and the rate it means; text has none of its own, but half of its binary sibling's."""

    words: str
    rows_per_s: float = 0.0
    bytes_per_s: float = 0.0

    def rate(self, bytes_per_row: float, binary: Line | None) -> float:
        """Rows per CPU second."""
        if self.bytes_per_s:
            return self.bytes_per_s / bytes_per_row
        return self.rows_per_s or (binary.rows_per_cpu_s / 2 if binary else 0.0)


@dataclass(frozen=True, slots=True)
class _Stream:
    """One shape of data. ``lead`` describes the tables and is fed once, outside the measured time."""

    name: str
    subject: str
    lead: npt.NDArray[np.uint8]
    data: npt.NDArray[np.uint8]
    rows: int
    wanted: _Wanted
    transaction_bytes: int
    """Of the first; with fixed widths, of all."""
    feed_bytes: int = _FEED_BYTES


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Every shape; runs of all shapes take turns."""
    streams = list(_streams())
    found: dict[int, list[Run]] = {i: [] for i in range(len(streams))}
    for stream in streams:
        _decode(stream, stream.rows)
    for _ in range(words.runs):
        for i, stream in enumerate(streams):
            found[i].append(_decode(stream, words.rows))
    binaries: dict[str, Line] = {}
    for i, stream in enumerate(streams):
        line = _line(stream, found[i], binaries.get(stream.name))
        if stream.subject == "binary":
            binaries[stream.name] = line
        yield line


def _line(stream: _Stream, runs: Sequence[Run], binary: Line | None) -> Line:
    """Rates over CPU seconds, also where `summarise` has wall time."""
    line = summarise(stream.name, stream.subject, runs, is_peer=stream.subject == "binary")
    rates = [run.rows / run.cpu_s for run in runs]
    bytes_per_row = len(stream.data) / stream.rows
    gb_per_s = line.rows_per_cpu_s * bytes_per_row / 1e9
    wanted = stream.wanted.rate(bytes_per_row, binary)
    ns, best_ns = 1e9 / line.rows_per_cpu_s, 1e9 / max(rates)
    extra = {
        "cpu_ns_per_row": ns,
        "best_cpu_ns_per_row": best_ns,
        "gb_per_cpu_s": gb_per_s,
        "wanted": stream.wanted.words,
        "of_wanted": line.rows_per_cpu_s / wanted,
        "best_of_wanted": max(rates) / wanted,
    }
    note = f"{ns:.0f} ns (best {best_ns:.0f}), {gb_per_s:.2f} GB/s; {line.rows_per_cpu_s / wanted:.2f} of wanted"
    return replace(
        line,
        ratio=line.ratio if binary is None else line.rows_per_cpu_s / binary.rows_per_cpu_s,
        spread=(max(rates) - min(rates)) / line.rows_per_cpu_s,
        note=f"{note} ({stream.wanted.words})",
        extra={**line.extra, **extra},
    )


def _decode(stream: _Stream, rows_wanted: int) -> Run:
    decoder = Decoder(_resolve)
    decoder.feed(stream.lead, 0, len(stream.lead))
    data, rows = stream.data, 0
    wall, cpu = time.perf_counter(), time.process_time()
    if stream.feed_bytes != _FEED_BYTES:
        rows_wanted //= 20  # a feed of four rows takes twenty times as long
    while rows < rows_wanted:
        at = 0
        while at < len(data) and rows < rows_wanted:
            consumed, events = decoder.feed(data, at, min(at + stream.feed_bytes, len(data)))
            at += consumed
            rows += sum(event.rows for event in events if isinstance(event, Segment))
    return Run(rows=rows, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def _resolve(relation: Relation) -> TableSchema:
    columns = []
    for column in relation.columns:
        found = builtin_type(column.type_oid)
        assert found is not None, column
        columns.append(Column(column.name, found, column.typmod, column.is_identity))
    name = TableName(relation.schema, relation.name)
    return TableSchema(relation.oid, name, tuple(columns), ReplicaIdentity(relation.identity))


_Cells = Callable[[random.Random], Sequence[w.Cell]]


def _streams() -> Iterator[_Stream]:
    narrow = [_INT8, _INT4, _TIMESTAMP, _NUMERIC, _TEXT]
    twice = _Wanted("half of binary")
    yield _inserts("narrow", "binary", narrow, _narrow, 1000, _Wanted("8 M/s", 8e6))
    yield _inserts("narrow", "text", narrow, _narrow_text, 1000, twice)
    yield _inserts("transactions of one row", "binary", narrow, _narrow, 1, _Wanted("6 M/s", 6e6))
    bank = _bank()
    yield bank
    yield replace(
        bank,
        name="one transaction per feed",
        feed_bytes=bank.transaction_bytes,
        wanted=_Wanted("50 µs per batch", 20_000),
    )
    wide = [_INT4, _INT8, _FLOAT8, _TEXT, _BOOL, _NUMERIC, _TIMESTAMP, _DATE, _UUID, _INT2] * 4
    yield _inserts("wide, 40 mixed columns", "binary", wide, _wide, 1000, _Wanted("1.5 M/s", 1.5e6))
    yield _inserts("wide, 40 mixed columns", "text", wide, _wide_text, 1000, twice)
    json = _Wanted("2.5 GB/s", bytes_per_s=2.5e9)
    yield _inserts("json of 1 KB", "binary", [_INT8, _JSONB], _json, 1000, json)
    yield _inserts("json of 1 KB", "text", [_INT8, _JSONB], _json_text, 1000, twice)


def _inserts(
    name: str, subject: str, types: list[int], cells: _Cells, per_transaction: int, wanted: _Wanted
) -> _Stream:
    columns = [(f"c{i}", oid, _PRICE if oid == _NUMERIC else -1, i == 0) for i, oid in enumerate(types)]
    rng = random.Random(1)
    messages = [w.insert(16400, cells(rng)) for _ in range(2000)]
    transactions = [
        _transaction(lsn, messages[lsn : lsn + per_transaction]) for lsn in range(0, len(messages), per_transaction)
    ]
    return _stream(name, subject, [w.relation(16400, "public", "t", columns)], transactions, len(messages), wanted)


def _bank() -> _Stream:
    """What pgbench's transaction leaves: three updates by key and an insert."""
    balances = [("id", _INT4, -1, True), ("branch", _INT4, -1, False), ("balance", _INT4, -1, False)]
    padded = [*balances, ("filler", 1042, 88, False)]
    history = [
        ("teller", _INT4, -1, False), ("branch", _INT4, -1, False), ("account", _INT4, -1, False),
        ("delta", _INT4, -1, False), ("at", _TIMESTAMP, -1, False), ("filler", 1042, 26, False),
    ]  # fmt: skip
    relations = [
        w.relation(16401, "public", "accounts", padded), w.relation(16402, "public", "tellers", padded),
        w.relation(16403, "public", "branches", [*balances[::2], ("filler", 1042, 92, False)]),
        w.relation(16404, "public", "history", history, "n"),
    ]  # fmt: skip
    rng = random.Random(2)
    transactions = []
    for lsn in range(500):
        account, teller, delta = rng.randrange(10**5), rng.randrange(10), rng.randrange(-5000, 5000)
        transactions.append(
            _transaction(
                lsn,
                [
                    w.update(16401, [_i4(account), _i4(1), _i4(delta), b" " * 84]),
                    w.update(16402, [_i4(teller), _i4(1), _i4(delta), None]),
                    w.update(16403, [_i4(1), _i4(delta), None]),
                    w.insert(16404, [_i4(teller), _i4(1), _i4(account), _i4(delta), _i8(lsn * 10**6), None]),
                ],
            )
        )
    return _stream("pgbench-like", "binary", relations, transactions, 2000, _Wanted("8 M/s", 8e6))


def _stream(
    name: str, subject: str, relations: list[bytes], transactions: list[bytes], rows: int, wanted: _Wanted
) -> _Stream:
    lead = w.frames(w.xlog(message, 1) for message in [w.begin(0x10, 1), *relations, w.commit(0x10, 0x18)])
    once = b"".join(transactions)
    times = max(1, _STREAM_BYTES // len(once))
    data = np.frombuffer(once * times, np.uint8)
    return _Stream(name, subject, lead, data, rows * times, wanted, len(transactions[0]))


def _transaction(number: int, messages: list[bytes]) -> bytes:
    lsn = 0x100 * (number + 1)
    begun = [w.begin(lsn, number), *messages, w.commit(lsn, lsn + 0x30)]
    return b"".join(w.frame(w.xlog(message, lsn)) for message in begun)


def _i4(number: int) -> bytes:
    return struct.pack("!i", number)


def _i8(number: int) -> bytes:
    return struct.pack("!q", number)


def _price(rng: random.Random) -> tuple[bytes, str]:
    """A price in both forms."""
    cents = rng.randrange(1, 10**8)
    whole, part = divmod(cents, 100)
    digits = [whole // 10_000, whole % 10_000, part * 100]
    weight = 1
    while digits and digits[0] == 0:
        del digits[0]
        weight -= 1
    while digits and digits[-1] == 0:
        del digits[-1]
    head = struct.pack("!hhHH", len(digits), weight if digits else 0, 0, 2)
    return head + struct.pack(f"!{len(digits)}H", *digits), f"{whole}.{part:02d}"


def _narrow(rng: random.Random) -> list[w.Cell]:
    moment = _i8(rng.randrange(10**15))
    return [
        _i8(rng.randrange(10**9)),
        _i4(rng.randrange(10**6)),
        moment,
        _price(rng)[0],
        b"name %d" % rng.randrange(10**6),
    ]


def _narrow_text(rng: random.Random) -> list[w.Cell]:
    name = f"name {rng.randrange(10**6)}"
    return [str(rng.randrange(10**9)), str(rng.randrange(10**6)), _moment(rng), _price(rng)[1], name]


def _moment(rng: random.Random) -> str:
    day, clock = rng.randrange(1, 29), rng.randrange(86_400)
    return f"2024-{rng.randrange(1, 13):02d}-{day:02d} {_clock(clock)}.{rng.randrange(10**6):06d}"


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _wide(rng: random.Random) -> list[w.Cell]:
    cells: list[w.Cell] = []
    for _ in range(4):
        cells += [
            _i4(rng.randrange(10**6)), _i8(rng.randrange(10**12)), struct.pack("!d", rng.uniform(-1e6, 1e6)),
            b"some words %d" % rng.randrange(10**6), bytes([rng.randrange(2)]), _price(rng)[0],
            _i8(rng.randrange(10**15)), _i4(rng.randrange(9000)), rng.randbytes(16),
            struct.pack("!h", rng.randrange(10**4)),
        ]  # fmt: skip
    return cells


def _wide_text(rng: random.Random) -> list[w.Cell]:
    cells: list[w.Cell] = []
    for _ in range(4):
        number = f"{rng.getrandbits(128):032x}"
        uuid = "-".join([number[:8], number[8:12], number[12:16], number[16:20], number[20:]])
        cells += [
            str(rng.randrange(10**6)), str(rng.randrange(10**12)), repr(rng.uniform(-1e6, 1e6)),
            f"some words {rng.randrange(10**6)}", rng.choice("tf"), _price(rng)[1], _moment(rng),
            _moment(rng)[:10], uuid, str(rng.randrange(10**4)),
        ]  # fmt: skip
    return cells


def _json(rng: random.Random) -> list[w.Cell]:
    body = '{"blob": "' + f"{rng.getrandbits(4000):01000x}" + '"}'
    return [_i8(rng.randrange(10**9)), b"\1" + body.encode()]


def _json_text(rng: random.Random) -> list[w.Cell]:
    number, body = _json(rng)
    assert isinstance(number, bytes)
    assert isinstance(body, bytes)
    return [str(int.from_bytes(number, "big")), body[1:].decode()]


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
