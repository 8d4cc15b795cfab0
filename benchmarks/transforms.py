"""What does each transform of a destination cost one core, for each row?

Windows of 50,000 inserts of a table of five columns, made in memory; nothing else runs. ``none`` is the peer: the same
parts opened and encoded again, which every transform pays once. Of the texts that are masked all are distinct, or 200.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from benchmarks.measure import Line, Run, main, summarise, us_per_row
from wallaby.flow.transforms import TransformOptions
from wallaby.sink import WriteMode
from wallaby.testing.changes import bulk, part, table
from wallaby.transform.stage import Stage
from wallaby.transformed import Transform
from wallaby.window import TablePart
from wallaby.window_builder import encode_part

_USERS: Final = table(
    "shop.users", {"id": "int8", "email": "text", "country": "text", "n": "int4", "total": "numeric(12,2)"}, key=["id"]
)
_WINDOW_ROWS: Final = 50_000
_SECRET: Final = "sixteen characters, or more"  # of a benchmark
_SUBJECTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "rename": {"rename_table": "{schema}_{table}", "rename_columns": "email = mail"},
    "two columns dropped": {"exclude_columns": ["country", "total"]},
    "metadata": {"meta_enabled": True},
    "metadata, LSN and position": {"watermark_source": "lsn", "meta_position": "place"},
    "redact": {"mask_columns": "email = redact"},
    "hash, all distinct": {"mask_columns": "email = hash"},
    "hmac, all distinct": {"mask_columns": "email = hmac", "mask_secret": _SECRET},
    "token, all distinct": {"mask_columns": "email = token", "mask_secret": _SECRET},
    "token, 200 distinct": {"mask_columns": "country = token", "mask_secret": _SECRET},
    "where": {"where": "shop.users: n > 0"},
    "computed column": {"computed_columns": "shop.users.twice = n::BIGINT * 2"},
    "computed text": {"computed_columns": "shop.users.domain = split_part(email, '@', 2)"},
}


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Inserts through each, as a mirror takes them."""
    windows = max(4, min(words.rows // _WINDOW_ROWS, 40))
    inserts = [_inserts(number * _WINDOW_ROWS) for number in range(windows)]
    subjects: dict[str, Transform] = {name: _transform(options) for name, options in _SUBJECTS.items()}
    found: dict[str, list[Run]] = {}
    for _ in range(words.runs):
        found.setdefault("none", []).append(_reencoded(inserts))
        for name, transform in subjects.items():
            found.setdefault(name, []).append(_passed(transform, inserts))
    peer: Line | None = None
    for name, runs in found.items():
        note = f"{us_per_row(runs, lambda run: run.cpu_s):.3f} us CPU per row"
        line = summarise("transforms", name, runs, peer=peer, is_peer=peer is None, note=note)
        peer = peer or line
        yield line


def _transform(options: Mapping[str, Any]) -> Transform:
    return Transform(Stage(TransformOptions.of(options, mode=WriteMode.MIRROR), WriteMode.MIRROR))


def _passed(transform: Transform, parts: list[TablePart]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    for each in parts:
        transform.parts((each,))
    rows = sum(each.rows for each in parts)
    return Run(rows=rows, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def _reencoded(parts: list[TablePart]) -> Run:
    wall, cpu = time.perf_counter(), time.process_time()
    for each in parts:
        encode_part(each.schema, each.table().combine_chunks().to_batches())
    rows = sum(each.rows for each in parts)
    return Run(rows=rows, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def _inserts(first: int) -> TablePart:
    ids = np.arange(first, first + _WINDOW_ROWS)
    emails = pa.array([f"user{number}@example{number % 50}.org" for number in ids.tolist()])
    countries = pa.array([f"country {number % 200}" for number in ids.tolist()])
    numbers = pa.array((ids % 1000 - 500).astype(np.int32))
    return part(_USERS, bulk(_USERS, [pa.array(ids), emails, countries, numbers, numbers]))


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
