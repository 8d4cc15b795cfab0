"""What does remembering and filling unsent values (``toast_fetch: cache``) cost one core, for each row?

Windows of 8 MB made in memory, nothing else runs. ``insert``: new rows are remembered, the oldest forgotten.
``update``: rows of which a value was not sent are filled from the cache and remembered anew. ``off`` is the peer: the
same windows only encoded, which every mode pays; its updates are without the long value.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from benchmarks.measure import Line, Run, main, summarise, us_per_row
from wallaby.relay.fill import CacheFill, NoFill
from wallaby.relay.ports import Filler
from wallaby.settings import Limits
from wallaby.testing.changes import bulk, table
from wallaby.window import OP_UPDATE
from wallaby.window_builder import UnsealedPart, encode_part

_DOCS: Final = table("public.docs", {"id": "int8", "title": "text", "body": "text", "n": "int8"}, key=["id"])
_WINDOW_BYTES: Final = 8 << 20
_CACHE_BYTES: Final = 64 << 20
_SIZES: Final = (100, 1_000, 10_000)


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Per size of the long value, inserts and then updates of rows the cache still has."""
    for size in _SIZES:
        rows = _WINDOW_BYTES // (size + 64)
        windows = max(4, min(words.rows // rows, 20))
        inserts = [_inserts(rows * i, rows, size) for i in range(windows)]
        random = np.random.default_rng(size)
        kept = rows * windows - min(rows * windows, _CACHE_BYTES // 2 // (size + 64))
        updates = [_updates(random.integers(kept, rows * windows, rows)) for _ in range(windows)]
        found: dict[tuple[str, str], list[Run]] = {}
        for _ in range(words.runs):
            for subject in ("off", "cache"):
                filler: Filler = NoFill() if subject == "off" else CacheFill(Limits(), cache_bytes=_CACHE_BYTES)
                for name, parts in (("insert", inserts), ("update", updates)):
                    found.setdefault((name, subject), []).append(_passed(filler, parts))
        for name in ("insert", "update"):
            peer: Line | None = None
            for subject in ("off", "cache"):
                runs = found[name, subject]
                note = f"{us_per_row(runs, lambda run: run.cpu_s):.2f} us CPU per row"
                line = summarise(
                    f"{name} {size} B", subject, runs, peer=peer, is_peer=peer is None, note=note, extra={"bytes": size}
                )
                peer = peer or line
                yield line


def _passed(filler: Filler, parts: Sequence[UnsealedPart]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    for part in parts:
        for filled in filler.fill([part]):
            encode_part(filled.schema, filled.batches)
    rows = sum(batch.num_rows for part in parts for batch in part.batches)
    return Run(rows=rows, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def _inserts(first: int, rows: int, size: int) -> UnsealedPart:
    ids = np.arange(first, first + rows)
    bodies = pa.array([f"{number:09d}".ljust(size, "x") for number in ids.tolist()])
    return _part(bulk(_DOCS, [pa.array(ids), pa.array(["title"] * rows), bodies, pa.array(ids)]))


def _updates(ids: np.ndarray) -> UnsealedPart:
    rows = len(ids)
    columns = [pa.array(ids), pa.array(["other"] * rows), pa.nulls(rows, pa.string()), pa.array(ids)]
    return _part(bulk(_DOCS, columns, op=OP_UPDATE, unchanged=[2]))


def _part(changes: pa.Table) -> UnsealedPart:
    return UnsealedPart(_DOCS, changes.combine_chunks().to_batches())


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
