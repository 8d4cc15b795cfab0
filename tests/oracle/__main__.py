"""``python -m tests.oracle --seeds 0:300 --majors 14 15 16 17 18``: many seeds, one line per failing one."""

from __future__ import annotations

import argparse
import time
import traceback
from typing import Final

from tests.oracle.run import Oracle
from wallaby.testing.postgres import VERSIONS, scratch_database, server_for_tests

_SETTINGS: Final = {"autovacuum": "off"}
"""A seed does the same every time: it changes rows by their place, which vacuum would move."""


def main() -> int:
    """Exit status 1 when a seed failed; its command is printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:50", help="FIRST:LAST, without the last (default 0:50), or one seed")
    parser.add_argument("--majors", type=int, nargs="+", default=[max(VERSIONS)], choices=sorted(VERSIONS))
    words = parser.parse_args()
    first, _, last = words.seeds.partition(":")
    seeds = range(int(first), int(last) if last else int(first) + 1)
    failed = sum(_run(major, seeds) for major in words.majors)
    return 1 if failed else 0


def _run(major: int, seeds: range) -> int:
    failed = tables = changes = cells = 0
    begun = time.monotonic()
    with server_for_tests(major, _SETTINGS) as server, scratch_database(server) as database:
        oracle = Oracle(database, major)
        try:
            for seed in seeds:
                try:
                    tally = oracle.check(seed)
                except Exception:  # noqa: BLE001 every failure is reported with its command, then the next seed runs
                    failed += 1
                    traceback.print_exc(limit=-3)
                    print(f"FAILED: python -m tests.oracle --seeds {seed} --majors {major}", flush=True)
                    continue
                tables, changes, cells = tables + tally.tables, changes + tally.changes, cells + tally.cells
        finally:
            oracle.close()
    print(
        f"PostgreSQL {major}: {len(seeds)} seeds, {failed} failed; {tables} tables, {changes} messages, {cells} cells "
        f"compared in {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
