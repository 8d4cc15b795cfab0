"""A process that writes a fixed history to a sink until something kills it: run with ``python -m``, killed by tests.

Arguments: sink kind, options as JSON, history seed, epoch, and where to die: ``event:N`` (SIGKILL at the N-th
file-system call or HTTP request Python makes from recovery on), ``alarm:SECONDS`` (the kernel ends the process that
long after, in whatever code it is then), or ``never``.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any, Final

from tests.sinks.lane import TestLane
from wallaby.sink import WriteMode
from wallaby.testing.contract.hooks import tables_for
from wallaby.testing.history import RandomHistory
from wallaby.window import LaneId

LANE: Final = LaneId("shop", "copy")
_WATCHED: Final = (
    "open",
    "os.rename",
    "os.link",
    "os.remove",
    "os.mkdir",
    "os.listdir",
    "shutil.rmtree",
    "http.client.send",
)


def history_of(seed: int, mode: WriteMode = WriteMode.MIRROR) -> RandomHistory:
    """The history both the child and the test know."""
    return RandomHistory(seed, tables_for(mode), transactions=25)


def main() -> None:
    kind, options, seed, epoch, death = sys.argv[1:]
    sink = importlib.import_module(f"sinks.{kind}").FACTORY.create(json.loads(options), destination="copy")
    sink.open()
    history = history_of(int(seed), WriteMode(json.loads(options).get("write_mode", "mirror")))
    arm(death)
    lane = TestLane(sink, LANE, int(epoch))
    for window in history.windows(int(seed)):
        if window.after >= lane.position:
            lane.apply(window)
    sink.close()


def arm(death: str) -> None:
    """Have the kernel end this process, later, without any warning to it."""
    how, _, when = death.partition(":")
    if how == "alarm":
        signal.setitimer(signal.ITIMER_REAL, float(when))
    elif how == "event":
        countdown = int(when)

        def watch(event: str, _arguments: tuple[Any, ...]) -> None:
            nonlocal countdown
            if event in _WATCHED:
                countdown -= 1
                if countdown == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)


if __name__ == "__main__":
    main()
