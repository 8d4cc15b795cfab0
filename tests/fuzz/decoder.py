"""Damaged streams for the decoders, as many as wanted: ``python -m tests.fuzz.decoder --inputs 10000000 --seed 1``.

Every input is a small stream (real captures, or made by our writer) with one to three mutations, derived from its seed
and number alone. It must end in a DecodeError that names an LSN, or in valid Arrow whose rows before the first changed
frame are the original's. Anything else fails: another exception, more rows than messages, a crash (each block of inputs
has a process of its own), a hang (a watchdog ends the block), or bytes that depend on what memory held: it is poisoned,
and now and then an input is decoded under two poisons.
"""

from __future__ import annotations

import argparse
import faulthandler
import functools
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.fuzz.capture import payloads
from tests.poison import NEGATIVE, byte, poisoned, written
from tests.wallaby.pgoutput.mixture import mixture
from tests.wallaby.pgoutput.streams import int4, resolve, varied_stream
from wallaby.errors import DecodeError
from wallaby.lsn import Lsn
from wallaby.memory import Poison
from wallaby.pgoutput.copy_decoder import CopyDecoder
from wallaby.pgoutput.decoder import Decoder, Segment
from wallaby.pgoutput.relations import Relation
from wallaby.pgtypes.types import builtin_type
from wallaby.schema import Column, TableName, TableSchema
from wallaby.testing import pgoutput_writer as w

