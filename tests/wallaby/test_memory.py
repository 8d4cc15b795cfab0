"""Nothing that is decoded is what memory happened to hold: the same under every poison, bits and bytes nobody asks for
included."""

from __future__ import annotations

import os
import platform
import random
import re
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pytest

from tests.fuzz.capture import payloads
from tests.poison import byte, noise, poisoned, under_every_poison, written
from tests.wallaby.pgoutput.mixture import mixture
from tests.wallaby.pgoutput.streams import resolve, varied_stream
from wallaby.memory import unwritten, unwritten_buffer
from wallaby.pgoutput.decoder import Decoder, Segment
from wallaby.pgoutput.relations import parse_relation
from wallaby.pgoutput.spool import Spool, SpoolLimits
from wallaby.pgtypes.gather import Cells, MalformedCell, gather
from wallaby.pgtypes.layout import Layout, layout_of
from wallaby.pgtypes.types import builtin_type
from wallaby.schema import PgType, TypeKind
from wallaby.testing import pgoutput_writer as w
from wallaby.window_builder import encode_part

ROOT: Final = Path(__file__).parents[2]
Cell = bytes | str | None

HSTORE: Final = PgType(90_000, "hstore", "public", extension="hstore")
VECTOR: Final = PgType(90_001, "vector", "public", extension="vector")
HALF_VECTOR: Final = PgType(90_002, "halfvec", "public", extension="vector")
GEOMETRY: Final = PgType(90_003, "geometry", "gis", extension="postgis")
EXTENSIONS: Final[dict[PgType, list[Cell]]] = {
    HSTORE: [
        bytes(4),
        struct.pack("!ii2si", 1, 2, b"ab", -1),
        struct.pack("!iii", 1, 0, 0),
        "",
        '"ab"=>NULL',
        '"a"=>"\\"", ""=>"ü"',
    ],
    PgType(90_010, "_hstore", "public", TypeKind.ARRAY, element=HSTORE): [
        struct.pack("!iii", 0, 0, 90_000),
        struct.pack("!iiiiii", 1, 0, 90_000, 1, 1, 4) + bytes(4),
        struct.pack("!iiiiii", 1, 1, 90_000, 1, 1, -1),
        "{}",
        '{NULL,"\\"a\\"=>NULL",""}',
    ],
    VECTOR: [struct.pack("!hhff", 2, 0, 1.5, -0.0), "[1,-0,1e-45]", "[]"],
    HALF_VECTOR: [struct.pack("!hhee", 2, 0, 1.5, -0.0), "[65504]"],
    GEOMETRY: [bytes(21), bytes.fromhex("0101000020E6100000"), "0101000020E6100000"],
}


@cache
def _samples() -> dict[tuple[PgType, int], list[Cell]]:
    """(Type, modifier) to cells a real server sent: binary ones, then texts; and those of extensions."""
    found: dict[tuple[PgType, int], list[Cell]] = defaultdict(list)
    found.update({(pg_type, -1): list(cells) for pg_type, cells in EXTENSIONS.items()})
    for name in ("binary", "text"):
        columns: list[tuple[PgType, int]] = []
        for payload in payloads(name):
            tag, body = payload[25:26], payload[26:]
            if tag == b"R":
                made = [(builtin_type(column.type_oid), column.typmod) for column in parse_relation(body).columns]
                columns = [(pg_type, typmod) for pg_type, typmod in made if pg_type is not None]
                assert len(columns) == len(made)
            elif tag == b"I":
                for column, cell in zip(columns, _cells_of(body[5:]), strict=True):
                    found[column].append(cell)
    return dict(found)


def _cells_of(body: bytes) -> Iterator[Cell]:
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        kind, at = body[at : at + 1], at + 1
        if kind == b"n":
            yield None
            continue
        size = int.from_bytes(body[at : at + 4], "big")
        value, at = body[at + 4 : at + 4 + size], at + 4 + size
        yield value if kind == b"b" else value.decode()


def _column(cells: list[Cell]) -> Cells:
    """Cells beside one another, nothing before the first nor behind the last."""
    encoded = [cell.encode() if isinstance(cell, str) else cell or b"" for cell in cells]
    ends = np.cumsum([0, *map(len, encoded)])
    offset = [
        0 if cell is None else ~int(at) if isinstance(cell, str) else int(at)
        for cell, at in zip(cells, ends, strict=False)
    ]
    length = [-1 if cell is None else len(part) for cell, part in zip(cells, encoded, strict=True)]
    data = np.frombuffer(b"".join(encoded), np.uint8)
    data.flags.writeable = False
    rows = np.arange(len(cells), dtype=np.int32)
    return Cells(data, np.array(offset, np.int32), np.array(length, np.int32), rows)


def _gathered(layout: Layout, cells: list[Cell]) -> list[object]:
    """All there is to see of a column; or where and why it is malformed."""
    try:
        array, outliers = gather(layout, _column(cells))
    except MalformedCell as error:
        return [error.row, error.reason]
    batches = [pa.RecordBatch.from_arrays([array], ["v"])]
    if outliers is None:
        return [*written(batches)]
    batches.append(pa.RecordBatch.from_arrays([outliers.texts], ["text"]))
    return [outliers.rows.tolist(), *written(batches)]


