"""A process with an engine of its own, which writes a window and commits it when it is told to.

Arguments: the options as JSON, the flow, how many of `windows` the lane has. It says ``written`` once its transaction
is open, waits for a line, and says as JSON what became of the commit, and of a second one after an error that passes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from sinks.ducklake import FACTORY
from tests.sinks.lane import TestLane
from wallaby.errors import Transient, WallabyError
from wallaby.testing.changes import Stream, insert, table
from wallaby.window import LaneId, Window


def windows(flow: str, count: int) -> list[Window]:
    """One row each, of the flow's own table."""
    orders = table(f"public.{flow}", {"id": "int8", "note": "text"}, key=["id"])
    stream = Stream()
    for number in range(count):
        stream.transaction([(orders, insert(number, f"{number}"))])
    return stream.windows()


def main() -> None:
    options, flow, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    sink = FACTORY.create(options, destination="copy")
    lane = TestLane(sink, LaneId(flow, "copy"))
    window = windows(flow, count + 1)[-1]
    lane.write(window)
    writer: Any = lane.writer
    writer._apply_gathered()
    print("written", flush=True)
    sys.stdin.readline()
    became = []
    try:
        lane.writer.commit(lane.token(window.upto, 1))
        became.append("committed")
    except Transient as error:
        lane.apply(window)
        became += [type(error).__name__, "committed"]
    except WallabyError as error:
        became.append(type(error).__name__)
    sink.close()
    print(json.dumps(became), flush=True)


if __name__ == "__main__":
    main()
