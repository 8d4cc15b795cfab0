"""Windows from the source to sink actors, through Ray's object store or inside the call, and their answers back."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import ray

from actors.failures import cause_of
from actors.options import WRITE
from wallaby.lsn import Position
from wallaby.relay.ports import Checkpointed, Completion, CopyNoted, Delivered
from wallaby.settings import Limits
from wallaby.snapshot.progress import TableCopy
from wallaby.window import LaneId, Window


@dataclass(frozen=True, slots=True)
class _Call:
    future: Future[Any]
    nbytes: int


class RayTransport:
    """The `wallaby.relay.ports.Transport` of a source actor.

    A window at or above ``inline_bytes_max`` is put into the object store once and passed by reference to every lane;
    the reference is the call's top-level argument, so Ray fetches it before the call starts and frees it afterwards.

    The wake-up pipe is never closed: answers may still come while the run ends, and the process ends with the run.
    """

    def __init__(self, sinks: Mapping[LaneId, Any], coordinator: Any, *, flow: str, epoch: int, limits: Limits) -> None:
        self._sinks = sinks
        self._coordinator = coordinator
        self._flow = flow
        self._epoch = epoch
        self._limits = limits
        self._calls: dict[LaneId, deque[_Call]] = {lane: deque() for lane in sinks}
        self._checkpoint: tuple[Position, Future[Any]] | None = None
        self._note: tuple[tuple[TableCopy, ...], Future[Any]] | None = None
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)

    def publish(self, window: Window) -> Any:
        return window if window.nbytes < self._limits.inline_bytes_max else ray.put(window)

    def send(self, lane: LaneId, parcel: Any, *, nbytes: int, commit: bool, committed_at_us: int) -> None:
        call = self._sinks[lane].write.options(concurrency_group=WRITE)
        future = call.remote(parcel, commit, committed_at_us).future()
        self._calls[lane].append(_Call(future, nbytes))
        future.add_done_callback(self._wake)

    def checkpoint(self, after: Position, upto: Position, lanes: Mapping[str, Position]) -> None:
        assert self._checkpoint is None, "one checkpoint at a time"
        future = self._coordinator.commit_checkpoint.remote(self._flow, self._epoch, after, upto, dict(lanes)).future()
        self._checkpoint = (upto, future)
        future.add_done_callback(self._wake)

    def note_copy(self, tables: tuple[TableCopy, ...]) -> None:
        assert self._note is None, "one note at a time"
        future = self._coordinator.call.remote("note_copy", self._flow, self._epoch, tables).future()
        self._note = (tables, future)
        future.add_done_callback(self._wake)

    def completions(self) -> list[Completion]:
        self._drain_wakes()
        done: list[Completion] = []
        for lane, calls in self._calls.items():
            while calls and calls[0].future.done():
                call = calls.popleft()
                error = call.future.exception()
                if error is None:
                    done.append(Delivered(lane, call.nbytes, call.future.result()))
                else:
                    done.append(Delivered(lane, call.nbytes, None, cause_of(error, actor=f"sink {lane}")))
        if self._checkpoint is not None and self._checkpoint[1].done():
            upto, future = self._checkpoint
            self._checkpoint = None
            error = future.exception()
            done.append(Checkpointed(upto, cause_of(error, actor="coordinator") if error else None))
        if self._note is not None and self._note[1].done():
            tables, future = self._note
            self._note = None
            error = future.exception()
            done.append(CopyNoted(tables, cause_of(error, actor="coordinator") if error else None))
        return done

    def fileno(self) -> int:
        return self._wake_reader

    def _wake(self, _: Future[Any]) -> None:
        try:
            os.write(self._wake_writer, b"\0")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already

    def _drain_wakes(self) -> None:
        try:
            while len(os.read(self._wake_reader, 4096)) == 4096:
                pass
        except BlockingIOError:
            return