_BLOCK: Final = 100_000
_NEWS: Final = 10_000
"""Inputs after which a block says how far it is."""
_HANG_CPU_S: Final = 60
"""For 1,000 inputs; they take less than half a second."""
_COLLECTED_EVERY: Final = 50_000
_INTERESTING: Final = (0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF, 0x4E, 0x4B, 0x4F, 0x62, 0x74, 0x6E, 0x75)
_LENGTHS: Final = (0, 1, 3, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

_POISONS: Final = (NEGATIVE, byte(0x11))
_POISONED_TWICE: Final = 16
"""One input in so many is decoded under both."""

_PLACE: Final = ("commit_lsn", "ordinal")
_COMPARED: Final = ("op", *_PLACE, "xid", "unchanged", "before", "after", "outliers")


@dataclass(frozen=True, slots=True)
class Sample:
    """One undamaged stream: its frames, and where each of them ends."""

    payloads: tuple[bytes, ...]
    data: bytes
    ends: npt.NDArray[np.int64]
    rows_before: tuple[int, ...]
    """Rows in the first n frames, from n = 0."""
    copied: TableSchema | None = None
    """Set for a COPY of this table."""


_Part = tuple[TableName, pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class _Original:
    """What an undamaged sample gives."""

    data: npt.NDArray[np.uint8]
    parts: list[_Part]
    owners: npt.NDArray[np.int64]
    """For each row, in the order of their frames, the number of its part."""
    rows: list[str]
    """Each of them as text."""
    has_floats: bool
    """Its rows are compared as text: for Arrow, NaN equals nothing, and 0 equals -0."""


class Fuzzer:
    """All samples, and one input after the other."""

    def __init__(self) -> None:
        self.samples = [*_real(), *_made(), *_unfinished(), _copy()]
        self._originals = [_original(sample) for sample in self.samples]

    def run(self, seed: int, number: int) -> str:
        """``rows`` or ``error``; AssertionError (or whatever the decoder raised) when the input broke it."""
        rng = random.Random(seed << 40 | number)
        which = rng.randrange(len(self.samples))
        sample = self.samples[which]
        data = np.frombuffer(self._damaged(sample, rng), np.uint8)
        cut = rng.randint(0, len(data)) if rng.random() < 0.3 else len(data)
        unharmed = _first_change(self._originals[which].data, data)
        poison, other = _POISONS[:: 1 if number % 2 else -1]
        found, error = _decoded(sample, data, cut, poison)
        if error is not None:
            assert "lsn" in error.where, "an error names no LSN"
            # What the first of two feeds gave stays true.
            unharmed = min(unharmed, cut) if found else 0
        self._check(which, found, data, unharmed)
        if number % _POISONED_TWICE == 0:
            again, repeated = _decoded(sample, data, cut, other)
            assert str(repeated) == str(error), "the error depends on what memory held"
            assert written(_batches(again)) == written(_batches(found)), "rows depend on what memory held"
        return "rows" if error is None else "error"

    def _check(self, which: int, found: list[_Part], data: npt.NDArray[np.uint8], unharmed: int) -> None:
        """Valid Arrow, no more rows than bytes allow, and every row whose frame ends at or before ``unharmed``."""
        batches = _batches(found)
        for batch in batches:
            batch.validate(full=True)
        assert sum(batch.num_rows for batch in batches) * 8 <= len(data), "more rows than the input has room for"
        sample = self.samples[which]
        same = sample.rows_before[int(np.searchsorted(sample.ends, unharmed, side="right"))]
        original = self._originals[which]
        if same and (original.has_floats or not _are_first(original, same, found)):
            missing = Counter(original.rows[:same]) - Counter(_rows(batches))
            assert not missing, f"{missing.total()} rows before the damage are missing or changed"

    def _damaged(self, sample: Sample, rng: random.Random) -> bytes:
        if rng.random() < 0.6:
            parts = list(sample.payloads)
            for _ in range(rng.choice([1, 1, 2, 3])):
                self._damage_frames(parts, rng)
            data = bytearray(b"".join(map(w.frame, parts)))
            if rng.random() < 0.7:
                return bytes(data)
        else:
            data = bytearray(sample.data)
        for _ in range(rng.choice([1, 1, 2, 3])):
            self._damage_bytes(data, rng)
        return bytes(data)

    def _damage_frames(self, parts: list[bytes], rng: random.Random) -> None:
        """Changes that keep the framing: what is inside must be judged by the decoder itself."""
        if not parts:
            return
        i = rng.randrange(len(parts))
        match rng.randrange(8):
            case 0:
                del parts[i]
            case 1:
                parts.insert(i, parts[rng.randrange(len(parts))])
            case 2:
                parts[i] = parts[i][: rng.randint(0, len(parts[i]))]
            case 3:
                other = rng.choice(self.samples).payloads
                parts.insert(i, rng.choice(other))
            case 4:
                other = rng.choice(self.samples).payloads
                donor = rng.choice(other)
                parts[i] = parts[i][: rng.randint(0, len(parts[i]))] + donor[rng.randint(0, len(donor)) :]
            case _:
                changed = bytearray(parts[i])
                self._damage_bytes(changed, rng, past=25)
                parts[i] = bytes(changed)

    def _damage_bytes(self, data: bytearray, rng: random.Random, past: int = 0) -> None:
        if len(data) <= past:
            return
        at = rng.randrange(past, len(data))
        match rng.randrange(7):
            case 0 | 1:
                data[at] ^= 1 << rng.randrange(8)
            case 2:
                data[at] = rng.choice(_INTERESTING)
            case 3:
                width = rng.choice([2, 4])
                value = rng.choice([*_LENGTHS, len(data), len(data) - at, rng.randrange(64)])
                data[at : at + width] = (value & (256**width - 1)).to_bytes(width, "big")
            case 4:
                del data[at : at + rng.choice([1, 2, 4, 9])]
            case 5:
                data[at:at] = rng.randbytes(rng.choice([1, 4, 8]))
            case _:
                width = rng.choice([2, 4])
                value = int.from_bytes(data[at : at + width], "big") + rng.choice([-4, -1, 1, 4])
                data[at : at + width] = (value & (256**width - 1)).to_bytes(width, "big")


def _decoded(
    sample: Sample, data: npt.NDArray[np.uint8], cut: int, poison: Poison
) -> tuple[list[_Part], DecodeError | None]:
    """The batches of one input in poisoned memory, and the error that ended it."""
    found: list[_Part] = []
    try:
        with poisoned(poison):
            _decode(sample, data, cut, found)
    except DecodeError as error:
        return found, error
    return found, None


def _decode(sample: Sample, data: npt.NDArray[np.uint8], cut: int, found: list[_Part]) -> None:
    """Feed up to ``cut``, then the rest; the batches go to ``found``."""
    decoder = (
        Decoder(_resolved)
        if sample.copied is None
        else CopyDecoder(sample.copied, snapshot_lsn=Lsn(0x10), taken_at_us=1)
    )
    at = 0
    for stop in (cut, len(data)) if cut < len(data) else (cut,):
        consumed, events = decoder.feed(data, at, max(stop, at))
        assert 0 <= consumed <= len(data) - at, "more consumed than fed"
        at += consumed
        if isinstance(events, list):
            for event in events:
                if isinstance(event, Segment):
                    found += [(schema.name, batch) for schema, batch in event.parts]
        elif events is not None:
            assert sample.copied is not None
            found.append((sample.copied.name, events))


@functools.lru_cache(maxsize=4096)
def _resolved(relation: Relation) -> TableSchema:
    """The catalog's answer, worked out once per Relation: it is not what is tested."""
    return resolve(relation)


def whole(sample: Sample) -> list[pa.RecordBatch]:
    """The batches of an undamaged sample."""
    return _batches(_original(sample).parts)


def _original(sample: Sample) -> _Original:
    data = np.frombuffer(sample.data, np.uint8)
    parts: list[_Part] = []
    _decode(sample, data, len(data), parts)
    places = [
        (place, number, row)
        for number, batch in enumerate(_batches(parts))
        for row, place in enumerate(zip(*(batch.column(name).to_pylist() for name in _PLACE), strict=True))
    ]
    places.sort()
    rows = iter(_rows(_batches(parts)))
    texts = [[next(rows) for _ in range(batch.num_rows)] for batch in _batches(parts)]
    owners = np.array([number for _, number, _ in places], np.int64)
    for number, batch in enumerate(_batches(parts)):
        assert [row for _, owner, row in places if owner == number] == list(range(batch.num_rows)), "rows out of order"
    has_floats = any(_has_floats(field.type) for batch in _batches(parts) for field in batch.schema)
    return _Original(data, parts, owners, [texts[number][row] for _, number, row in places], has_floats)


def _has_floats(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or any(_has_floats(kind.field(i).type) for i in range(kind.num_fields))


def _batches(parts: list[_Part]) -> list[pa.RecordBatch]:
    return [batch for _, batch in parts]


def _are_first(original: _Original, same: int, found: list[_Part]) -> bool:
    """True when the original's first ``same`` rows are the first rows of their tables in ``found``, too.

    It compares slices of batches, which costs a small part of what rows as text do.
    """
    left: dict[TableName, list[pa.RecordBatch]] = {}
    for table, batch in reversed(found):
        left.setdefault(table, []).append(batch)
    counts = np.bincount(original.owners[:same], minlength=len(original.parts)).tolist()
    for (table, batch), count in zip(original.parts, counts, strict=True):
        at, pieces = 0, left.get(table, [])
        while at < count:
            if not pieces:
                return False
            piece = pieces.pop()
            size = min(count - at, piece.num_rows)
            if not piece.slice(0, size).equals(batch.slice(at, size)):
                return False
            at += size
            if size < piece.num_rows:
                pieces.append(piece.slice(size))
    return True


def _first_change(original: npt.NDArray[np.uint8], data: npt.NDArray[np.uint8]) -> int:
    """How many bytes at the beginning are the original's."""
    size = min(len(data), len(original))
    differs = data[:size] != original[:size]
    return int(differs.argmax()) if differs.any() else size


def _rows(batches: list[pa.RecordBatch]) -> list[str]:
    """Each row as text."""
    found: list[str] = []
    for batch in batches:
        columns = [batch.column(name) for name in _COMPARED]
        found += ["|".join(str(column.slice(i, 1)) for column in columns) for i in range(batch.num_rows)]
    return found


def _sample(parts: list[bytes], copied: TableSchema | None = None) -> Sample:
    sizes = [len(part) + 4 for part in parts]
    rows = [
        part[25:26] in (b"I", b"U", b"D") if copied is None else i > 0 and part != w.COPY_TRAILER
        for i, part in enumerate(parts)
    ]
    return Sample(
        tuple(parts),
        b"".join(map(w.frame, parts)),
        np.cumsum(sizes),
        tuple(int(count) for count in np.concatenate([[0], np.cumsum(rows)])),
        copied,
    )


def _real() -> Iterator[Sample]:
    """One sample per captured transaction."""
    for name in ("binary", "text"):
        parts: list[bytes] = []
        for payload in payloads(name):
            parts.append(payload)
            if payload[25:26] == b"C":
                yield _sample(parts)
                parts = []


def _unfinished() -> Iterator[Sample]:
    """Streamed and prepared transactions: rows come with the frames that end them."""
    for seed in range(30):
        parts, _ = mixture(random.Random(seed))
        decoder, rows, counts = Decoder(_resolved), 0, [0]
        for part in parts:
            data = np.frombuffer(w.frame(part), np.uint8)
            _, events = decoder.feed(data, 0, len(data))
            rows += sum(event.rows for event in events if isinstance(event, Segment))
            counts.append(rows)
        yield replace(_sample(parts), rows_before=tuple(counts))


def _made() -> Iterator[Sample]:
    for seed in range(40):
        yield _sample(varied_stream(seed, transactions=2))


def _copy() -> Sample:
    types = [builtin_type(oid) for oid in (23, 25, 1700, 1009)]
    columns = tuple(Column(f"c{i}", found, is_key=i == 0) for i, found in enumerate(types) if found is not None)
    tags = bytes.fromhex("00000001 00000000 00000019 00000002 00000001 00000001 61 ffffffff")
    rows = [
        w.copy_row([int4(n), b"text", bytes.fromhex("0002 0000 0000 0002 0001 1388"), tags if n % 2 else None])
        for n in range(6)
    ]
    return _sample([w.copy_header(), *rows, w.COPY_TRAILER], TableSchema(1, TableName("public", "t"), columns))


def main() -> int:
    """Exit status 1 at the first input that broke the decoder; its command is printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="blocks at a time; default: all cores")
    parser.add_argument("--in-process", action="store_true", help="without a process per block")
    words = parser.parse_args()
    if words.in_process:
        return _block(words.seed, words.first, words.inputs)
    return _blocks(words.seed, words.first, words.inputs, words.jobs)


def _blocks(seed: int, first: int, inputs: int, jobs: int) -> int:
    """Blocks in processes of their own, ``jobs`` at a time; ends with the first that fails."""
    begun, done = time.monotonic(), 0
    waiting = [(at, min(_BLOCK, first + inputs - at)) for at in range(first, first + inputs, _BLOCK)][::-1]
    running: list[tuple[subprocess.Popen[bytes], list[str], int]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            at, count = waiting.pop()
            command = ["-m", "tests.fuzz.decoder", "--in-process"]
            command += ["--seed", str(seed), "--first", str(at), "--inputs", str(count)]
            running.append((subprocess.Popen([sys.executable, "-X", "faulthandler", *command]), command, count))
        process, command, count = running.pop(0)
        if status := process.wait():
            print(f"FAILED (status {status}): python {' '.join(command)}", flush=True)
            for other, _, _ in running:
                other.kill()
                other.wait()
            return 1
        done += count
        print(f"{done} inputs, {done / (time.monotonic() - begun):.0f} per second", flush=True)
    return 0


def _block(seed: int, first: int, count: int) -> int:
    # Too much CPU time: the stack is printed, then the signal does what it does by default and ends the process.
    faulthandler.register(signal.SIGVTALRM, chain=True)
    fuzzer = Fuzzer()
    # Collections took a quarter of the time: of nearly nothing, and of all that was imported.
    gc.freeze()
    gc.set_threshold(_COLLECTED_EVERY)
    outcomes: Counter[str] = Counter()
    for number in range(first, first + count):
        if number % 1000 == 0:
            signal.setitimer(signal.ITIMER_VIRTUAL, _HANG_CPU_S)
        if (number - first) % _NEWS == 0 and number > first:
            print(f"  up to input {number} of seed {seed}: {dict(sorted(outcomes.items()))}", flush=True)
        try:
            outcomes[fuzzer.run(seed, number)] += 1
        except BaseException:
            print(f"input {number} of seed {seed} broke the decoder:", flush=True)
            raise
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(dict(sorted(outcomes.items())), f"CPU seconds: {time.process_time():.0f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