def _mixtures(cells: list[Cell]) -> Iterator[list[Cell]]:
    """Columns of these cells: each form alone and both, beside, before and behind NULLs and what is not of the type."""
    binary: list[Cell] = [cell for cell in cells if isinstance(cell, bytes)]
    texts: list[Cell] = [cell for cell in cells if isinstance(cell, str)]
    alien: list[Cell] = ["?", "", "{", "{{1,2},{3,4}}", "infinity", "NaN"]
    nulls: list[Cell] = [None] * 70
    rng = random.Random(len(cells))
    yield []
    yield nulls
    for some in (binary, texts):
        yield some
        yield [*nulls, *some]
        yield [*some, *nulls, *some]
        yield [cell for one in some for cell in (one, *nulls[:63])]
        yield [*some, b""]
        yield [*some, b"\0"]
    yield alien
    yield [*texts, *alien]
    yield [*nulls, *alien, *nulls]
    yield rng.choices([*texts, *alien, None], k=300)
    yield rng.choices([*binary, None], k=300)
    yield rng.choices([*binary, *texts, None], k=300)


@pytest.mark.must_not_fail(12, 13)
@pytest.mark.parametrize("number", range(12))
def test_no_column_is_what_memory_happened_to_hold(number: int) -> None:
    """Every family in binary and as text; no rows, only NULLs, only outliers, blocks of each."""
    samples = sorted(_samples().items(), key=lambda one: (one[0][0].oid, one[0][1]))[number::12]
    assert samples
    for (pg_type, typmod), cells in samples:
        layout = layout_of(pg_type, typmod)
        for mixed in _mixtures(cells):
            first, *others = under_every_poison(lambda layout=layout, mixed=mixed: _gathered(layout, mixed))  # type: ignore[misc]
            assert [found == first for found in others] == [True] * len(others), (pg_type.name, mixed)


@pytest.mark.must_not_fail(12, 14)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("memory_bytes", [1 << 20, 0])
def test_no_event_is_what_memory_happened_to_hold(seed: int, memory_bytes: int, tmp_path: Path) -> None:
    """Whole streams, ordinary, streamed and prepared, from memory and from disk, cut anywhere; as they travel, too."""
    rng = random.Random(seed)
    for parts in (varied_stream(seed), mixture(rng)[0]):
        data = w.frames(parts)
        cuts = [*sorted(rng.choices(range(len(data)), k=5)), len(data)]

        def decode(data: np.ndarray = data, cuts: list[int] = cuts) -> list[object]:
            limits = SpoolLimits(memory_bytes=memory_bytes, directory=str(tmp_path))
            decoder = Decoder(resolve, spool=Spool(limits))
            found: list[object] = []
            at = 0
            for cut in cuts:
                consumed, events = decoder.feed(data, at, max(cut, at))
                at += consumed
                for event in events:
                    if isinstance(event, Segment):
                        found += written(batch for _, batch in event.parts)
                        found += [encode_part(schema, [batch]).data.to_pybytes() for schema, batch in event.parts]
                        found.append((event.upto, event.rows, event.ends_transaction, event.committed_at_us))
                    else:
                        found.append(event)
            decoder.close()
            return found

        first, *others = under_every_poison(decode)
        assert len(first) > 1
        assert [found == first for found in others] == [True] * len(others)


_DIGEST: Final = """
import hashlib
import numpy
from tests.fuzz.decoder import Fuzzer, whole
from tests.poison import written
for sample in Fuzzer().samples:
    print(*(hashlib.sha256(stream).hexdigest() for stream in written(whole(sample))))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to fill what it allocates")
def test_no_batch_is_what_memory_of_others_happened_to_hold() -> None:
    """Arrow's own functions take memory, too: real captures in two processes whose allocators fill it differently."""
    found = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            cwd=ROOT,
            env={**os.environ, "MALLOC_PERTURB_": filling, "ARROW_DEFAULT_MEMORY_POOL": "system"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for filling in ("17", "238")
    ]
    assert found[0].count("\n") > 100
    assert found[0] == found[1]


def test_memory_comes_poisoned_to_its_last_byte() -> None:
    with poisoned(byte(0x5A)):
        assert unwritten(3, np.int32).tolist() == [0x5A5A5A5A] * 3
        assert unwritten(0, np.int64).tolist() == []
        assert unwritten_buffer(5).to_pybytes() == b"\x5a" * 5
        assert unwritten_buffer(0).size == 0


def test_poisons_differ_and_repeat() -> None:
    def take() -> list[bytes]:
        return [unwritten(100, np.uint8).tobytes() for _ in range(2)]

    found = under_every_poison(take)
    assert found == under_every_poison(take)
    assert len({bytes(b"".join(one)) for one in found}) == len(found)
    with poisoned(noise(2)):
        assert take() not in found


def test_every_test_runs_poisoned() -> None:
    assert (unwritten(9, np.int8) < 0).all()


@pytest.mark.parametrize("folder", ["wallaby", "sinks"])
def test_unwritten_memory_is_taken_in_one_place(folder: str) -> None:
    """So that it can be poisoned; compiled code is given its memory."""
    taken = re.compile(r"\b(np|numpy)\.(empty|empty_like|ndarray)\(|\ballocate_buffer\(")
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*.py")
        if taken.search(path.read_text(encoding="utf-8"))
    }
    assert found == ({"wallaby/memory.py"} if folder == "wallaby" else set())
