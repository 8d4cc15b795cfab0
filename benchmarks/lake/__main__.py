"""The lake, part by part: ``python -m benchmarks.lake [append mirror readable flow tables]`` (all without a word).

``--rows`` of appends; ``--sizes`` of the tables that mirrors are made of; ``--runs`` as everywhere. ``--only``
measures the subjects of appends and mirrors that have this word in their format or name, peers and ours alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.lake.many_tables import tables
from benchmarks.lake.readable import readable
from benchmarks.lake.side_by_side import appends, mirrors
from benchmarks.lake.whole_flow import whole_flow
from benchmarks.measure import Line, present, unwind_on_sigterm

_PARTS: Final = ("append", "mirror", "readable", "flow", "tables")
_SIZES: Final = (1_000_000, 10_000_000)
_TABLES: Final = (100, 1_000)


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """The parts a short run has: appends, and mirrors of ``--rows``."""
    yield from appends(words.rows, words.runs)
    yield from mirrors([words.rows], words.runs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(_PARTS)}; all without one")
    parser.add_argument("--json", action="store_true", help="one JSON object per measured line")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to append (default: 1000000)")
    parser.add_argument(
        "--sizes", default=",".join(map(str, _SIZES)), help="rows of the mirrors (default: %(default)s)"
    )
    parser.add_argument(
        "--tables", default=",".join(map(str, _TABLES)), help="numbers of tables (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs per subject (default: 3)")
    parser.add_argument("--only", default="", metavar="WORD", help="of appends and mirrors, subjects with this word")
    words = parser.parse_args(arguments)
    if unknown := set(words.parts) - set(_PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(_PARTS)}")
    unwind_on_sigterm()
    present(_parts(words), is_json=words.json)
    return 0


def _parts(words: argparse.Namespace) -> Iterator[Line]:
    for part in words.parts or _PARTS:
        match part:
            case "append":
                yield from appends(words.rows, words.runs, only=words.only)
            case "mirror":
                yield from mirrors(_numbers(words.sizes), words.runs, only=words.only)
            case "readable":
                yield from readable(words.runs)
            case "flow":
                yield from whole_flow(words.rows, words.runs)
            case "tables":
                yield from tables(_numbers(words.tables))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.replace("_", "").split(","))


if __name__ == "__main__":
    raise SystemExit(main())
