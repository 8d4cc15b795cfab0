"""All benchmarks, one after the other, and the one table of their lines (``make benchmark``)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks import (
    api,
    dead_letters,
    decode,
    files_and_duckdb,
    latency,
    memory,
    postgres_to_postgres,
    startup,
    stream,
    streams,
    toast,
    transforms,
    wire,
)
from benchmarks.lake import __main__ as lake
from benchmarks.measure import Line, main


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Each with servers and a Ray of its own."""
    for benchmark in (
        startup,
        dead_letters,
        decode,
        wire,
        toast,
        transforms,
        stream,
        postgres_to_postgres,
        files_and_duckdb,
        lake,
        streams,
        latency,
        memory,
        api,
    ):
        yield from benchmark.measure(words)


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
