"""A writer at a fixed pace: ``python -m benchmarks.ticks DSN RATE COUNT`` commits single rows with its clock in them.

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


def main() -> None:
    """Write, then print the acknowledgements."""
    dsn, rate, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    acknowledged = [0.0] * (count + 1)
    connections = [psycopg.connect(dsn, autocommit=True) for _ in range(_WRITERS)]
    start = time.time() + 0.1

    def write(number: int) -> None:
        with connections[number] as connection:
            for tick in range(number + 1, count + 1, _WRITERS):
                time.sleep(max(0.0, start + tick / rate - time.time()))
                connection.execute("INSERT INTO ticks VALUES (%s, %s)", (tick, time.time()), prepare=True)
                acknowledged[tick] = time.time()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(_WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(acknowledged[1:], sys.stdout)


if __name__ == "__main__":
    main()
