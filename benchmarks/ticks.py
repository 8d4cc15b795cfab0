"""A writer at a fixed pace: ``python -m benchmarks.ticks DSN RATE COUNT [PER]`` commits rows with its clock in them.

COUNT rows, RATE of them a second, PER of them (1) in each commit.

Several connections share the pace, as a busy application's do, because one alone may wait for its commits longer than
the pace allows. Prints one JSON list: for each id from 1 on, when its commit was acknowledged (seconds since 1970).
"""

from __future__ import annotations

import json
import sys
import threading
import time

import psycopg

_WRITERS = 4
_INSERT = "INSERT INTO ticks SELECT g, %s FROM generate_series(%s::int8, %s::int8) g"


def main() -> None:
    """Write, then print the acknowledgements."""
    dsn, rate, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    per = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    acknowledged = [0.0] * (count + 1)
    connections = [psycopg.connect(dsn, autocommit=True) for _ in range(_WRITERS)]
    start = time.time() + 0.1

    def write(number: int) -> None:
        with connections[number] as connection:
            for first in range(1 + number * per, count + 1, _WRITERS * per):
                time.sleep(max(0.0, start + first / rate - time.time()))
                last = min(first + per - 1, count)
                connection.execute(_INSERT, (time.time(), first, last), prepare=True)
                acknowledged[first : last + 1] = [time.time()] * (last + 1 - first)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(acknowledged[1:], sys.stdout)


if __name__ == "__main__":
    main()
